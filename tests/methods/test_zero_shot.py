"""Zero-shot: one prompt and ensembles."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

import tpt
from tests.conftest import NAMES
from tpt.clip.texts import load_templates
from tpt.errors import UserError

WORDS = [name.replace("_", " ") for name in NAMES]


def test_one_prompt_equals_the_encoded_sentence(clip: tpt.CLIP, features: torch.Tensor) -> None:
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


SENTENCES = {name.upper(): [f"a {name} has parts", f"one sees a {name}.", "it is there"][: 1 + k % 3]
             for k, name in enumerate(WORDS)}  # fmt: skip


@pytest.mark.parametrize("templates", [None, ["a photo of a {}.", "the {}, drawn by hand."]])
@pytest.mark.parametrize("kind", ["mapping", "json", "csv"])
def test_descriptions_are_averaged_like_templates(
    clip: tpt.CLIP, features: torch.Tensor, tmp_path: Path, kind: str, templates: list[str] | None
) -> None:
    """Each text of a class counts the same, whether it is a sentence or a template."""
    source: Any = SENTENCES
    if kind == "json":
        source = str(tmp_path / "cupl.json")
        Path(source).write_text(json.dumps(SENTENCES))
    elif kind == "csv":
        source = str(tmp_path / "cupl.csv")
        rows = [f'"{name}","{text}"' for name, texts in SENTENCES.items() for text in texts]
        Path(source).write_text("\n".join(["class,sentence", *rows]))
    out = tpt.ZeroShot(clip, NAMES, templates=templates, descriptions=source)
    texts = [[t.format(w) for t in templates or ()] + SENTENCES[w.upper()] for w in WORDS]
    bank = F.normalize(torch.stack([clip.encode_text(own).mean(0) for own in texts]), dim=-1)
    torch.testing.assert_close(out.bank(), bank, atol=1e-5, rtol=0)
    assert out.notes == () and out(features).logits.shape == (3, len(NAMES))
    shifted = tpt.TPS(clip, NAMES, templates=templates, descriptions=source, steps=0)(features)
    torch.testing.assert_close(shifted.logits, out(features).logits, atol=1e-3, rtol=0)


def test_missing_surplus_and_empty_classes_are_named(clip: tpt.CLIP) -> None:
    with pytest.raises(UserError, match=r"`descriptions` lacks .* 1 of the 2 classes, such as 'dog'\. Add"):
        tpt.ZeroShot(clip, ["cat", "dog"], descriptions={"cat": ["a cat"]})
    with pytest.raises(UserError, match="2 of the 2 classes, such as 'cat'"):
        tpt.ZeroShot(clip, ["cat", "dog"], descriptions={"cat": [" "], "dog": []})
    method = tpt.ZeroShot(clip, ["cat"], descriptions={"cat": ["a cat"], "emu": ["a bird"], "yak": ["a cow"]})
    assert method.notes == ("descriptions of 2 classes that are not tested, such as 'emu'",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[1]"),
        ("a.json", '{"cat": 3}'),
        ("a.json", '{"cat": ["a cat", 3]}'),
        ("a.json", "{"),
        ("a.csv", "name,text\ncat,a cat"),
        ("a.csv", ""),
    ],
)
def test_files_without_descriptions_are_refused(clip: tpt.CLIP, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name):
        tpt.ZeroShot(clip, ["cat"], descriptions=str(tmp_path / name))
    with pytest.raises(UserError, match="Cannot read `descriptions` nowhere.json"):
        tpt.ZeroShot(clip, ["cat"], descriptions="nowhere.json")


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
        ([], "no template"),
    ],
)
def test_bad_templates(source: str | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_templates(source)
