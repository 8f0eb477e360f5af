"""A table of paths and labels: CSV or Parquet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tpt.data.dataset import ImageDataset, Sample, refuse_duplicates
from tpt.data.folder import read_names
from tpt.data.store import FileStore, refuse_escapes, refuse_missing
from tpt.errors import DataError

_NUMBER = re.compile(r"-?[0-9]{1,18}")


def image_list(
    path: str | Path,
    root: str | Path | None = None,
    name: str | None = None,
    class_names: str | Path | Sequence[str] | None = None,
    path_column: str = "path",
    label_column: str = "label",
    limit: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Images that a table lists.

    Args:
        path: a `.csv` (comma, with a header) or `.parquet` file.
        root: the folder that the table's paths start from; the table's own folder if None.
        name: key in logs and results; the table's name if None.
        class_names: a text file (a name a line) or list.  Labels that are whole numbers count into it, from 0; labels
            that are text must stand in it.  None takes the sorted labels, which then are the names.
        path_column, label_column: names of the two columns.
        limit: takes so many images, drawn with `seed`; None takes all.
        seed: of that draw.

    Raises:
        DataError: no such table, columns, names or images; paths that leave `root`.
    """
    path = Path(path).expanduser()
    paths, labels = _columns(path, path_column, label_column)
    names, numbers = number_labels(labels, None if class_names is None else read_names(class_names), path)
    refuse_duplicates(names, f"for {path}")
    store = FileStore(path.parent if root is None else root)
    samples = [Sample(p, k) for p, k in zip(paths, numbers, strict=True)]
    refuse_escapes(paths, path)
    refuse_missing(store.root, paths, path)
    return ImageDataset(name or path.stem, names, samples, store).subset(limit, seed)


def _columns(path: Path, path_column: str, label_column: str) -> tuple[list[str], list[str] | list[int]]:
    try:
        table = _read(path, path_column, label_column)
        absent = [c for c in (path_column, label_column) if table.column_names.count(c) != 1]
        if not absent:
            paths, labels = (table[c].cast(pa.string()).to_pylist() for c in (path_column, label_column))
    except FileNotFoundError as error:
        raise DataError(f"Expected a CSV or Parquet table at {path}, found nothing; check data.path.") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"Expected a CSV or Parquet table of texts and numbers at {path}, but it cannot be read ({reason}); fix it."
        ) from error
    if absent:
        raise DataError(
            f"Expected a column {absent[0]!r} in {path}, found {', '.join(map(repr, table.column_names))}; "
            "set data.path_column or data.label_column."
        )
    if not all(paths) or not all(labels):
        raise DataError(f"Expected a path and a label in every row of {path}, but some are empty; fill them.")
    return paths, as_numbers(labels)


def _read(path: Path, path_column: str, label_column: str) -> Any:
    if path.suffix.lower() != ".csv":
        return pa.parquet.read_table(path)
    # As they are written: "007" is no number in a path, and "NA" or "true" may be a class.
    text = {path_column: pa.string(), label_column: pa.string()}
    return pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types=text, strings_can_be_null=False))


def as_numbers(labels: list[str]) -> list[str] | list[int]:
    """The labels as numbers if all of them are whole numbers."""
    if all(_NUMBER.fullmatch(label) for label in labels):
        return [int(label) for label in labels]
    return labels


def number_labels(labels: list[str] | list[int], names: list[str] | None, path: Path) -> tuple[list[str], list[int]]:
    """Class names and the number of each label among them.

    Args:
        labels: whole numbers that count into `names`, or names.
        names: of the classes; None takes the sorted labels.
        path: named in errors.
    """
    if labels and isinstance(labels[0], int):
        numbers = [int(k) for k in labels]
        if names is None:
            raise DataError(
                f"Expected class names for the numbered labels of {path}, got none; set data.class_names to a text "
                "file with a name a line."
            )
        strange = [k for k in numbers if not 0 <= k < len(names)]
        if strange:
            raise DataError(
                f"Expected labels 0 to {len(names) - 1} in {path}, got {strange[0]}; check data.class_names."
            )
        return names, numbers
    texts = [str(label) for label in labels]
    names = sorted(set(texts)) if names is None else names
    index = {name: k for k, name in enumerate(names)}
    strange_names = sorted(set(texts) - set(names))
    if strange_names:
        raise DataError(f"Expected labels out of data.class_names in {path}, got {strange_names[0]!r}; add it there.")
    return names, [index[text] for text in texts]
