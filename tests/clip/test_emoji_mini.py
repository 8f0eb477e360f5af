"""Tuning works on the bundled model: one step changes its logits and lowers its entropy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tpt
from tpt.data import emoji_shift
from tpt.errors import UserError


def test_one_step_with_the_papers_settings_changes_logits() -> None:
    """Uses held-out drawings of the training vendors.

    Before the text tower was trained for tuning, logits changed by 0.03 and predictions became 3 % sharper.
    """
    clip = tpt.load_clip("emoji-mini")
    dataset = emoji_shift("source_val").subset(5)
    views = tpt.Views(clip.image_size, num_views=64)
    features = torch.stack(
        [clip.encode_views(views(dataset.image(i), f"source_val/{s.path}")) for i, s in enumerate(dataset.samples)]
    )
    out = tpt.TPT(clip, dataset.class_names)(features)
    moved = (out.logits - out.initial_logits).std(-1, correction=0).mean()
    assert 0.5 < float(moved) < 2  # enough to change answers; far more would be noise
    assert float(out.entropy.mean()) < 0.8 * float(out.initial_entropy.mean())


def test_plain_prompts_reach_the_model_cards_accuracy() -> None:
    """Compares with the model card's accuracy on one vendor's drawings."""
    clip = tpt.load_clip("emoji-mini")
    dataset = emoji_shift("fxemoji")
    view = tpt.Views(clip.image_size, num_views=1)
    pictures = torch.cat([view(dataset.image(i), s.path) for i, s in enumerate(dataset.samples)])
    features = torch.cat([clip.encode_image(part) for part in pictures.split(128)])
    answers = (features @ clip.encode_text([f"a photo of a {name}." for name in dataset.class_names]).T).argmax(-1)
    accuracy = 100 * float((answers == torch.tensor(dataset.labels())).float().mean())
    assert abs(accuracy - 55.65) < 0.6  # a tolerance of two drawings


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    bundled = Path(tpt.clip.__file__).parent / "emoji_mini" / "emoji-mini.safetensors"
    content = bytearray(bundled.read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is damaged: its content does not match its digest; get it again"):
        tpt.load_clip(pretrained=tmp_path / "damaged.safetensors")
