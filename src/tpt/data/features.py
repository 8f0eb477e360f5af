"""View features in a portable file, to test methods on any machine without the images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tpt.data.cache.cache import Encoder
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.labels import ClassNames, number_labels
from tpt.errors import BadImageError, DataError, Filled, checked
from tpt.files import content_digest, readable, writing

ABOUT = "tpt"  # key of the JSON with names and provenance: in the header of safetensors, an array of npz
FEATURES, NORMS, TEXT = "features", "norms", "text_features"
SUFFIXES = (".safetensors", ".npz")  # of files that are written
TORCH = (".pt", ".pth")
# Names that other programs use for features, labels, class names and paths.
_THEIRS = {
    "features": ("features", "image_features", "feats", "embeddings"),
    "labels": ("labels", "targets", "label", "target"),
    "names": ("class_names", "classnames", "classes"),
    "paths": ("paths", "image_paths", "filenames"),
}
_PAIR = ("_f", "_l")  # ends of the names of Tip-Adapter's files: features in one, labels in the other


class FeatureRows:
    """The store of dataset `number` of a file, whose images are rows of features; it can be sent to worker processes.

    Args:
        about: the file's `paths` and `contents` of the dataset.
        encoder: the file's description of the image encoder; empty if there is none.
        shape: V and E of each image.
        held: (N, V, E) features and (N,) norms, if the file was read as a whole; otherwise rows are read one by one.
    """

    def __init__(
        self,
        file: Path,
        number: int,
        about: Mapping[str, Any],
        encoder: Mapping[str, Any],
        shape: tuple[int, int],
        held: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.root = file
        self.encoder, (self.num_views, self.width) = dict(encoder), shape
        self._prefix, self._held = f"{number}.", held
        self._rows = {path: row for row, path in enumerate(about["paths"])}
        self._contents = list(about["contents"])

    def read(self, path: str, first: int | None = None) -> bytes:
        """Raises a BadImageError, since the file has no pictures."""
        raise BadImageError(f"{self.root} holds only the features of {path}, not the picture.")

    def digest(self, path: str) -> str:
        """The digest of the image file that the features were computed from."""
        return str(self._contents[self._rows[path]])

    def features(self, path: str, num_views: int | None) -> dict[str, Tensor]:
        """The (V, E) `image_features` of the first views and the `image_norm` of view 0; raises a BadImageError."""
        row = self._rows[path]
        if self._held is not None:
            return {"image_features": self._held[0][row, :num_views].clone(), "image_norm": self._held[1][row].clone()}
        what = f"the features of {path} in {self.root}"
        with readable(what, "Restore the file", BadImageError), safe_open(self.root, "pt") as file:
            found = file.get_slice(self._prefix + FEATURES)[row : row + 1, :num_views][0]
            norm = file.get_slice(self._prefix + NORMS)[row : row + 1][0]
            return {"image_features": found, "image_norm": norm}


def save_features(
    file: Path, datasets: Sequence[tuple[Mapping[str, Any], Mapping[str, Tensor]]], encoder: Mapping[str, Any]
) -> None:
    """Writes a file of view features, `.safetensors` or `.npz`, whole or not at all.

    Args:
        datasets: for each dataset its names and provenance (`name`, `class_names`, `paths`, `labels`, `contents`, ...),
            and `features` (N, V, E), `norms` (N,) and, if all images share the text, `text_features` (K, E).
        encoder: `name` and `weights` of the image encoder, and the settings of its views.
    """
    tensors = {f"{k}.{name}": x.contiguous() for k, (_, own) in enumerate(datasets) for name, x in own.items()}
    about = json.dumps({"encoder": dict(encoder), "datasets": [dict(about) for about, _ in datasets]})
    with writing(file) as partial:
        if file.suffix.lower() == ".npz":
            with partial.open("wb") as opened:
                arrays: dict[str, Any] = {name: x.numpy() for name, x in tensors.items()}
                np.savez(opened, **(arrays | {ABOUT: np.array(about)}))
        else:
            save_file(tensors, partial, {ABOUT: about})


@checked
def feature_file(
    path: Filled | Path,
    class_names: ClassNames | None = None,
    first_label: Literal[0, 1] | None = None,
) -> list[ImageDataset]:
    """The datasets of a file that `tpt-cache export` wrote, or one dataset of another program's file.

    Another program's file, `.npz`, `.pt` or `.pth`, provides view 0 only.  It holds (N, E) features and labels, by name
    or as a pair; or features as `test_f.pt` next to labels as `test_l.pt`.

    Args:
        path: path of the file.
        class_names, first_label: as for `image_list`, for another program's file; None uses the names in the file.

    Raises:
        DataError: the file does not exist, is damaged, or holds something else.
    """
    file = Path(path).expanduser()
    what = f"{file} as features that `tpt-cache export` wrote, or as features and labels"
    with readable(what, "Check data.path, or export it again"):
        about, shapes, content = _read(file)
        if about is None:
            return [_of_others(file, content, class_names, first_label)]
        return [_dataset(file, k, own, about["encoder"], shapes, content) for k, own in enumerate(about["datasets"])]


def _read(file: Path) -> tuple[Any, Mapping[str, tuple[int, ...]], Any]:
    """This project's description in the file, or None; the shapes of its tensors; its content, if read as a whole."""
    if file.suffix.lower() in TORCH:
        return None, {}, torch.load(file, map_location="cpu", weights_only=True)
    if file.suffix.lower() == ".npz":
        with np.load(file, allow_pickle=False) as opened:
            held = dict(opened)
        about = json.loads(str(held.pop(ABOUT))) if ABOUT in held else None
        return about, {name: array.shape for name, array in held.items()}, held
    with safe_open(file, "pt") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        return json.loads((opened.metadata() or {})[ABOUT]), shapes, None


