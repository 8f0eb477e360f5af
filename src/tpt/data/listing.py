"""A table of paths and labels: CSV or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tpt.data.dataset import ImageDataset, Sample, refuse_duplicates
from tpt.data.folder import read_names
from tpt.data.store import FileStore, refuse_escapes, refuse_missing
from tpt.errors import DataError


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
        if path.suffix.lower() == ".csv":
            text = pa.csv.ConvertOptions(column_types={path_column: pa.string()}, strings_can_be_null=False)
            table = pa.csv.read_csv(path, convert_options=text)
        else:
            table = pa.parquet.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"Expected a CSV or Parquet table at {path}, found nothing; check data.path.") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(
            f"Expected a CSV or Parquet table at {path}, but it cannot be read ({reason}); fix it."
        ) from error
    absent = [c for c in (path_column, label_column) if c not in table.column_names]
    if absent:
        raise DataError(
            f"Expected a column {absent[0]!r} in {path}, found {', '.join(map(repr, table.column_names))}; "
            "set data.path_column or data.label_column."
        )
    paths, labels = table[path_column], table[label_column]
    if paths.null_count or labels.null_count:
        raise DataError(f"Expected a path and a label in every row of {path}, but some are empty; fill them.")
    if not pa.types.is_integer(labels.type):
        labels = labels.cast(pa.string())
    return paths.cast(pa.string()).to_pylist(), labels.to_pylist()


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
