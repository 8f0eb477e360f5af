"""The answer for one picture, a list of answers, and tables of them as CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import itertools
import json
import re
import tempfile
from collections import UserList
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tpt.errors import UserError
from tpt.files import harmless, with_suffix, writing

AT_ONCE = 1024  # rows held as Python objects at a time, because there may be millions
SUFFIXES = (".csv", ".json", ".parquet")
KEPT = ("path", "answer", "probability")  # CSV columns that are kept even if empty
DIGITS = 6  # decimals of a probability in CSV and JSON
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Likely(NamedTuple):
    """One of the likeliest classes and its probability."""

    answer: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The result for one picture; without an answer, `problem` says why and the fields of answers are empty.

    Args:
        path: path of the picture, or its position in the list, such as `image 3`.
        answer: name of the likeliest class, after adaptation.
        probability: probability of the answer, in [0, 1].
        top: the likeliest classes, the answer first.
        answer_before: name of the likeliest class without adaptation.
        probability_before: probability of that answer without adaptation.
        selected: indices of the selected views, most confident first; view 0 is the picture itself.
        seconds: the picture's share of the batch's time.
        problem: why there is no answer; None if there is one.
    """

    path: str
    answer: str | None
    probability: float | None
    top: tuple[Likely, ...]
    answer_before: str | None
    probability_before: float | None
    selected: tuple[int, ...]
    seconds: float
    problem: str | None

    def __str__(self) -> str:
        if self.answer is None or self.probability is None or self.probability_before is None:
            return f"{self.path}: no answer ({self.problem})"
        before = f"before: {self.answer_before} {100 * self.probability_before:.1f} %"
        return f"{self.path}: {self.answer} {100 * self.probability:.1f} % ({before})"


class Predictions(UserList[Prediction]):
    """Predictions in the order of their pictures; printed, one per line."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))

    @property
    def _most(self) -> int:
        """The number of likeliest classes in the longest answer."""
        return max((len(prediction.top) for prediction in self), default=1)

    def to_pandas(self) -> Any:
        """The table of `write`, as a data frame.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            rows = [_row(prediction, self._most) for prediction in self]
            return pa.Table.from_pylist(rows, schema(self._most)).to_pandas()
        except ModuleNotFoundError as error:
            raise UserError("A data frame needs pandas, which is not installed; pip install pandas.") from error

    def write(self, path: str | Path) -> Path:
        """Writes a table with `write_predictions`, and returns its path."""
        return write_predictions(self, path, self._most)


def prediction_of(record: Mapping[str, Any]) -> Prediction:
    """The answer in a record, which has the columns of `tpt.results.runs.RECORD_SCHEMA`."""
    likely = zip(record["top_name"] or (), record["top_confidence"] or (), strict=True)
    return Prediction(
        path=record["path"],
        answer=record["pred_name"],
        probability=record["confidence"],
        top=tuple(Likely(name, float(probability)) for name, probability in likely),
        answer_before=record["pred_name_zero_shot"],
        probability_before=record["confidence_zero_shot"],
        selected=tuple(record["selected"] or ()),
        seconds=record["seconds"],
        problem=record["problem"],
    )


def predictions_of(records: pa.Table) -> Iterator[Prediction]:
    """The answers in a table of records, in its order."""
    for some in records.to_batches(max_chunksize=AT_ONCE):
        yield from map(prediction_of, some.to_pylist())


def write_predictions(predictions: Iterable[Prediction], path: str | Path, top: int) -> Path:
    """Writes a table, in the format of the path's suffix, whole or not at all, and returns its path.

    docs/predict.md describes the columns of CSV and Parquet, of which `top` is the maximum number of likeliest classes.
    JSON is a list of objects.  In CSV, control characters become escapes such as `\\n`.
    """
    path = with_suffix(path, SUFFIXES)
    write = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}[path.suffix.lower()]
    with writing(path) as partial:
        write(predictions, partial, top)
    return path


def schema(top: int) -> pa.Schema:
    """The columns of a table with the `top` likeliest classes."""
    columns = [("path", pa.string())]
    for end in ("", *(f"_{n}" for n in range(2, top + 1)), "_before"):
        columns += [(f"answer{end}", pa.string()), (f"probability{end}", pa.float32())]
    return pa.schema([*columns, ("views_selected", pa.int32()), ("problem", pa.string())])


def _row(prediction: Prediction, top: int) -> dict[str, Any]:
    """The cells of a row that have a value, by column."""
    row: dict[str, Any] = {"path": prediction.path, "problem": prediction.problem}
    if prediction.answer is not None:
        row["answer_before"], row["probability_before"] = prediction.answer_before, prediction.probability_before
        row["views_selected"] = len(prediction.selected)
    for n, (answer, probability) in enumerate(prediction.top[:top], start=1):
        end = f"_{n}" if n > 1 else ""
        row[f"answer{end}"], row[f"probability{end}"] = answer, probability
    return {name: value for name, value in row.items() if value is not None}


def _write_csv(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    """Writes all columns to a temporary file, then copies those that are not empty."""
    names, used = schema(top).names, {*KEPT}
    with (
        tempfile.TemporaryFile("w+", newline="", encoding="utf-8", errors="backslashreplace") as rows,
        path.open("w", newline="", encoding="utf-8-sig") as file,
    ):
        every = csv.DictWriter(rows, names, lineterminator="\n")
        for prediction in predictions:
            row = _row(prediction, top)
            used |= row.keys()
            every.writerow({name: _text(value) for name, value in row.items()})
        rows.seek(0)
        kept = [name for name in names if name in used]
        table = csv.DictWriter(file, kept, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(csv.DictReader(rows, names))


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return harmless(_CONTROL.sub(lambda found: repr(found[0])[1:-1], value))
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)


def _write_json(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for number, prediction in enumerate(predictions):
            file.write(",\n" if number else "[\n")
            json.dump(_about(prediction, top), file, ensure_ascii=False)
        file.write("\n]\n" if file.tell() else "[]\n")


def _about(prediction: Prediction, top: int) -> dict[str, Any]:
    about = {name: _rounded(value) for name, value in vars(prediction).items() if name != "seconds"}
    return about | {"top": [{"answer": a, "probability": _rounded(p)} for a, p in prediction.top[:top]]}


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value


def _write_parquet(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    columns, rest = schema(top), iter(predictions)
    with pq.ParquetWriter(path, columns) as writer:
        while rows := [_row(prediction, top) for prediction in itertools.islice(rest, AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(rows, columns))
