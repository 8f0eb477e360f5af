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
from tpt.results.tables.comparability import Mark, marks_of, printed_method
from tpt.results.tables.compare import Comparison, compare, gain_of_tuning, mean_comparison
from tpt.results.tables.published import AVERAGE, OOD_AVERAGE, printed_row, printed_tables
from tpt.results.tables.results import SOURCES
from tpt.results.tables.rows import Row, rows_of, seeds_of
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import Interval, mean_of_intervals


@dataclass(frozen=True)
class Cell:
    """One cell; accuracies and calibration errors are in %, and means over seeds."""

    accuracy: float | None = None  # None if it is missing
    std: float | None = None  # over seeds or orders, with the divisor n - 1; None for fewer than two
    printed: float | None = None  # the published accuracy, None if there is none
    printed_error: float | None = None  # the published calibration error over 20 bins
    source: str | None = None  # where these were read
    marks: tuple[Mark, ...] = ()  # how it differs from the paper's cell, or what it lacks
    gain: Interval | None = None  # over the same prompt before tuning, in points; None if nothing is tuned
    p_value: float | None = None  # of that gain, by the exact McNemar test; None for averages and over several seeds
    against: Comparison | None = None  # over the row that the report compares with
    images: int = 0  # answered, of all seeds together
    ece: float | None = None  # calibration error over 15 bins
    ece20: float | None = None  # and over 20
    seconds: float | None = None  # per image
    class_accuracy: float | None = None  # the mean of the accuracies of classes
    worst: float | None = None  # the lowest accuracy over the orders of a stream; None for fewer than two

    @property
    def difference(self) -> float | None:
        """Difference to the printed accuracy, in percentage points; None if the two are not comparable."""
        if self.accuracy is None or self.printed is None or self.marks:
            return None
        return self.accuracy - self.printed


@dataclass(frozen=True)
class Table:
    """One table."""

    caption: str
    datasets: tuple[str, ...]  # its columns before the averages
    averages: Mapping[str, tuple[str, ...]]  # the average columns: key -> datasets
    rows: tuple[tuple[Row, Mapping[str, Cell]], ...]  # with a cell for each column

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.datasets, *self.averages)


@dataclass(frozen=True)
class Report:
    """Tables of the same rows: the paper's, those of groups of datasets, and one of the other datasets."""

    tables: tuple[Table, ...]
    against: str | None = None  # label of the row that others are compared with

    @property
    def cells(self) -> list[tuple[Row, Cell]]:
        """Every cell of every table, with its row."""
        return [(row, cell) for table in self.tables for row, cells in table.rows for cell in cells.values()]

    @property
    def rows(self) -> list[Row]:
        """Every row once."""
        return list(dict.fromkeys(row for row, _ in self.cells))


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
    if against is None:
        return Report(tuple(tables))
    names = {other.label for other in others.values()}
    label = names.pop() if len(names) == 1 else against if isinstance(against, str) else "that run"
    made = Report(tuple(tables), label)
    if not any(cell.against for _, cell in made.cells):
        raise UserError(
            f"{label} and the other rows have no images in common. Test them on the same datasets, under data.limit "
            "with the same seed."
        )
    return made


def _others(rows: Sequence[Row], against: str | Sequence[Run]) -> dict[Row, Row]:
    """The row that each row is compared with; a name that several backbones have means that of the row's own."""
    if not isinstance(against, str):
        found = [_given(rows, against)]
    elif not (found := [row for row in rows if against in (row.label, row.first.method)]):
        known = ", ".join(dict.fromkeys(row.label for row in rows))
        raise UserError(
            f"Expected a run's directory or the name of a row to compare with, got {against!r}; name one of: {known}."
        )
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
    return others


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
        tested = {name: row.having(name)[0] for name in datasets if row.having(name)}
        if not tested:
            continue
        cells = {name: dataset_cell(row, name, others.get(row)) for name in datasets}
        for name, run in tested.items():
            if not asked.setdefault(name, run).same_test_set(run, name):
                other = Mark("other images or classes than in the first row that has the dataset", name)
                cells[name] = replace(cells[name], marks=(*cells[name].marks, other))
        means = {key: average_cell(row, key, columns, cells, others.get(row)) for key, columns in averages.items()}
        filled.append((row, {**cells, **means}))
    return Table(caption, datasets, averages, tuple(filled))


