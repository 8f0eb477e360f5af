"""The answer for one picture, and a list of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

from tpt.results.runs import read_records

AT_ONCE = 1024  # records that are Python's own objects at the same time


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

    def write(self, path: str | Path) -> Path:
        """Writes a table, see `write_predictions`, and gives its path."""
        from tpt.results.predictions.tables import write_predictions  # noqa: PLC0415 -- which knows this module

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
