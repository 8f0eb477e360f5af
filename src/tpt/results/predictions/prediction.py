"""The answer for one picture, a list of them, and tables of them: CSV, JSON, Parquet, written as they come."""

from __future__ import annotations

import csv
import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import pyarrow as pa
import pyarrow.parquet as pq

from tpt.errors import UserError
from tpt.files import harmless, writing
from tpt.results.runs import read_records

AT_ONCE = 1024  # records that are Python's own objects at the same time, whose number has no bound
SUFFIXES = (".csv", ".json", ".parquet")
KEPT = ("path", "answer", "probability")  # columns of CSV that stay where all are empty
DIGITS = 6  # of a probability in CSV and JSON
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ANSWER = (("answer", pa.string()), ("probability", pa.float32()))


class Likely(NamedTuple):
    """One of the likeliest classes and its probability."""

    answer: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The result for one picture; without an answer, `problem` says why, and all else is None or empty.

    Args:
        path: of the picture, or its place among those that were given, such as `image 3`.
        answer: name of the likeliest class, after adaptation.
        probability: of it, in [0, 1].
        top: the likeliest classes, the answer first.
        answer_before: as the model answers without adaptation.
        probability_before: of that answer, before adaptation.
        selected: indices of the views that were trusted, most confident first; view 0 is the picture itself.
        seconds: that it took, its share of its batch.
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


class Predictions(Sequence[Prediction]):
    """Predictions in the order of their pictures; printed, a line each.

    Args:
        predictions: of the pictures.
    """

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self._predictions = tuple(predictions)

    def __len__(self) -> int:
        return len(self._predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Predictions: ...

    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        found = self._predictions[index]
        return found if isinstance(found, Prediction) else Predictions(found)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._predictions)

    def __repr__(self) -> str:
        return "\n".join(map(str, self._predictions))

    def to_pandas(self) -> Any:
        """The table that `write` makes, as a data frame.

        Raises:
            UserError: pandas is not installed.
        """
        top = max((len(prediction.top) for prediction in self), default=1)
        try:
            return _table([_row(prediction, top) for prediction in self], schema(top)).to_pandas()
        except ModuleNotFoundError as error:
            raise UserError("A data frame needs pandas, which is not installed; pip install pandas.") from error

    def write(self, path: str | Path) -> Path:
        """Writes a table, see `write_predictions`, and gives its path."""
        return write_predictions(self, path)


def prediction_of(record: Mapping[str, Any]) -> Prediction:
    """The answer that a record holds.

    Args:
        record: with the columns of `tpt.results.runs.RECORD_SCHEMA`.
    """
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


def stored_predictions(run_dir: str | Path) -> Iterator[Prediction]:
    """The answers of a run's records, in the order of its pictures.

    Raises:
        UserError: there are no records, or they are damaged.
    """
    for some in read_records(run_dir).to_batches(max_chunksize=AT_ONCE):
        yield from map(prediction_of, some.to_pylist())


def write_predictions(predictions: Iterable[Prediction], path: str | Path, top: int | None = None) -> Path:
    """Writes a table whole or not at all, and gives its path.

    CSV and Parquet have the columns path, answer, probability, answer_2, probability_2 and so on, answer_before,
    probability_before, views_selected, problem; what does not apply is empty.  JSON is a list of objects, in which
    `top` is a list and `selected` holds the views themselves.  CSV is made for spreadsheets: it begins with the mark of
    UTF-8, has no column that is empty in every row, an apostrophe before a text that would be taken for a formula, and
    a code, such as `\\n`, for a line break or another control character.

    Args:
        predictions: in the order of the table's rows.
        path: whose suffix, .csv, .json or .parquet, chooses the format; its folder is made.
        top: likeliest classes a row; None takes as many as the first answer has.

    Raises:
        UserError: another suffix.
    """
    path = check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = iter(predictions)
    begun: list[Prediction] = []
    if top is None:  # looks ahead to the first answer
        begun = list(_until_answer(rest))
        top = len(begun[-1].top) if begun else 1
    rows = itertools.chain(begun, rest)
    with writing(path) as partial:
        match path.suffix.lower():
            case ".csv":
                _write_csv(rows, partial, max(1, top))
            case ".json":
                _write_json(rows, partial, max(1, top))
            case ".parquet":
                _write_parquet(rows, partial, max(1, top))
            case _:
                raise AssertionError(path.suffix)
    return path


def check_suffix(path: str | Path) -> Path:
    """The path of a table; raises a UserError if its suffix names no format."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"Expected a file that ends in {', '.join(SUFFIXES)}, got {str(path)!r}; choose one of them.")
    return path


def _until_answer(predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    for prediction in predictions:
        yield prediction
        if prediction.answer is not None:
            return


def schema(top: int) -> pa.Schema:
    """The columns of a table with the `top` likeliest classes."""
    likely = [(f"{name}_{n}", kind) for n in range(2, top + 1) for name, kind in _ANSWER]
    before = [(f"{name}_before", kind) for name, kind in _ANSWER]
    return pa.schema(
        [("path", pa.string()), *_ANSWER, *likely, *before, ("views_selected", pa.int32()), ("problem", pa.string())]
    )


def _row(prediction: Prediction, top: int) -> list[Any]:
    padded = [*prediction.top[:top], *((None, None),) * (top - len(prediction.top))]
    before = (prediction.answer_before, prediction.probability_before)
    selected = None if prediction.answer is None else len(prediction.selected)
    return [prediction.path, *itertools.chain(*padded), *before, selected, prediction.problem]


def _write_csv(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    """Writes all columns while rows come, then those again that hold something."""
    names, used = schema(top).names, {name: name in KEPT for name in schema(top).names}
    with tempfile.TemporaryFile("w+", newline="", encoding="utf-8", errors="backslashreplace") as rows:
        writer = csv.writer(rows, lineterminator="\n")
        for prediction in predictions:
            texts = [_text(value) for value in _row(prediction, top)]
            used |= {name: True for name, text in zip(names, texts, strict=True) if text}
            writer.writerow(texts)
        rows.seek(0)
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = [column for column, name in enumerate(names) if used[name]]
            for texts in itertools.chain([names], csv.reader(rows)):
                writer.writerow([texts[column] for column in columns])


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.{DIGITS}f}"
        case str():
            return harmless(_CONTROL.sub(lambda found: repr(found[0])[1:-1], value))
        case _:
            return str(value)


def _write_json(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for number, prediction in enumerate(predictions):
            file.write(",\n" if number else "[\n")
            json.dump(_about(prediction, top), file, ensure_ascii=False)
        file.write("\n]\n" if file.tell() else "[]\n")


def _about(prediction: Prediction, top: int) -> dict[str, Any]:
    def rounded(probability: float | None) -> float | None:
        return None if probability is None else round(probability, DIGITS)

    return {
        "path": prediction.path,
        "answer": prediction.answer,
        "probability": rounded(prediction.probability),
        "top": [{"answer": a, "probability": rounded(p)} for a, p in prediction.top[:top]],
        "answer_before": prediction.answer_before,
        "probability_before": rounded(prediction.probability_before),
        "selected": list(prediction.selected),
        "problem": prediction.problem,
    }


def _write_parquet(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    columns = schema(top)
    rows = iter(predictions)
    with pq.ParquetWriter(path, columns) as writer:
        while some := [_row(prediction, top) for prediction in itertools.islice(rows, AT_ONCE)]:
            writer.write_table(_table(some, columns))


def _table(rows: Sequence[Sequence[Any]], columns: pa.Schema) -> pa.Table:
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(column, kind) for column, kind in zip(values, columns.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=columns)
