"""`tpt.predict`: the same pixels get the same answer in any input format."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import tpt
from tests.conftest import noise_image
from tpt.errors import UserError

CLASSES = ["cat", "hot air balloon", "T-shirt"]
QUICK = {"num_views": 10, "settings": ["method.selection_p=0.3", "method.lr=0.05"]}


def assert_same(one: tpt.Prediction, other: tpt.Prediction) -> None:
    """Checks that two predictions agree up to rounding, which depends on the batch size."""
    assert (one.answer, one.answer_before, one.selected) == (other.answer, other.answer_before, other.selected)
    assert [name for name, _ in one.top] == [name for name, _ in other.top]
    assert np.allclose([p for _, p in one.top], [p for _, p in other.top], atol=1e-5)


def test_paths_images_and_arrays_give_the_same_answer(image_tree: Path, clip: tpt.CLIP) -> None:
    path = image_tree / "cat" / "0.png"
    image = Image.open(path)
    copy = shutil.copy(path, image_tree / "elsewhere.png")
    images = [path, str(copy), image, np.asarray(image), image_tree / "cat"]
    found = tpt.predict(images, CLASSES, backbone=clip, **QUICK)
    assert [p.path for p in found[:4]] == [str(path), str(copy), "image 3", "image 4"] and len(found) == 4 + 4
    for other in found[1:5]:
        assert_same(found[0], other)
    (alone,) = tpt.predict(path, CLASSES, backbone=clip, **QUICK)
    assert_same(found[0], alone)
    again = tpt.predict([path, path], CLASSES, backbone=clip, **QUICK)  # one answer per item, repeated or not
    assert len(again) == 2 and again[0].answer == again[1].answer == alone.answer


def test_the_answer_equals_the_methods_output(image_tree: Path, clip: tpt.CLIP) -> None:
    """Compares with the method called directly on the views."""
    image = Image.open(image_tree / "cat" / "1.png")
    (found,) = tpt.predict(image, CLASSES, backbone=clip, **QUICK)
    from tpt.data.dataset import pixel_identity

    views = tpt.Views(clip.image_size, num_views=10, mean=clip.mean, std=clip.std)(image, pixel_identity(image))
    method = tpt.TPT(clip, CLASSES, selection_p=0.3, lr=0.05)
    out = method(clip.encode_views(views))
    probabilities, order = out.logits.softmax(-1).sort(descending=True)
    assert [name for name, _ in found.top] == [CLASSES[k] for k in order]
    assert np.allclose([p for _, p in found.top], probabilities.tolist(), atol=1e-5)
    assert found.answer == found.top[0].answer and found.probability == found.top[0].probability
    assert found.probability_before == pytest.approx(float(out.initial_logits.softmax(-1).max()), abs=1e-5)
    assert list(found.selected) == out.selected.tolist()


def test_images_of_any_mode_are_read_like_their_files(tmp_path: Path, clip: tpt.CLIP) -> None:
    images = [noise_image(3).convert(mode) for mode in ("L", "P", "RGBA", "CMYK", "1")]
    images.append(Image.fromarray(np.asarray(images[0]).astype(np.uint16) * 257))
    files = [tmp_path / f"{number}.tiff" for number in range(len(images))]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    found = tpt.predict([*images, *files], CLASSES, backbone=clip, **QUICK)
    for one, other in zip(found[: len(images)], found[len(images) :], strict=True):
        assert_same(one, other)


def test_top_is_limited_and_sorted(image_tree: Path, clip: tpt.CLIP) -> None:
    (two,) = tpt.predict(image_tree / "cat" / "0.png", CLASSES, backbone=clip, top=2, **QUICK)
    (all_three,) = tpt.predict(image_tree / "cat" / "0.png", CLASSES, backbone=clip, top=50, **QUICK)
    assert two.top == all_three.top[:2] and len(all_three.top) == 3
    assert sum(p for _, p in all_three.top) == pytest.approx(1, abs=1e-5)
    assert [p for _, p in all_three.top] == sorted((p for _, p in all_three.top), reverse=True)


def test_only_unreadable_pictures_have_a_problem(image_tree: Path, clip: tpt.CLIP) -> None:
    (image_tree / "broken.png").write_bytes(b"no picture")
    closed = Image.open(image_tree / "cat" / "0.png")
    closed.close()
    given = [image_tree / "broken.png", closed, image_tree / "cat" / "0.png"]
    found = tpt.predict(given, CLASSES, backbone=clip, **QUICK)
    assert [p.answer is None for p in found] == [True, True, False]
    assert found[0].problem == "no picture" and found[2].problem is None
    assert found[0].top == () and found[0].probability is None
    assert f"{image_tree / 'broken.png'}: no answer" in repr(found)


def test_zero_shot_encodes_only_the_original_view(
    image_tree: Path, clip: tpt.CLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = clip.encode_views
    monkeypatch.setattr(clip, "encode_views", lambda views, **k: seen.append(views.shape[1]) or encode(views, **k))
    (found,) = tpt.predict(image_tree / "cat" / "0.png", CLASSES, backbone=clip, method="zero_shot")
    assert seen == [1] and found.selected == (0,)
    assert (found.answer, found.probability) == (found.answer_before, found.probability_before)


def test_arrays_and_tensors_give_the_same_answer(clip: tpt.CLIP) -> None:
    pixels = np.asarray(noise_image(3))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    forms: list[Any] = [
        pixels / 255,
        (pixels / np.float32(255)).transpose(2, 0, 1),  # channels first
        tensor / 255,
        tensor,  # bytes
        pixels.astype(np.int64),
    ]
    expected, *found = tpt.predict([pixels, *forms], CLASSES, backbone=clip, **QUICK)
    white = [torch.ones(3, 8, 8, dtype=torch.bfloat16), np.full((8, 8, 3), 255, np.uint8)]
    assert_same(*tpt.predict(white, CLASSES, backbone=clip, **QUICK))
    for one in (*found, *tpt.predict((tensor / 255)[None], CLASSES, backbone=clip, **QUICK)):  # the last is a batch
        assert_same(one, expected)


def test_predict_leaves_the_callers_hydra_alone(tmp_path: Path, clip: tpt.CLIP) -> None:
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        theirs = GlobalHydra.instance().hydra
        (found,) = tpt.predict(noise_image(0), CLASSES, backbone=clip, method="zero_shot")
        assert found.answer in CLASSES and GlobalHydra.instance().hydra is theirs


def test_seconds_progress_and_a_data_frame(clip: tpt.CLIP, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    found = tpt.predict([noise_image(n) for n in range(3)], CLASSES, backbone=clip, batch_size=2, **QUICK)
    assert 0 < sum(p.seconds for p in found) < time.perf_counter() - began
    assert "100%" in capsys.readouterr().err
    frame = pytest.importorskip("pandas") and found.to_pandas()
    assert list(frame["answer"]) == [p.answer for p in found] and len(frame.columns) == 11


def test_no_pictures_give_no_predictions(clip: tpt.CLIP) -> None:
    assert len(tpt.predict([], CLASSES, backbone=clip)) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "tptt"}, r"Expected an option of `method`, got 'tptt'; did you mean tpt"),
        (
            {"settings": ["method.stepz=2"]},
            r"Expected a setting that exists, got 'method\.stepz'; did you mean method\.steps",
        ),
        ({"settings": ["method.steps=-1"]}, r"Expected `steps` to be a whole number of at least 0, got -1"),
        ({"num_views": 4}, r"selects no view"),
        ({"images": [3]}, r"Expected a path, a PIL image, or an array .* as picture 1, got int"),
        ({"images": np.full((4, 4, 3), 2.0)}, r"got ndarray of float64 from 2 to 2; .* undo the normalization"),
        ({"images": np.full((4, 4, 3), np.nan)}, r"float64 from nan to nan"),
        ({"config_dir": "nowhere"}, "Expected a folder of your own options"),
        ({"images": np.zeros((5, 5, 2), np.uint8)}, r"uint8 \(5, 5, 2\)"),
        ({"images": "nowhere.png"}, r"pattern 'nowhere.png'"),
        ({"class_names": ["cat", "cat"]}, "are the same prompt"),
    ],
)
def test_mistakes(wrong: dict[str, Any], message: str, clip: tpt.CLIP) -> None:
    asked: dict[str, Any] = {"images": noise_image(0), "class_names": CLASSES, "backbone": clip, **wrong}
    with pytest.raises(UserError, match=message):
        tpt.predict(**asked)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbone": "ViT-B-32"}, r"Expected `pretrained` to be a tag of 'ViT-B-32' .*, got None"),
        ({"pretrained": "x"}, r"Expected a setting that exists, got 'backbone\.pretrained'"),
        (
            {"backbone": "file", "pretrained": "${none}.pt"},
            r"without '\$\{' for `backbone\.pretrained`",
        ),
    ],
)
def test_mistakes_about_the_backbone(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tpt.predict(noise_image(0), CLASSES, **wrong)