def _dataset(
    file: Path,
    number: int,
    about: Mapping[str, Any],
    encoder: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    held: Mapping[str, np.ndarray] | None,
) -> ImageDataset:
    images, views, width = shapes[f"{number}.{FEATURES}"]
    paths, labels, names = about["paths"], about["labels"], [str(name) for name in about["class_names"]]
    counts = {len(paths), len(set(paths)), len(labels), len(about["contents"]), *shapes[f"{number}.{NORMS}"]}
    if counts != {images} or not all(k is None or (type(k) is int and 0 <= k < len(names)) for k in labels):
        raise ValueError(f"paths, labels and features of dataset {number} do not belong together")
    samples = [Sample(str(path), label) for path, label in zip(paths, labels, strict=True)]
    both = None
    if held is not None:
        both = torch.from_numpy(held[f"{number}.{FEATURES}"]), torch.from_numpy(held[f"{number}.{NORMS}"])
    store = FeatureRows(file, number, about, encoder, (views, width), both)
    kept = {key: about[key] for key in ("size", "split", "template", "augmix")}
    return ImageDataset(str(about["name"]), names, samples, store, list(about["notes"]), **kept)


def _of_others(file: Path, content: Any, class_names: ClassNames | None, first_label: int | None) -> ImageDataset:
    """The dataset in a file that another program wrote."""
    stem = file.stem
    if isinstance(content, Tensor) and stem.endswith(_PAIR[0]):
        stem = stem.removesuffix(_PAIR[0])
        content = content, torch.load(file.with_stem(stem + _PAIR[1]), map_location="cpu", weights_only=True)
    if isinstance(content, tuple | list) and len(content) == 2:
        content = {"features": content[0], "labels": content[1]}
    if not isinstance(content, Mapping):
        raise TypeError(f"a {type(content).__name__}")
    lower = {str(key).lower(): value for key, value in content.items()}
    part = {what: next((lower[key] for key in keys if key in lower), None) for what, keys in _THEIRS.items()}
    if part["features"] is None or part["labels"] is None:
        raise KeyError(f"no features and labels among {', '.join(map(str, content))}")
    features_NE = torch.as_tensor(part["features"]).float()
    if features_NE.ndim == 3:  # (N, V, E)
        features_NE = features_NE[:, 0]
    labels = part["labels"] if isinstance(part["labels"], list | tuple) else part["labels"].reshape(-1).tolist()
    images, width = features_NE.shape
    paths = [f"{row:08d}" for row in range(images)] if part["paths"] is None else [str(path) for path in part["paths"]]
    if {len(labels), len(paths), len({*paths})} != {images}:
        raise ValueError(f"{images} features, {len(labels)} labels and {len({*paths})} paths")
    norms_N = features_NE.norm(dim=-1)
    if not (norms_N > 0).all():
        raise ValueError("features that are zero or not finite")
    if class_names is None and part["names"] is not None:
        class_names = [str(name) for name in part["names"]]
    names, numbers = number_labels(labels, class_names, file, first_label)
    notes = ["features that another program made: view 0 alone, of a backbone that the file does not name"]
    about = {"paths": paths, "contents": [content_digest(row.numpy().tobytes()) for row in features_NE]}
    held = (features_NE / norms_N[:, None])[:, None], norms_N
    store = FeatureRows(file, 0, about, {}, (1, width), held)
    samples = [Sample(path, number) for path, number in zip(paths, numbers, strict=True)]
    return ImageDataset(stem, names, samples, store, notes).noted()


def refuse_other_encoder(
    datasets: Sequence[ImageDataset], clip: Encoder, others: Mapping[str, Encoder] | None = None
) -> None:
    """Raises a DataError if a file has no features of the backbone, or of `others`, further encoders of the method."""
    for dataset in datasets:
        if not isinstance(dataset.store, FeatureRows):
            continue
        encoder, width = dataset.store.encoder, dataset.store.width
        same = encoder["weights"] == clip.encoding()["weights"] if "weights" in encoder else width == clip.embed_dim
        if not same:
            raise DataError(
                f"Expected features of the backbone {clip.name}, of length {clip.embed_dim}, in {dataset.store.root}, "
                f"got those of {encoder.get('name', 'another')}, of length {width}; choose that one, or export again."
            )
        if others:
            raise DataError(
                f"Expected a method that needs the backbone alone, since {dataset.store.root} holds features of no "
                f"other encoder, got one with {', '.join(others)}; choose another method, or test on the images."
            )


def stack(rows: Sequence[Tensor]) -> Tensor:
    """Features of N images as one tensor in single precision, on the CPU."""
    return torch.stack([row.detach().float().cpu() for row in rows])
