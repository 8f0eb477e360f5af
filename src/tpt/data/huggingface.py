"""Reads datasets saved by Hugging Face's `datasets`; needs that package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import Orientation
from tpt.data.labels import ClassNames, number_labels
from tpt.data.names import is_data, plain
from tpt.errors import BadImageError, DataError, Filled, checked
from tpt.files import readable


@checked
def huggingface_dataset(
    path: Filled | Path,
    split: str = "test",
    name: str | None = None,
    class_names: ClassNames | None = None,
    image_column: str = "image",
    label_column: str = "label",
    orientation: Orientation = "apply",
    first_label: Literal[0, 1] | None = None,
) -> ImageDataset:
    """A dataset saved by `save_to_disk`, or Parquet files that contain the images, as on the hub.

    The files are memory-mapped; nothing is fetched.

    Args:
        path: the directory of a `Dataset` or `DatasetDict`, a Parquet file, or a folder of Parquet files.
        split: split of a `DatasetDict` or of the Parquet files.
        name: name in logs and results; the directory's name if None.
        class_names: as for `image_list`; None uses those of a `ClassLabel` column, or the sorted labels if they are
            text.
        image_column, label_column: names of the columns.
        orientation: as for `image_folder`.
        first_label: as for `image_list`; the numbers of a `ClassLabel` column always count from 0.

    Raises:
        DataError: the package or the directory is missing, or split, columns or names do not fit.
    """
    path = Path(path).expanduser()
    table, given, split = _load(path, split, image_column, label_column)
    labels = list(table[label_column])
    if not all(isinstance(label, int | float) for label in labels) and not all(isinstance(k, str) for k in labels):
        raise DataError(
            f"Column {label_column!r} of {path} does not hold whole numbers or texts in every row. Set "
            "data.label_column, or fill what is empty."
        )
    first = first_label if given is None else 0
    names, numbers = number_labels(labels, given if class_names is None else class_names, path, first)
    samples = [Sample(f"{row:08d}", label) for row, label in enumerate(numbers)]
    store, own = _ArrowStore(path, table.select_columns([image_column]), image_column), plain(path.absolute().name)
    return ImageDataset(name or own, names, samples, store, split=split, upright=orientation == "apply").noted()


class _ArrowStore:
    """Encoded images of a `datasets.Dataset`, by row."""

    def __init__(self, root: Path, table: Any, column: str) -> None:
        self.root = root
        self._table, self._column = table, column

    def read(self, path: str, first: int | None = None) -> bytes:
        """See `Store.read`."""
        content: bytes | None = (self._table[int(path)][self._column] or {}).get("bytes")
        if content is None:  # `save_to_disk` would have stored the file's content
            raise BadImageError(
                f"The image of row {int(path)} is not inside {self.root}. Save the dataset with its images, or pass "
                "data.on_bad_image=skip."
            )
        return content if first is None else content[:first]


def _parquet(path: Path, split: str) -> list[str]:
    """The Parquet file, or a split's files in a folder; empty if there are none."""
    files = [path] if path.is_file() else [f for f in sorted(path.rglob("*.parquet")) if is_data(f.name)]
    named = [file for file in files if split in re.split(r"[-_.]", file.stem) or file.parent.name == split]
    splits = len({re.split(r"[-_.]", file.stem)[0] for file in files})
    if files and not named and splits > 1:
        raise DataError(
            f"{path} has no Parquet files of the split {split!r}, only others such as {files[0].name}. Set data.split."
        )
    return [str(file) for file in named or files]


def _load(path: Path, split: str, image_column: str, label_column: str) -> tuple[Any, list[str] | None, str]:
    """The table with images still encoded, its class names or None, and its split or an empty text."""
    try:
        import datasets  # noqa: PLC0415 - optional
    except ImportError as error:
        raise DataError("data=huggingface needs the package `datasets`. Install it: pip install datasets.") from error
    what = f"{path} as a directory that `save_to_disk` wrote"
    with readable(what, "Check data.path, or save it again"):
        datasets.disable_progress_bars()
        files = _parquet(path, split)
        found = datasets.Dataset.from_parquet(files) if files else datasets.load_from_disk(str(path)).with_format(None)
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise DataError(f"Expected a split of {path} out of {', '.join(found)}, got {split!r}; set data.split.")
        found = found[split]
    else:
        split = ""
    kind, label = found.features.get(image_column), found.features.get(label_column)
    encoded = isinstance(kind, datasets.Image) or (isinstance(kind, dict) and {*kind} == {"bytes", "path"})
    if label is None or not encoded:
        raise DataError(
            f"Expected the columns {image_column!r} of images and {label_column!r} in {path}, got "
            f"{', '.join(found.column_names)}; set data.image_column and data.label_column."
        )
    names = list(label.names) if isinstance(label, datasets.ClassLabel) else None
    return found.cast_column(image_column, datasets.Image(decode=False)), names, split
