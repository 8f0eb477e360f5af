"""How a model's images are prepared, from a configuration next to its weights and from the user's settings."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import set_model_preprocess_cfg
from torch import nn

from tpt.clip.weights.hub import CONFIG_NAME
from tpt.errors import UserError
from tpt.files import is_file, read_bytes, readable

log = logging.getLogger(__name__)

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
TRANSFORMERS = "preprocessor_config.json"
_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as in transformers' files


def preprocessing_beside(path: Path) -> dict[str, Any]:
    """Mean, std, interpolation, resize_mode and size from open_clip's or transformers' file next to weights, if any.

    Raises a UserError if the file is damaged.
    """
    for name in (CONFIG_NAME, TRANSFORMERS):
        file = path.with_name(name)
        if not is_file(file):
            continue
        with readable(f"the configuration {file}", "Remove it", UserError):
            content = json.loads(read_bytes(file))
            said = content.get("preprocess_cfg", {}) if name == CONFIG_NAME else _of_transformers(content)
        if said:
            log.info("Preparing images as specified by %s next to the weights.", name)
            return {key: said[key] for key in (*PREPROCESSING, "size") if key in said}
    return {}


def _of_transformers(content: Mapping[str, Any]) -> dict[str, Any]:
    resample: Any = content.get("resample")
    if resample not in (None, *_FILTERS):
        raise ValueError(f"its `resample` {resample!r} is neither 2, bilinear, nor 3, bicubic")
    size = content.get("crop_size" if content.get("do_center_crop") else "size") or {}
    sides = {size} if isinstance(size, int) else {*size.values()}
    # Processors without this setting, such as SigLIP's, resize to height and width.
    cropped = content.get("do_center_crop", isinstance(size, int) or "height" not in size)
    found = {
        "mean": content.get("image_mean"),
        "std": content.get("image_std"),
        "interpolation": _FILTERS.get(resample),
        "resize_mode": "shortest" if cropped else "squash",
        "size": sides.pop() if len(sides) == 1 else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def prepare(model: nn.Module, said: Mapping[str, Any], where: str) -> None:
    """Overrides how a model's images are prepared, in place.

    `said` has any of mean, std, interpolation and resize_mode; `where` says in messages where it comes from.  Raises a
    UserError if a mean or standard deviation is not three numbers.
    """
    given = dict(said)
    for key in [key for key in ("mean", "std") if key in given]:
        try:
            given[key] = tuple(float(value) for value in said[key])
            good = len(given[key]) == 3 and (key == "mean" or min(given[key]) > 0)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise UserError(f"Expected `{key}` of {where} to be three numbers, one per channel, got {said[key]!r}.")
    if given:
        visual: Any = model.visual
        unsaid = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}  # a file may have only one of them
        set_model_preprocess_cfg(model, {**unsaid, **getattr(visual, "preprocess_cfg", {}), **given})