def dataset_cell(row: Row, dataset: str, other: Row | None = None) -> Cell:
    """What a row's runs found on a dataset, also against another row."""
    runs = row.having(dataset)
    marks = tuple(dict.fromkeys(mark for run in runs for mark in marks_of(run, dataset)))
    cell = replace(_printed(row, dataset, (dataset,)), marks=marks)
    answered = answered_on(row, dataset)
    if not answered:
        return cell
    found = [run.results["datasets"][dataset] for run in answered]
    seconds = [1 / about["images_per_second"] for about in found if about["images_per_second"]]
    ece, ece20, classes = (float(np.mean([about[key] for about in found])) for key in ("ece", "ece20", "class_acc"))
    gain, p_value = gain_of_tuning(answered, dataset) if row.first.adapts else (None, None)
    others = [] if other is None else other.having(dataset)
    return replace(
        _over_seeds(cell, row, [about["acc"] for about in found]),
        marks=marks + seed_marks(row, answered),
        gain=gain,
        p_value=p_value,
        against=compare(answered, others, dataset) if others else None,
        images=sum(about["images"] for about in found),
        ece=ece,
        ece20=ece20,
        class_accuracy=classes,
        seconds=float(np.mean(seconds or [0.0])),
    )


def answered_on(row: Row, dataset: str) -> list[Run]:
    """A row's runs that have answers to labelled images of a dataset."""
    return [run for run in row.runs if "acc" in run.results["datasets"].get(dataset, {})]


def _printed(row: Row, column: str, datasets: Sequence[str]) -> Cell:
    """A cell that has only what is published for a column of the table of some datasets."""
    run = row.first
    methods = {printed_method(run, name) for name in datasets}
    found = printed_row(run.backbone, methods.pop() if len(methods) == 1 else run.method, datasets[0])
    accuracy, error = found.accuracies.get(column), found.errors.get(column)
    return Cell(printed=accuracy, printed_error=error, source=None if accuracy is None else found.source)


def _over_seeds(cell: Cell, row: Row, values: Sequence[float]) -> Cell:
    """The cell with the mean, the deviation and, of a stream, the lowest of the accuracies of several seeds."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    worst = min(values) if row.first.stream and len(values) > 1 else None
    return replace(cell, accuracy=float(np.mean(values)) if values else None, std=std, worst=worst)


def seed_marks(row: Row, answered: Sequence[Run]) -> tuple[Mark, ...]:
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
    printed, parts = _printed(row, key, columns), [cells[name] for name in columns]
    if any(cell.accuracy is None for cell in parts):
        return printed
    whole = []  # the averages of the seeds that have all datasets
    for runs in row.by_seed().values():
        found = {name: d["acc"] for run in runs for name, d in run.results["datasets"].items() if "acc" in d}
        if set(columns) <= set(found):
            whole.append(float(np.mean([found[name] for name in columns])))
    gains = [gain_of_tuning(row.having(name), name)[0] for name in columns] if row.first.adapts else []
    values = {n: [getattr(c, n) for c in parts] for n in ("accuracy", "ece", "ece20", "seconds", "class_accuracy")}
    means: dict[str, Any] = {name: None if None in each else float(np.mean(each)) for name, each in values.items()}
    return replace(
        _over_seeds(printed, row, whole),
        marks=tuple(dict.fromkeys(mark for cell in parts for mark in cell.marks)),
        gain=mean_of_intervals(gains) if gains else None,
        against=None if other is None else mean_comparison([cell.against for cell in parts]),
        images=sum(cell.images for cell in parts),
        **means,
    )
