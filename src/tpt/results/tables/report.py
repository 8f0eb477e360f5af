"""The tables of a report as numbers; `tpt.results.tables.formats` makes text of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpt.data.catalog.entries import group_of
from tpt.data.dataset import without_outside
from tpt.errors import UserError
from tpt.results.runs.settings import LIMIT
from tpt.results.tables.comparability import Mark, marks_of, paper_method
from tpt.results.tables.compare import Comparison, compare, gain_of_tuning, mean_comparison, p_value_of
from tpt.results.tables.published import AVERAGE, OOD_AVERAGE, printed_row, printed_tables
from tpt.results.tables.results import SOURCES
from tpt.results.tables.rows import Row, rows_of, seeds_of
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import Interval, difference_interval


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        accuracy: in %, the mean over seeds; None if it is missing.
        std: over seeds or orders, with the divisor n - 1; None for fewer than two.
        worst: the lowest over the seeds or orders of a stream, in %; None for fewer than two, and for other methods.
        printed: the published one, in %; None if there is none.
        printed_error: the published calibration error over 20 bins, in %.
        source: where these were read.
        marks: what sets it off from the paper's cell, or from a whole one.
        gain: over the same prompt before tuning, in percentage points; None if nothing is tuned.
        p_value: of that gain, by the exact McNemar test; None for averages and over several seeds.
        against: over the row that the report compares with.
        images: answered, of all seeds together.
        ece, ece20: calibration error over 15 and over 20 bins, in %, the mean over seeds.
        seconds: an image, the mean over seeds.
        class_accuracy: the mean of the accuracies of classes, in %, the mean over seeds.
    """

    accuracy: float | None = None
    std: float | None = None
    printed: float | None = None
    printed_error: float | None = None
    source: str | None = None
    marks: tuple[Mark, ...] = ()
    gain: Interval | None = None
    p_value: float | None = None
    against: Comparison | None = None
    images: int = 0
    ece: float | None = None
    ece20: float | None = None
    seconds: float | None = None
    class_accuracy: float | None = None
    worst: float | None = None

    @property
    def difference(self) -> float | None:
        """Difference to the printed accuracy, in percentage points; None if the two are not comparable."""
        if self.accuracy is None or self.printed is None or self.marks:
            return None
        return self.accuracy - self.printed


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        caption: what it shows.
        datasets: its columns before the averages.
        averages: the average columns: key -> datasets.
        rows: with a cell for each column.
    """

    caption: str
    datasets: tuple[str, ...]
    averages: Mapping[str, tuple[str, ...]]
    rows: tuple[tuple[Row, Mapping[str, Cell]], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.datasets, *self.averages)


@dataclass(frozen=True)
class Report:
    """Tables of the same rows.

    Args:
        tables: one for each of the paper's that the runs have datasets of, one for each severity of corruptions and
            each dataset of several domains, and one for other datasets.
        against: label of the row that others are compared with.
    """

    tables: tuple[Table, ...]
    against: str | None = None


def make_report(
    runs: Sequence[Run], against: str | Sequence[Run] | None = None, source: Sequence[str] = SOURCES
) -> Report:
    """The report of some runs.

    Args:
        runs: finished or not.
        against: label or method of a row, or runs, which every other row is compared with.
        source: datasets that the shifted average leaves out, in a table that is none of the paper's.

    Raises:
        UserError: there are no runs, no such row, or a row that has no image in common with it.
    """
    if not runs:
        raise UserError("Expected at least one run, got none; pass directories of test_time.py.")
    rows = sorted(rows_of(runs), key=lambda row: row.first.stream)  # the kinds apart
    others = {} if against is None else _others(rows, against)
    here = list(dict.fromkeys(name for run in runs for name in without_outside(run.to_test)))
    tables, left = [], list(here)
    for printed in printed_tables():
        if set(printed.datasets) & set(here):
            averages = {AVERAGE: printed.datasets} | ({OOD_AVERAGE: printed.shifted} if printed.shifted else {})
            tables.append(_table(printed.caption, printed.datasets, averages, rows, others))
            left = [name for name in left if name not in printed.datasets]
    groups = dict.fromkeys(group for name in left if (group := group_of(name)[0]))
    for group in groups:  # corruptions of one severity, domains of one dataset
        inside = tuple(name for name in left if group_of(name)[0] == group)
        tables.append(_table(group, inside, {AVERAGE: inside} if len(inside) > 1 else {}, rows, others))
        left = [name for name in left if name not in inside]
    if left:
        shifted = tuple(name for name in left if name not in source)
        averages = {AVERAGE: tuple(left)} if len(left) > 1 else {}
        averages |= {OOD_AVERAGE: shifted} if shifted and len(shifted) < len(left) else {}
        caption = "Other datasets" if tables else "Accuracy"
        tables.append(_table(caption, tuple(left), averages, rows, others))
    names = dict.fromkeys(other.label for other in others.values())
    return Report(tuple(tables), None if against is None else next(iter(names)) if len(names) == 1 else str(against))


def _others(rows: Sequence[Row], against: str | Sequence[Run]) -> dict[Row, Row]:
    """The row that each row is compared with; a name that several backbones have means that of the row's own."""
    found = _named(rows, against) if isinstance(against, str) else [_given(rows, against)]
    others = {}
    for row in rows:
        near = [other for other in found if other.first.backbone == row.first.backbone]
        near = [other for other in near if other.label == against] or near or (found if len(found) == 1 else [])
        if len(near) > 1 and row not in near:
            raise UserError(
                f"Expected one row of the name {against!r} to compare with, got {len(near)}; name one of: "
                f"{', '.join(other.label for other in near)}."
            )
        if near and row not in found:
            others[row] = near[0]
    if not any(_share(row, other) for row, other in others.items()):
        raise UserError(
            f"Expected images that {found[0].label} ({found[0].first.path}) and another run both have, found none; "
            "test both on the same datasets, under data.limit with the same seed."
        )
    return others


