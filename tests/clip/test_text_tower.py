"""Compares the packed text tower with open_clip's own forward pass, padded to 77 tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch

from tpt.clip.text_tower import PackedPrompts
from tpt.clip.tower import slot
from tpt.clip.weights.files import from_openai_file
from tpt.clip.weights.pretrained import wrap

SENTENCES = [
    "a",
    "a photo of a cat.",
    "kite (bird of prey)",
    "a " * 70,
    "the jack-o'-lantern, lit; 2012 Ford F-150",
    "",
]


def test_features_of_sentences_equal_open_clips(noise_file: Callable[..., Path]) -> None:
    model: Any = from_openai_file(noise_file("vit", 2), True).eval()
    clip = wrap(model, "noise")
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(SENTENCES), normalize=True)
    torch.testing.assert_close(clip.encode_text(SENTENCES), expected, atol=1e-5, rtol=0)


def test_no_padding_is_computed() -> None:
    prompts = PackedPrompts([[7, slot(0), 3, 4, 9], [7, slot(0), 5, 9], [7, slot(0), 6, 9]], shared=2)
    assert prompts.num_tokens == 2 + 2 + 3
    assert prompts.buckets == [(2, 2), (3, 1)]
    assert prompts.ends.tolist() == [1, 3, 6]
    assert prompts.unsort.tolist() == [2, 0, 1]
