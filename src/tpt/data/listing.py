"""Reads datasets from a table of paths and labels: CSV, TSV, Parquet or Excel."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from datetime import date, time
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import Orientation
from tpt.data.labels import ClassNames, number_labels
from tpt.data.names import plain
from tpt.data.store import FileStore, refuse_unusable
from tpt.errors import DataError, Filled, checked
from tpt.files import read_bytes, readable
from tpt.files.lists import OLD_WORKBOOK, PARQUET, ZIP, decode_text

_SEPARATORS = (",", "\t", ";")
# Texts that spreadsheets show in a cell whose formula failed.
_FORMULA_ERRORS = {"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#SPILL!", "#CALC!", "Err:502"}
_ANY = 2**63  # no size limit for a Parquet file, since only two columns are read


@checked
def image_list(
    path: Filled | Path,
    root: Filled | Path | None = None,
    name: str | None = None,
    class_names: ClassNames | None = None,
    path_column: str = "path",
    label_column: str = "label",
    orientation: Orientation = "apply",
    first_label: Literal[0, 1] | None = None,
) -> ImageDataset:
    """Images listed in a table.

    Args:
        path: a text file with a header, separated by commas, tabs or semicolons, in UTF-8 or UTF-16, optionally
            compressed with gzip; a Parquet file; or the first sheet of an Excel workbook (.xlsx, needs openpyxl).
        root: the folder or zip archive that paths are relative to; the table's own folder if None.  Absolute paths must
            be inside it; if it is None and some are outside the table's folder, their common folder is used.
        name: name in logs and results; the table's name if None.
        class_names: a list, or a file in any form of `tpt.files.lists.parse_list`.  Labels are looked up among its
            keys; without keys, numbers are positions in the list and texts are its names.  None uses the sorted labels.
        path_column, label_column: names of the two columns.
        orientation: as for `image_folder`.
        first_label: number of the first class, for numbers and names without keys; with None, labels that may start at
            0 or at 1 are an error.

    Raises:
        DataError: the table, a column, a name or an image is missing, a path leaves `root`, or labels are ambiguous.
    """
    path = Path(path).expanduser()
    rows = _rows(path, path_column, label_column)
    kept = [row for row in rows if not PurePosixPath(row[0]).name.startswith("._")]  # macOS's hidden files
    skipped = len(rows) - len(kept)
    notes = [f"{skipped} rows of files that are not pictures (._*) were skipped"] if skipped else []
    names, numbers = number_labels([label for _, label in kept], class_names, path, first_label)
    base, paths = _from_base([image for image, _ in kept], root, path)
    store = FileStore(base)
    refuse_unusable(store, paths, path)
    samples = [Sample(p, k) for p, k in zip(paths, numbers, strict=True)]
    own = name or plain(path.name.removesuffix(".gz").rpartition(".")[0] or path.name)
    return ImageDataset(own, names, samples, store, notes, upright=orientation == "apply").noted()


def _from_base(paths: list[str], root: str | Path | None, table: Path) -> tuple[str | Path, list[str]]:
    """The base folder and the paths relative to it, so that names do not depend on the folder above.

    Other absolute paths are left as they are, and refused like all that lead out of the folder.
    """
    base = table.parent if root is None else root
    if not all(path.startswith("/") for path in paths):
        return base, paths
    here, whole = PurePosixPath(Path(base).expanduser().absolute()), [PurePosixPath(path) for path in paths]
    if root is None and not all(path.is_relative_to(here) for path in whole):
        here = PurePosixPath(os.path.commonpath([path.parent for path in whole]))
    return Path(here), [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in whole]


def _rows(path: Path, path_column: str, label_column: str) -> list[tuple[str, str]]:
    """The path and label of every row."""
    what = f"{path} as a CSV, TSV or Parquet table of texts and numbers"
    with readable(what, "Check data.path or fix it"):
        start = read_bytes(path, _ANY, first=4)
        kinds = {PARQUET: _parquet, ZIP: _workbook, OLD_WORKBOOK: _workbook}
        table = kinds.get(start, _text)(path, path_column, label_column)
        if absent := [c for c in (path_column, label_column) if table.column_names.count(c) != 1]:
            raise DataError(
                f"{path} needs one column {absent[0]!r}, but its columns are "
                f"{', '.join(map(repr, table.column_names))}. Set data.path_column or data.label_column, or rename one."
            )
        paths, labels = (table[c].cast(pa.string()).to_pylist() for c in (path_column, label_column))
    if not all(paths) or not all(labels):
        raise DataError(f"Some rows of {path} have no path or no label. Fill them.")
    if failed := next((cell for cell in (*paths, *labels) if cell in _FORMULA_ERRORS), None):
        raise DataError(f"A formula of {path} failed ({failed}). Correct the cell.")
    return list(zip(paths, labels, strict=True))


def _parquet(path: Path, path_column: str, label_column: str) -> Any:
    with pa.parquet.ParquetFile(path) as file:
        there = all(file.schema_arrow.names.count(column) == 1 for column in (path_column, label_column))
        return file.read(columns=[path_column, label_column]) if there else file.schema_arrow.empty_table()


def _text(path: Path, path_column: str, label_column: str) -> Any:
    """The table with cells as written: "007" in a path is not a number, and "NA" or "true" may be a class."""
    text = decode_text(read_bytes(path))
    heads = {s: next(csv.reader(io.StringIO(text), delimiter=s), []) for s in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda s: ({path_column, label_column} <= {*heads[s]}, len(heads[s])))
    kinds = {path_column: pa.string(), label_column: pa.string()}
    convert = pa.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    return pa.csv.read_csv(pa.BufferReader(text.encode("utf-8")), parse_options=parse, convert_options=convert)


def _workbook(path: Path, path_column: str, label_column: str) -> Any:
    """The first sheet of an Excel workbook, without empty rows."""
    if not zipfile.is_zipfile(path) or "xl/workbook.xml" not in zipfile.ZipFile(path).namelist():
        raise DataError(
            f"Expected a CSV, TSV, Parquet or .xlsx table at {path}, got an older workbook or an archive (.xls, .ods, "
            ".zip), or a damaged one; save its sheet as CSV, or unpack it."
        )
    try:
        import openpyxl  # noqa: PLC0415 - optional
    except ImportError as error:
        raise DataError(f"The workbook {path} needs the package openpyxl. Install it: pip install openpyxl.") from error
    try:
        with path.open("rb") as file:  # openpyxl accepts a path only if it ends in .xlsx
            sheet = openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets[0]
            rows = [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
    except Exception as error:  # damaged parts raise many types
        raise ValueError(f"{type(error).__name__}: {error}") from error
    head, *body = rows or [()]
    wanted = [k for k, cell in enumerate(head) if cell in (path_column, label_column)]
    if dated := next((row[k] for row in body for k in wanted if isinstance(row[k], date | time)), None):
        raise DataError(
            f"Expected texts or numbers in {path}, got the date {dated}, as Excel makes of 3-1; write names "
            "in cells of the format Text."
        )
    columns = [[_shown(row[k]) for row in body] for k in range(len(head))]
    return pa.table([pa.array(column, pa.string()) for column in columns], names=[str(cell) for cell in head])


def _shown(cell: Any) -> str:
    """A cell as the spreadsheet shows it."""
    return str(cell).upper() if isinstance(cell, bool) else "" if cell is None else str(cell)