def _named(rows: Sequence[Row], name: str) -> list[Row]:
    found = [row for row in rows if name in (row.label, row.first.method)]
    if not found:
        known = ", ".join(dict.fromkeys(row.label for row in rows))
        raise UserError(
            f"Expected a run's directory or the name of a row to compare with, got {name!r}; name one of: {known}."
        )
    return found


def _given(rows: Sequence[Row], runs: Sequence[Run]) -> Row:
    """The row of a run that was named by its directory: the report's own, if that run makes it alone."""
    (row, *more) = rows_of(runs)
    if more:
        raise UserError(
            f"Expected one row to compare with, got {len(more) + 1} ({row.label}, {more[0].label}, ...); pass the "
            "directory of one run."
        )
    paths = {run.path.resolve() for run in row.runs}
    return next((own for own in rows if {run.path.resolve() for run in own.runs} == paths), row)


def _share(row: Row, other: Row) -> bool:
    """Whether two rows have an image in common."""
    return any(
        not one.outcomes(name).keys().isdisjoint(two.outcomes(name))
        for two in other.runs
        for name in two.to_test
        for one in row.having(name)
    )


def _table(
    caption: str,
    datasets: tuple[str, ...],
    averages: Mapping[str, tuple[str, ...]],
    rows: Sequence[Row],
    others: Mapping[Row, Row],
) -> Table:
    filled = []
    asked: dict[str, Run] = {}
    for row in rows:
        if not any(row.having(name) for name in datasets):
            continue
        cells = {name: dataset_cell(row, name, others.get(row)) for name in datasets}
        for name in datasets:
            for run in row.having(name)[:1]:
                if not asked.setdefault(name, run).same_test_set(run, name):
                    other = Mark("other images or classes than in the first row that has the dataset", name)
                    cells[name] = replace(cells[name], marks=(*cells[name].marks, other))
        means = {key: average_cell(row, key, columns, cells, others.get(row)) for key, columns in averages.items()}
        filled.append((row, {**cells, **means}))
    return Table(caption, datasets, averages, tuple(filled))


