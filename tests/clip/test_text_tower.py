"""Compares the packed text tower with open_clip's own forward pass, padded to 77 tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

import tpt
from tests.conftest import NAMES
from tpt.clip.text_tower import MOST_PADDED, PackedPrompts, PaddedTails, TextTower
from tpt.clip.tower import slot
from tpt.clip.weights.files import from_openai_file
from tpt.clip.weights.pretrained import wrap
from tpt.methods.tuner import graph_tokens

SENTENCES = [
    "a",
    "a photo of a cat.",
    "kite (bird of prey)",
    "a " * 70,
    "the jack-o'-lantern, lit; 2012 Ford F-150",
    "",
]


@pytest.mark.parametrize("pads", [False, True], ids=["by_length", "at_once"])
def test_features_of_sentences_equal_open_clips(
    noise_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, pads: bool
) -> None:
    monkeypatch.setattr(TextTower, "pads", pads)
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


@pytest.mark.parametrize("batched", [False, True])
def test_attention_at_once_has_the_gradients_of_attention_by_length(
    clip: tpt.CLIP, monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    names = [*NAMES, "a name of a good many more words", "x", "long " * 50]
    learner = tpt.TPT(clip, names).learner
    assert len(learner.prompts.padded) > 1
    pull = torch.randn(3, len(learner.prompts.unsort), clip.embed_dim)
    found = []
    for pads in (False, True):
        monkeypatch.setattr(TextTower, "pads", pads)
        leaf = learner.slots.clone().requires_grad_()
        text = learner(leaf)
        if batched:
            found.append(torch.autograd.grad(text, leaf, pull, is_grads_batched=True)[0])
        else:
            found.append(torch.stack([torch.autograd.grad(text, leaf, p, retain_graph=True)[0] for p in pull]))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [[3] * 9, [2, 3, 3, 4, 9], [2] * 30 + [60], [1, 4, 16, 64], [1]])
def test_padding_is_limited(lengths: list[int]) -> None:
    groups = list(PaddedTails.split(lengths, 5))
    assert [int(end) for group in groups for end in group.ends] == (torch.tensor(lengths).cumsum(0) - 1).tolist()
    assert all(group.rows.numel() <= MOST_PADDED * len(group.unpadded) for group in groups)
    assert len(groups) == 1 or max(lengths) * len(lengths) > MOST_PADDED * sum(lengths)


def test_padding_takes_memory_from_the_graph(clip: tpt.CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = graph_tokens(clip.text, clip.device)
    monkeypatch.setattr(TextTower, "pads", True)
    assert 0 < graph_tokens(clip.text, clip.device) < packed
