"""Preprocessing settings from a configuration next to a weights file."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
from safetensors.torch import save_file

import tpt
from tests.noise_models import CONFIG
from tests.noise_models import weights as noise
from tpt.errors import UserError

VISION: Any = CONFIG["vision_cfg"]
SIZE = VISION["image_size"]
CLIPS = {  # as CLIPImageProcessor saves it
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "resample": 2,
    "do_center_crop": True,
    "size": {"shortest_edge": SIZE},
    "crop_size": {"height": SIZE, "width": SIZE},
}
SIGLIPS = {  # as SiglipImageProcessor, which does not crop, saves it
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "resample": 3,
    "size": {"height": SIZE, "width": SIZE},
}


def load(folder: Path, about: dict[str, Any], file: str = "preprocessor_config.json", **given: Any) -> tpt.CLIP:
    save_file(dict(noise.state_dict("vit", 1)), folder / "w.safetensors")
    (folder / file).write_text(json.dumps(about))
    return tpt.load_clip(pretrained=folder / "w.safetensors", quick_gelu=True, **given)


@pytest.mark.parametrize(
    ("about", "resize", "interpolation"),
    [
        (CLIPS, "shortest", "bilinear"),
        (SIGLIPS, "squash", "bicubic"),
        ({**CLIPS, "do_center_crop": False}, "squash", "bilinear"),
        ({**CLIPS, "size": SIZE, "crop_size": SIZE}, "shortest", "bilinear"),  # as older releases save it
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, "shortest", "bicubic"),
    ],
)
def test_preprocessing_from_transformers(
    about: dict[str, Any], resize: str, interpolation: str, tmp_path: Path
) -> None:
    clip = load(tmp_path, about)
    assert (clip.mean, clip.std) == (tuple(about["image_mean"]), tuple(about["image_std"]))
    assert (clip.resize, clip.interpolation, clip.image_size) == (resize, interpolation, SIZE)


def test_settings_and_open_clips_file_take_precedence(tmp_path: Path) -> None:
    clip = load(tmp_path, CLIPS, mean=[0.7, 0.7, 0.7], resize="squash")
    assert clip.mean == (0.7, 0.7, 0.7) and clip.std == (0.4, 0.5, 0.6) and clip.resize == "squash"
    clip = load(tmp_path, {"preprocess_cfg": {"mean": [0.2] * 3}}, "open_clip_config.json")
    assert clip.mean == (0.2, 0.2, 0.2) and clip.interpolation == "bicubic"


@pytest.mark.parametrize("file", ["preprocessor_config.json", "open_clip_config.json"])
def test_the_image_size_next_to_named_weights(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A size next to the weights takes precedence over the size of the named model."""
    vision: dict[str, Any] = {**VISION, "image_size": 2 * SIZE}
    larger = {**CONFIG, "quick_gelu": True, "vision_cfg": vision}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "larger", larger)
    save_file(dict(noise.state_dict("vit", 1)), tmp_path / "w.safetensors")
    with pytest.raises(UserError):
        tpt.load_clip("larger", pretrained=tmp_path / "w.safetensors")
    about = CLIPS if file.startswith("pre") else {"preprocess_cfg": {"size": SIZE}}
    (tmp_path / file).write_text(json.dumps(about))
    assert tpt.load_clip("larger", pretrained=tmp_path / "w.safetensors").image_size == SIZE


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({**CLIPS, "resample": 1}, "its `resample` 1 is neither 2, bilinear, nor 3, bicubic"),
        ({**CLIPS, "image_mean": [0.5]}, "Expected `mean` of .* to be three numbers"),
        ({**CLIPS, "image_std": [0, 0, 0]}, "Expected `std` of .* to be three numbers"),
        ([], "Cannot read the configuration .*"),
    ],
)
def test_wrong_preprocessing_is_refused(about: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, about)
