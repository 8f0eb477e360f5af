"""Mistakes in calls from Python: each is refused in one sentence, and what can be read with certainty is read."""

import copy
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import tpt
from tests.conftest import noise_image
from tpt.errors import UserError

CLASSES = ["cat", "dog", "fish"]
SIDE = WIDTH = 32  # image size and feature length of the small CLIP


def features(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)


def method(clip: tpt.CLIP, **settings: Any) -> tpt.TPT:
    return tpt.TPT(clip, CLASSES, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda clip: tpt.TPT("emoji-mini", CLASSES), "`clip` to be a CLIP, got 'emoji-mini'; load one"),
        (lambda clip: tpt.ZeroShot(torch.nn.Linear(1, 1), CLASSES), "`clip` to be a CLIP, got Linear"),
        (lambda clip: tpt.context_from_words(None, "a photo"), "`clip` to be a CLIP, got NoneType"),
        (lambda clip: method(clip, context="model.pth"), "`context` .*, got 'model.pth'; load it with"),
        (lambda clip: method(clip, optimizer="adamw"), "`optimizer` to be a Callable, got 'adamw'"),
        (lambda clip: tpt.RLCF(clip, CLASSES, reward="ViT-L-14"), "`reward` to be a CLIP, got 'ViT-L-14'"),
        (lambda clip: tpt.save_context("x.safetensors", torch.zeros(4, WIDTH)), "`context` to be .* got Tensor"),
        (lambda clip: tpt.AugMix(width=0), "`width` .* got 0"),
        (lambda clip: method(clip, n_ctx=8), r"n_ctx=8 vectors, got 4 \(words: a photo of a\)"),
        (lambda clip: method(clip, n_ctx=3, context=tpt.random_context(clip, 2)), r"n_ctx=3 vectors, got 2 \(random"),
        (lambda clip: method(clip, selection_p=0), "`selection_p` .* got 0"),
        (lambda clip: method(clip)(features(16)[0]), r"\(V, 32\) or \(B, V, 32\), got \(32,\)"),
        (lambda clip: method(clip)(features(0, 16)), r"got \(0, 16, 32\)"),
        (lambda clip: method(clip)(7 * features(16)), "length 1, got lengths from 7 to 7"),
        (lambda clip: method(clip)(F.pad(features(16)[1:], (0, 0, 0, 1))), "length 1, got lengths from 0 to 1"),
        (lambda clip: clip.encode_views(torch.zeros(3, SIDE, SIDE)), r"views .* got \(3, 32, 32\)"),
        (lambda clip: clip.encode_views(torch.zeros(2, 3, 50, 50)), r"views .* got \(2, 3, 50, 50\)"),
        (lambda clip: clip.encode_image(torch.zeros(2, 1, SIDE, SIDE)), r"images .* got \(2, 1, 32, 32\)"),
        (lambda clip: clip.encode_image(noise_image(0)), "images .* got Image"),
        (lambda clip: clip.encode_views(np.zeros((2, 3, SIDE, SIDE))), "views .* got ndarray"),
        (lambda clip: clip.encode_views(255 * torch.rand(2, 3, SIDE, SIDE)), "got floats from .* pass pixels as uint8"),
        (lambda clip: tpt.Views(SIDE, 2)(noise_image(0).convert("RGBA"), "x"), "got mode RGBA"),
        (lambda clip: tpt.Views(SIDE, 2, made_on="device")(noise_image(0).convert("L"), "x"), "got mode L"),
        (lambda clip: tpt.Views(SIDE, 2)(torch.zeros(3, 9, 9), "x"), "got Tensor"),
        (lambda clip: tpt.predict(noise_image(0), CLASSES, backbone=clip, top=0), "`top` .* got 0"),
        (lambda clip: tpt.predict(noise_image(0), CLASSES, backbone=clip, progress="no"), "`progress` .* got 'no'"),
    ],
)
def test_a_mistake_is_refused(call: Callable[[tpt.CLIP], Any], message: str, clip: tpt.CLIP) -> None:
    with pytest.raises(UserError, match=message):
        call(clip)


