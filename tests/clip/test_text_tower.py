"""Compares the packed text tower with open_clip's own forward pass, padded to 77 tokens."""

from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpt
from tests.conftest import NAMES
from tpt.clip.text_tower import PackedPrompts
from tpt.clip.tower import slot
from tpt.clip.weights.files import from_openai_file
from tpt.clip.weights.pretrained import wrap


@pytest.fixture
def model(noise_file: Callable[..., Path]) -> nn.Module:
    return from_openai_file(noise_file("vit", 2), True).eval()


SENTENCES = [
    "a",
    "a photo of a cat.",
    "kite (bird of prey)",
    "a " * 70,
    "the jack-o'-lantern, lit; 2012 Ford F-150",
    "",
]


def test_features_of_sentences_equal_open_clips(model: nn.Module) -> None:
    clip = wrap(model, "noise")
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(SENTENCES), normalize=True)
    torch.testing.assert_close(clip.encode_text(SENTENCES), expected, atol=1e-5, rtol=0)


def test_gradients_equal_open_clips(model: nn.Module) -> None:
    """Compares gradients of a random linear function of the features with respect to the context vectors."""
    clip = wrap(model, "noise")
    learner = tpt.PromptLearner(clip, NAMES, tpt.context_from_words(clip, "a photo of [CLS] in the wild"))
    pull = torch.randn(len(NAMES), 32, generator=torch.Generator().manual_seed(0))
    fast = learner.slots.clone().requires_grad_()
    (learner(fast) * pull).sum().backward()

    slow = learner.slots.clone().requires_grad_()
    sequences = [learner._sequence(k) for k in range(len(NAMES))]
    tokens = torch.zeros(len(NAMES), 77, dtype=torch.long)
    for k, s in enumerate(sequences):
        tokens[k, : len(s)] = torch.tensor([max(t, 0) for t in s])
    rows = []
    for k, s in enumerate(sequences):
        row = model.token_embedding(tokens[k]).clone()
        for i, t in enumerate(s):
            if t < 0:
                row[i] = slow[-1 - t]
        rows.append(row)
    x = model.transformer(torch.stack(rows) + model.positional_embedding, attn_mask=model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(NAMES)), tokens.argmax(-1)] @ model.text_projection
    (F.normalize(x, dim=-1) * pull).sum().backward()
    assert fast.grad is not None and slow.grad is not None
    torch.testing.assert_close(fast.grad, slow.grad, atol=1e-4, rtol=1e-4)


def test_several_contexts_in_one_batch(clip: tpt.CLIP) -> None:
    learner = tpt.PromptLearner(clip, NAMES, tpt.context_from_words(clip, "a photo of a", "middle"))
    slots = learner.slots + torch.randn(5, 4, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    together = learner(slots)
    assert together.shape == (5, len(NAMES), 32)
    for one, expected in zip(slots, together, strict=True):
        torch.testing.assert_close(learner(one), expected, atol=1e-5, rtol=0)


def test_no_padding_is_computed() -> None:
    prompts = PackedPrompts([[7, slot(0), 3, 4, 9], [7, slot(0), 5, 9], [7, slot(0), 6, 9]], shared=2)
    assert prompts.num_tokens == 2 + 2 + 3
    assert [(b.count, b.length) for b in prompts.buckets] == [(2, 2), (1, 3)]
    assert prompts.ends().tolist() == [1, 3, 6]
    assert prompts.unsort.tolist() == [2, 0, 1]


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50-quickgelu", "EVA02-B-16", "ViT-S-32-alt", "ViT-M-16-alt"])
def test_open_clip_architectures(name: str) -> None:
    """Plain and custom text towers of open_clip, cut to two layers for speed."""
    config = open_clip.get_model_config(name)
    config["text_cfg"]["layers"] = 2
    config["vision_cfg"] = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}
    custom = config.pop("custom_text", False)
    made = (open_clip.model.CustomTextCLIP if custom else open_clip.model.CLIP)(**config).eval()
    clip = wrap(made, name)
    texts = ["a photo of a cat.", "two words", "kite (bird of prey)"]
    tokens = open_clip.get_tokenizer(name)(texts)
    with torch.no_grad():
        expected = made.encode_text(tokens, normalize=True)
    torch.testing.assert_close(clip.encode_text(texts), expected, atol=1e-5, rtol=0)
