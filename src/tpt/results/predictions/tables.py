"""Predictions as tables: CSV, JSON, Parquet; written as they come, so that any number of them fits in memory."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tpt.errors import UserError
from tpt.files import harmless, writing
from tpt.results.predictions.prediction import Prediction

SUFFIXES = (".csv", ".json", ".parquet")
AT_ONCE = 1024  # predictions in memory
DIGITS = 6  # of a probability in CSV and JSON


def write_predictions(predictions: Iterable[Prediction], path: str | Path, top: int | None = None) -> Path:
    """Writes a table whole or not at all, and gives its path.

    CSV and Parquet have the columns path, answer, probability, answer_2, probability_2 and so on, answer_before,
    probability_before, views_selected, problem; what does not apply is empty.  JSON is a list of objects, in which
    `top` is a list and `selected` holds the views themselves.  In CSV a text that a spreadsheet would take for a
    formula has an apostrophe before it, and a line break or another control character is a code, such as `\\n`.

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


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ANSWER = (("answer", pa.string()), ("probability", pa.float32()))


def _row(prediction: Prediction, top: int) -> list[Any]:
    padded = [*prediction.top[:top], *((None, None),) * (top - len(prediction.top))]
    before = (prediction.answer_before, prediction.probability_before)
    selected = None if prediction.answer is None else len(prediction.selected)
    return [prediction.path, *itertools.chain(*padded), *before, selected, prediction.problem]


def _write_csv(predictions: Iterable[Prediction], path: Path, top: int) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(schema(top).names)
        writer.writerows([_text(value) for value in _row(prediction, top)] for prediction in predictions)


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
            values = zip(*some, strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(values, columns.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=columns))