@pytest.mark.parametrize(
    "given",
    [
        {"ctx_init": "a drawing of a", "templates": ["a {}."]},
        {"context": "random", "templates": "imagenet_7"},
        {"context": "random", "descriptions": {name: ["an animal"] for name in CLASSES}},
        {"context": "random", "ctx_init": "a drawing of a"},
    ],
    ids="+".join,
)
def test_two_sources_of_text_are_refused(given: dict[str, Any], clip: tpt.CLIP) -> None:
    """Only one of them would be used."""
    if "context" in given:
        given = given | {"context": tpt.random_context(clip, 4)}
    names = sorted(
        (f"`{name}`" for name in given), key=("`ctx_init`", "`context`", "`templates`", "`descriptions`").index
    )
    with pytest.raises(UserError, match="one source of the classes' texts, got .*" + ".*".join(names)):
        tpt.ZeroShot(clip, CLASSES, **given)


@pytest.mark.parametrize("name", ["steps", "lr", "optimizer", "ctx_init", "context", "class_names", "clip"])
def test_a_setting_that_would_have_no_effect_later_is_refused(name: str, clip: tpt.CLIP) -> None:
    made = method(clip)
    before = getattr(made, name)
    with pytest.raises(UserError, match=f"`{name}` as an argument of TPT, got it later"):
        setattr(made, name, 3)
    assert getattr(made, name) == before and copy.deepcopy(made).steps == 1


def test_a_setting_that_has_an_effect_later_can_be_changed(clip: tpt.CLIP) -> None:
    made, given = method(clip, selection_p=0.5), features(16)
    made.selection_p = 0.25
    assert torch.equal(made(given).logits, method(clip, selection_p=0.25)(given).logits)


def test_features_are_read_from_numpy_lists_and_other_types(clip: tpt.CLIP) -> None:
    made, given = method(clip), features(2, 16)
    expected = made(given).logits
    assert torch.equal(made(given.numpy()).logits, expected)  # type: ignore[arg-type]
    assert torch.equal(made(given.tolist()).logits, expected)  # type: ignore[arg-type]
    assert torch.equal(made(given.double()).logits, expected)
    for stored in (given.half(), given.bfloat16()):  # their rounding is accepted
        torch.testing.assert_close(made(stored).logits, expected, atol=0.5, rtol=0)


def test_one_text_and_one_setting_need_no_list(clip: tpt.CLIP) -> None:
    assert torch.equal(clip.encode_text("a cat"), clip.encode_text(["a cat"]))
    one = tpt.predict(
        noise_image(0), CLASSES, backbone=clip, method="zero_shot", settings="method.templates=imagenet_7"
    )
    listed = tpt.predict(
        noise_image(0), CLASSES, backbone=clip, method="zero_shot", settings=["method.templates=imagenet_7"]
    )
    assert one[0].probability == listed[0].probability


def test_one_sentence_and_one_dataset_need_no_list(clip: tpt.CLIP, image_tree: Path, tmp_path: Path) -> None:
    """A text is no list of its letters."""
    given = {name: f"a picture of a {name}" for name in CLASSES}
    expected = tpt.ZeroShot(clip, CLASSES, descriptions={name: [text] for name, text in given.items()}).bank()
    (tmp_path / "texts.json").write_text(json.dumps(given))
    for source in (given, str(tmp_path / "texts.json")):
        assert torch.equal(tpt.ZeroShot(clip, CLASSES, descriptions=source).bank(), expected)
    dataset = tpt.image_folder(image_tree)
    assert tpt.EpisodeDataModule(dataset).datasets == [dataset]


def test_images_that_seem_not_normalised_are_noted_once(
    clip: tpt.CLIP, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "_has_warned", False)  # tests share it
    pixels = tpt.Views(SIDE, 2)(Image.new("RGB", (80, 80), (9, 99, 199)), "x")
    with caplog.at_level(logging.WARNING):
        normalised = clip.encode_views(clip._standard(pixels.float()))
        assert not caplog.text
        for _ in range(2):
            clip.encode_views(pixels / 255)
    assert len(re.findall(r"floats from .* `Normalize`", caplog.text)) == 1
    torch.testing.assert_close(normalised, clip.encode_views(pixels))
