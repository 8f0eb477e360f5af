"""Zero-shot: one prompt and ensembles."""

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

import tpt
from tests.conftest import NAMES
from tpt.clip.templates import load_templates

WORDS = [name.replace("_", " ") for name in NAMES]


def test_one_prompt_is_the_sentence(clip: tpt.CLIP, features: torch.Tensor) -> None:
    out = tpt.ZeroShot(clip, NAMES, ctx_init="a_photo_of_a")(features)
    sentences = clip.encode_text([f"a photo of a {w}." for w in WORDS])
    torch.testing.assert_close(out.logits, clip.logit_scale * features[:, 0] @ sentences.T, atol=1e-4, rtol=0)
    assert out.selected.tolist() == [[0]] * 3
    torch.testing.assert_close(out.logits, out.initial_logits)


def test_ensemble_averages_unit_features(clip: tpt.CLIP, features: torch.Tensor) -> None:
    templates = ["a photo of a {}.", "the {}, drawn by hand."]
    out = tpt.ZeroShot(clip, NAMES, templates=templates)(features)
    banks = [clip.encode_text([t.format(w) for w in WORDS]) for t in templates]
    bank = F.normalize((banks[0] + banks[1]) / 2, dim=-1)
    torch.testing.assert_close(out.logits, clip.logit_scale * features[:, 0] @ bank.T, atol=1e-4, rtol=0)


def test_named_sets_and_files(tmp_path: Path) -> None:
    assert len(load_templates("imagenet_80")) == 80
    assert len(load_templates("imagenet_7")) == 7
    assert load_templates("imagenet_80")[0].format("cat") == open_clip.OPENAI_IMAGENET_TEMPLATES[0]("cat")
    file = tmp_path / "own.txt"
    file.write_text("a {}.\n\nthe {}.\n")
    assert load_templates(str(file)) == ["a {}.", "the {}."]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagenet_81", "Expected `templates` to be one of imagenet_80, imagenet_7"),
        (["a photo"], "Expected one `{}` for the class name in every template, got 'a photo'"),
        ([], "Expected at least one template"),
    ],
)
def test_bad_templates(source: str | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_templates(source)