def dataset_cell(row: Row, dataset: str, other: Row | None = None) -> Cell:
    """What a row's runs found on a dataset."""
    runs = row.having(dataset)
    if not runs:
        return _printed(row, dataset, dataset)
    marks = tuple(dict.fromkeys(mark for run in runs for mark in marks_of(run, dataset)))
    cell = replace(_printed(row, dataset, dataset), marks=marks)
    answered = [run for run in runs if "acc" in run.results["datasets"].get(dataset, {})]
    if not answered:
        return cell
    accuracies = [run.results["datasets"][dataset]["acc"] for run in answered]
    cell = replace(cell, accuracy=float(np.mean(accuracies)), std=_std(accuracies), marks=marks + _seeds(row, answered))
    cell = replace(cell, worst=_worst(row, accuracies))
    found = [run.results["datasets"][dataset] for run in answered]
    cell = replace(cell, images=sum(about["images"] for about in found), **_means(found))
    if row.first.adapts:
        shared = gain_of_tuning(answered, dataset)
        cell = replace(cell, gain=difference_interval(shared.first - shared.second), p_value=p_value_of(shared))
    if other is not None and (others := other.having(dataset)):
        cell = replace(cell, against=compare(answered, others, dataset))
    return cell


def _printed(row: Row, column: str, dataset: str) -> Cell:
    """A cell that has nothing but what is published; of a column in the table of a dataset."""
    found = printed_row(row.first.backbone, paper_method(row.first), dataset)
    accuracy = found.accuracies.get(column)
    return Cell(None, None, accuracy, found.errors.get(column), None if accuracy is None else found.source)


def _means(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is not compared, as means over seeds."""
    seconds = [1 / about["images_per_second"] for about in found if about["images_per_second"]]
    return {
        "ece": float(np.mean([about["ece"] for about in found])),
        "ece20": float(np.mean([about["ece20"] for about in found])),
        "seconds": float(np.mean(seconds or [0.0])),
        "class_accuracy": float(np.mean([about["class_acc"] for about in found])),
    }


def _seeds(row: Row, answered: Sequence[Run]) -> tuple[Mark, ...]:
    """Marks of a mean over seeds."""
    expected, found = len(row.by_seed()), len(answered)
    marks = [Mark(f"mean over {found} of {expected} seeds")] if found < expected else []
    drawn = {seeds_of(run)[0] for run in answered if run.settings.get(LIMIT) is not None}
    if len(drawn) > 1:
        marks.append(Mark("each seed drew other images, which the deviation over seeds holds as well"))
    return tuple(marks)


def average_cell(
    row: Row, key: str, columns: Sequence[str], cells: Mapping[str, Cell], other: Row | None = None
) -> Cell:
    """The mean over datasets, each counting once; missing if one of them is."""
    printed = _printed(row, key, columns[0])
    if any(cells[name].accuracy is None for name in columns):
        return printed
    marks = tuple(dict.fromkeys(mark for name in columns for mark in cells[name].marks))
    accuracy = float(np.mean([cells[name].accuracy for name in columns]))
    whole = [
        float(np.mean([found[name] for name in columns]))
        for runs in row.by_seed().values()
        if set(columns) <= set(found := _accuracies(runs))
    ]
    gain = None
    if row.first.adapts:
        groups = [gain_of_tuning(row.having(name), name) for name in columns]
        gain = difference_interval(*(shared.first - shared.second for shared in groups))
    against = None if other is None else mean_comparison([cells[name].against for name in columns])
    images = sum(cells[name].images for name in columns)
    others: dict[str, Any] = {
        key: _mean([getattr(cells[name], key) for name in columns])
        for key in ("ece", "ece20", "seconds", "class_accuracy")
    }
    others |= {"accuracy": accuracy, "std": _std(whole), "worst": _worst(row, whole)}
    others |= {"marks": marks, "gain": gain, "against": against}
    return replace(printed, **others, images=images)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _accuracies(runs: Sequence[Run]) -> dict[str, float]:
    datasets = [item for run in runs for item in run.results["datasets"].items()]
    return {name: about["acc"] for name, about in datasets if "acc" in about}


def _worst(row: Row, values: Sequence[float]) -> float | None:
    return min(values) if row.first.stream and len(values) > 1 else None


def _std(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
