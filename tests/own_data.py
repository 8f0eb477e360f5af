"""Writes small datasets in the formats of other tools."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import datasets
import torch

from tests.conftest import noise_image
from tpt.data.features import save_features


def png(seed: int = 0) -> bytes:
    """Returns the bytes of a small PNG image."""
    buffer = io.BytesIO()
    noise_image(seed, (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def save_huggingface(folder: Path) -> Path:
    """Saves a `DatasetDict` whose split "test" has four images of two classes, and returns its folder."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(4)], "label": [0, 1, 1, 0]}
    datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows, features)}).save_to_disk(folder)
    return folder


def write_shard(path: Path, samples: Sequence[tuple[str, str]]) -> Path:
    """Writes a web-dataset shard of (key, label) samples, and returns its path."""
    with tarfile.open(path, "w") as archive:
        for n, (key, label) in enumerate(samples):
            for name, content in ((f"{key}.png", png(n)), (f"{key}.cls", label.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_features(file: Path, weights: str = "w", views: int = 1) -> Path:
    """Writes the features of two images of different classes, and returns the file."""
    about = {
        **{
            "name": "noise",
            "class_names": ["cat", "dog"],
            "paths": ["a", "b"],
            "labels": [0, 1],
            "contents": ["1", "2"],
        },
        **{"notes": [], "size": 2, "split": "", "template": "a photo of a {}.", "augmix": False},
    }
    features = torch.nn.functional.normalize(torch.ones(2, views, 4), dim=-1)
    save_features(
        file, [(about, {"features": features, "norms": torch.ones(2)})], {"name": "other", "weights": weights}
    )
    return file
