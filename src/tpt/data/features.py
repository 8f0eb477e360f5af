"""View features in one file that travels: images are tested again without the images, on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tpt.data.cache.cache import Encoder
from tpt.data.dataset import Classes, ImageDataset, Sample
from tpt.errors import BadImageError, Count, DataError, Filled, Seed, checked
from tpt.files import is_file, writing

ABOUT = "tpt"  # key of the header under which names and provenance stand, as JSON
FEATURES, NORMS, TEXT = "features", "norms", "text_features"


class FeatureRows:
    """The store of a dataset whose images are rows of a feature file; safe to hand to worker processes.

    Args:
        file: written by `save_features`.
        number: of the dataset in it.
        about: what the file says of it.
        encoder: what the file says of the image encoder.
        num_views: V of each image.
    """

    def __init__(
        self, file: Path, number: int, about: Mapping[str, Any], encoder: Mapping[str, Any], num_views: int
    ) -> None:
        self.root = file
        self.encoder, self.num_views = dict(encoder), num_views
        self._prefix = f"{number}."
        self._rows = {path: row for row, path in enumerate(about["paths"])}
        self._contents = list(about["contents"])

    def read(self, path: str, first: int | None = None) -> bytes:
        """Raises a BadImageError: there are no pictures."""
        raise BadImageError(f"Expected the picture {path}, but {self.root} holds its features alone.")

    def digest(self, path: str) -> str:
        """The digest of the image file that the features were made of."""
        return str(self._contents[self._rows[path]])

    def features(self, path: str, num_views: int | None) -> dict[str, Tensor]:
        """`image_features` (V, E) of the first views, and `image_norm` of view 0.

        Raises:
            BadImageError: the file is gone or damaged.
        """
        row = self._rows[path]
        try:
            with safe_open(self.root, "pt") as file:
                found = file.get_slice(self._prefix + FEATURES)[row : row + 1, :num_views][0]
                norm = file.get_slice(self._prefix + NORMS)[row : row + 1][0]
        except (OSError, SafetensorError) as error:
            raise BadImageError(f"Expected the features of {path} in {self.root}, but {error}; restore it.") from error
        return {"image_features": found, "image_norm": norm}


def save_features(
    file: Path, datasets: Sequence[tuple[Mapping[str, Any], Mapping[str, Tensor]]], encoder: Mapping[str, Any]
) -> None:
    """Writes a file of view features, whole or not at all.

    Args:
        file: `.safetensors`.
        datasets: of each its names and provenance (`name`, `class_names`, `paths`, `labels`, `contents`, ...), and
            its tensors `features` (N, V, E), `norms` (N,) and, if all images share it, `text_features` (K, E).
        encoder: `name` and `weights` of the image encoder, and where its views come from.
    """
    tensors = {f"{k}.{name}": x.contiguous() for k, (_, own) in enumerate(datasets) for name, x in own.items()}
    about = {"encoder": dict(encoder), "datasets": [dict(about) for about, _ in datasets]}
    with writing(file) as partial:
        save_file(tensors, partial, {ABOUT: json.dumps(about)})


@checked
def feature_file(
    path: Filled | Path, limit: Count | None = None, seed: Seed = 0, classes: Classes = "all"
) -> list[ImageDataset]:
    """The datasets of a file that `tpt-cache export` wrote.

    Args:
        path: of the file.
        limit: number of images of each, drawn with `seed`; None takes all.
        seed: of that draw.
        classes: "all", or "base" or "new", a half of the classes.

    Raises:
        DataError: no such file, or one that is damaged or holds something else.
    """
    file = Path(path).expanduser()
    if not is_file(file):
        raise DataError(f"Expected a file of features at {file}, found none; check data.path.")
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads((opened.metadata() or {})[ABOUT])
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        found = [_dataset(file, k, own, about["encoder"], shapes) for k, own in enumerate(about["datasets"])]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise DataError(
            f"Expected features as `tpt-cache export` writes them in {file}, but it cannot be read so "
            f"({type(error).__name__}: {str(error)[:200]}); export it again."
        ) from error
    return [dataset.chosen(limit, seed, classes) for dataset in found]


def _dataset(
    file: Path, number: int, about: Mapping[str, Any], encoder: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> ImageDataset:
    images, views, _ = shapes[f"{number}.{FEATURES}"]
    paths, labels, names = about["paths"], about["labels"], [str(name) for name in about["class_names"]]
    counts = {len(paths), len(set(paths)), len(labels), len(about["contents"]), *shapes[f"{number}.{NORMS}"]}
    if counts != {images} or not all(k is None or (type(k) is int and 0 <= k < len(names)) for k in labels):
        raise ValueError(f"paths, labels and features of dataset {number} do not belong together")
    samples = [Sample(str(path), label) for path, label in zip(paths, labels, strict=True)]
    store = FeatureRows(file, number, about, encoder, views)
    kept = {key: about[key] for key in ("size", "split", "template", "augmix")}
    return ImageDataset(str(about["name"]), names, samples, store, list(about["notes"]), **kept)


def refuse_other_encoder(
    datasets: Sequence[ImageDataset], clip: Encoder, others: Mapping[str, Encoder] | None = None
) -> None:
    """Raises a DataError if a file has no features of an image encoder that the run needs.

    Args:
        datasets: of the run.
        clip: the backbone.
        others: further encoders of the method, by name.
    """
    for dataset in datasets:
        if not isinstance(dataset.store, FeatureRows):
            continue
        if dataset.store.encoder.get("weights") != clip.encoding()["weights"]:
            raise DataError(
                f"Expected features of the backbone {clip.name} in {dataset.store.root}, got those of "
                f"{dataset.store.encoder.get('name')}; choose that backbone, or export the features again."
            )
        if others:
            raise DataError(
                f"Expected a method that needs the backbone alone, since {dataset.store.root} holds features of no "
                f"other encoder, got one with {', '.join(others)}; choose another method, or test on the images."
            )


def stack(rows: Sequence[Tensor]) -> Tensor:
    """Features of N images as one tensor in single precision, on the CPU."""
    return torch.stack([row.detach().float().cpu() for row in rows])
