"""A file is read the same whether its suffix is in lower or upper case, as on disks of Windows and of cameras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tpt
from tests.conftest import noise_image
from tpt.clip.prompts import Context
from tpt.clip.prompts.checkpoint import load_context, save_context
from tpt.clip.weights.archive import read_checkpoint
from tpt.data.catalog.arrays import _pictures
from tpt.data.features import FEATURES, NORMS, save_features

FEATURES_NVE = torch.nn.functional.normalize(torch.ones(2, 1, 4), dim=-1)


def features(file: Path) -> Path:
    names = {"name": "d", "class_names": ["cat", "dog"], "paths": ["a", "b"], "labels": [0, 1], "contents": ["1", "2"]}
    about = {**names, "notes": [], "size": 2, "split": None, "template": None, "augmix": False}
    save_features(file, [(about, {FEATURES: FEATURES_NVE, NORMS: torch.ones(2)})], {"weights": "w"})
    return file


def of_others(file: Path) -> Path:
    torch.save({"features": FEATURES_NVE[:, 0], "labels": torch.tensor([0, 1])}, file)
    return file


def rows_of(file: Path) -> Any:
    (dataset,) = tpt.feature_file(file, class_names=["cat", "dog"] if file.suffix.lower() == ".pt" else None)
    return [(one.path, one.label) for one in dataset.samples]


def weights(file: Path) -> Path:
    save_file({"w": torch.ones(2)}, file)
    return file


def context(file: Path) -> Path:
    return save_context(file, Context(torch.ones(4, 8), 4, "made"))


def array(file: Path) -> Path:
    with file.open("wb") as opened:
        np.save(opened, np.zeros((2, 32, 32, 3), np.uint8))
    return file


def table(file: Path) -> Path:
    noise_image(0).save(file.with_name("a.png"))
    file.write_text("path,label\na.png,cat\na.png,dog\n")
    return file


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "features.safetensors": (features, rows_of),
    "features.npz": (features, rows_of),
    "others.pt": (of_others, rows_of),
    "weights.safetensors": (weights, lambda file: {k: x.tolist() for k, x in read_checkpoint(file)[0].items()}),
    "context.safetensors": (context, lambda file: load_context(file).vectors.tolist()),
    "cifar.npy": (array, lambda file: _pictures(file).shape),
    "list.csv": (table, lambda file: [one.label for one in tpt.image_list(file).samples]),
}


@pytest.mark.parametrize("name", READERS)
def test_upper_case(name: str, tmp_path: Path) -> None:
    make, read = READERS[name]
    file = make(tmp_path / name)
    before = read(file)
    assert read(file.rename(file.with_suffix(file.suffix.upper()))) == before
    folder = tmp_path / "again"
    folder.mkdir()
    assert read(make(folder / file.with_suffix(file.suffix.upper()).name)) == before
