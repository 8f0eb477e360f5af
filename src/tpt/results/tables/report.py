"""The tables of a report as numbers; `tpt.results.tables.formats` renders them as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tpt.data.catalog.entries import group_of
from tpt.data.dataset import without_outside
from tpt.errors import UserError
from tpt.results.runs.settings import LIMIT
from tpt.results.tables.comparability import Mark, marks_of, printed_method
from tpt.results.tables.published import AVERAGE, OOD_AVERAGE, printed_row, printed_tables
from tpt.results.tables.results import SOURCES
from tpt.results.tables.rows import Row, rows_of, seeds_of
from tpt.results.tables.runs import Run, images_of
from tpt.results.tables.statistics import PERCENT, Interval, difference_interval, mcnemar, mean_of_intervals


class Comparison(NamedTuple):
    """Two accuracies on the images that both sides have."""

    first: float  # in %
    second: float
    points: Interval  # their difference in percentage points, with its paired 95 % interval
    p_value: float | None  # of the exact McNemar test; None if a side is a mean over runs, and for averages
    images: int  # images that both sides have
    only_one: int  # images that only one side has

    @property
    def improvement(self) -> float | None:
        """Relative improvement over `second`, as in Shu et al., Figure 2; None if `second` is 0."""
        return (self.first - self.second) / self.second if self.second else None


@dataclass(frozen=True)
class Cell:
    """One cell; accuracies and calibration errors are in %, averaged over seeds."""

    accuracy: float | None = None  # None if missing
    std: float | None = None  # over seeds or orders, with the divisor n - 1; None for fewer than two
    printed: float | None = None  # the published accuracy, None if there is none
    printed_error: float | None = None  # the published calibration error over 20 bins
    source: str | None = None  # source of the published accuracy
    marks: tuple[Mark, ...] = ()  # how it differs from the paper's cell, or what is missing
    gain: Interval | None = None  # over the same prompt before tuning, in points; None if the method does not adapt
    p_value: float | None = None  # of that gain, by the exact McNemar test; None for averages and over several seeds
    against: Comparison | None = None  # comparison with the report's reference row
    images: int = 0  # images with an answer, summed over seeds
    ece: float | None = None  # calibration error over 15 bins
    ece20: float | None = None  # calibration error over 20 bins
    seconds: float | None = None  # per image
    class_accuracy: float | None = None  # mean of the class accuracies
    worst: float | None = None  # the lowest accuracy over the orders of a stream; None for fewer than two

    @property
    def difference(self) -> float | None:
        """Difference from the printed accuracy, in percentage points; None if the two are not comparable."""
        if self.accuracy is None or self.printed is None or self.marks:
            return None
        return self.accuracy - self.printed


@dataclass(frozen=True)
class Table:
    """One table of a report."""

    caption: str
    datasets: tuple[str, ...]  # its columns before the averages
    averages: Mapping[str, tuple[str, ...]]  # the average columns: key -> datasets
    rows: tuple[tuple[Row, Mapping[str, Cell]], ...]  # with one cell per column

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.datasets, *self.averages)


@dataclass(frozen=True)
class Report:
    """Tables with the same rows: the paper's tables, one per group of datasets, and one for other datasets."""

    tables: tuple[Table, ...]
    against: str | None = None  # label of the row that the other rows are compared with

    @property
    def cells(self) -> list[tuple[Row, Cell]]:
        """Every cell of every table, with its row."""
        return [(row, cell) for table in self.tables for row, cells in table.rows for cell in cells.values()]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of all cells."""
        return tuple(mark for _, cell in self.cells for mark in cell.marks)

    @property
    def rows(self) -> list[Row]:
        """Every row once."""
        return list(dict.fromkeys(row for row, _ in self.cells))


def make_report(
    runs: Sequence[Run], against: str | Sequence[Run] | None = None, source: Sequence[str] = SOURCES
) -> Report:
    """Makes the report of finished or unfinished runs.

    Args:
        against: label or method of a row, or runs, to compare every other row with.
        source: datasets that the shifted average leaves out, in tables that are not the paper's.

    Raises:
        UserError: there are no runs, there is no such row, or no other row has an image in common with it.
    """
    if not runs:
        raise UserError("Expected at least one run, got none; pass directories of test_time.py.")
    rows = sorted(rows_of(runs), key=lambda row: row.first.stream)  # stream methods last
    others = {} if against is None else _others(rows, against)
    here = list(dict.fromkeys(name for run in runs for name in without_outside(run.to_test)))
    papers = dict(printed_tables())
    groups = {caption: datasets for caption, datasets in papers.items() if {*datasets} & {*here}}
    printed = {name for datasets in groups.values() for name in datasets}
    # Corruptions of one severity and domains of one dataset have tables of their own; the others come last.
    for name in sorted((name for name in here if name not in printed), key=lambda name: not group_of(name)[0]):
        caption = group_of(name)[0] or ("Other datasets" if {*groups} - {"Accuracy"} else "Accuracy")
        groups[caption] = (*groups.get(caption, ()), name)
    tables = tuple(
        _table(caption, datasets, SOURCES if caption in papers else source, rows, others)
        for caption, datasets in groups.items()
    )
    if against is None:
        return Report(tables)
    names = {other.label for other in others.values()}
    label = names.pop() if len(names) == 1 else against if isinstance(against, str) else "that run"
    made = Report(tables, label)
    if not any(cell.against for _, cell in made.cells):
        raise UserError(
            f"{label} and the other rows have no images in common. Test them on the same datasets, under data.limit "
            "with the same seed."
        )
    return made


def _others(rows: Sequence[Row], against: str | Sequence[Run]) -> dict[Row, Row]:
    """Maps each row to its reference row; of several rows with the given name, the one of the same backbone."""
    if isinstance(against, str):
        asked, found = against, [row for row in rows if against in (row.label, row.first.method)]
    else:
        asked, paths = ", ".join(str(run.path) for run in against), {run.path.resolve() for run in against}
        found = [row for row in rows if {run.path.resolve() for run in row.runs} == paths] or rows_of(against)

    def refused(among: Sequence[Row]) -> UserError:
        names = ", ".join(dict.fromkeys(row.label for row in among or rows))
        return UserError(f"Expected one row to compare with, got {len(among)} for {asked!r}; name one of: {names}.")

    if not found or (len(found) > 1 and not isinstance(against, str)):
        raise refused(found)
    others = {}
    for row in [row for row in rows if row not in found]:
        near = [other for other in found if other.first.backbone == row.first.backbone]
        near = [other for other in near if other.label == against] or near or (found if len(found) == 1 else [])
        if len(near) > 1:
            raise refused(near)
        if near:
            others[row] = near[0]
    return others


def _table(
    caption: str, datasets: tuple[str, ...], left_out: Sequence[str], rows: Sequence[Row], others: Mapping[Row, Row]
) -> Table:
    """The table of some datasets; `left_out` does not count in its out-of-distribution average."""
    shifted = tuple(name for name in datasets if name not in left_out)
    averages = {AVERAGE: datasets} if len(datasets) > 1 else {}
    averages |= {OOD_AVERAGE: shifted} if 0 < len(shifted) < len(datasets) else {}
    filled = []
    asked: dict[str, Run] = {}
    for row in rows:
        tested = {name: runs[0] for name in datasets if (runs := row.having(name))}
        if not tested:
            continue
        cells = {name: dataset_cell(row, name, others.get(row)) for name in datasets}
        for name, run in tested.items():
            if not asked.setdefault(name, run).same_test_set(run, name):
                other = Mark("other images or classes than in the first row that has the dataset", name)
                cells[name] = replace(cells[name], marks=(*cells[name].marks, other))
        means = {key: average_cell(row, key, columns, cells) for key, columns in averages.items()}
        filled.append((row, cells | means))
    return Table(caption, datasets, averages, tuple(filled))


def dataset_cell(row: Row, dataset: str, other: Row | None = None) -> Cell:
    """The cell of a row on a dataset, optionally compared with another row."""
    runs = row.having(dataset)
    marks = tuple(dict.fromkeys(mark for run in runs for mark in marks_of(run, dataset)))
    cell = replace(_printed(row, dataset, (dataset,)), marks=marks)
    answered = answered_on(row, dataset)
    if not answered:
        return cell
    found = [run.results["datasets"][dataset] for run in answered]
    ece, ece20, classes = (float(np.mean([about[key] for about in found])) for key in ("ece", "ece20", "class_acc"))
    gain, p_value = gain_of_tuning(answered, dataset) if row.first.adapts else (None, None)
    return replace(
        _over_seeds(cell, row, [about["acc"] for about in found]),
        marks=marks + seed_marks(row, dataset),
        gain=gain,
        p_value=p_value,
        against=None if other is None else compare(answered, other.having(dataset), dataset),
        images=sum(about["images"] for about in found),
        ece=ece,
        ece20=ece20,
        class_accuracy=classes,
        seconds=float(np.mean([1 / about["images_per_second"] for about in found])),
    )


def answered_on(row: Row, dataset: str) -> list[Run]:
    """A row's runs that have answers for labelled images of a dataset."""
    return [run for run in row.runs if "acc" in run.results["datasets"].get(dataset, {})]


def _printed(row: Row, column: str, datasets: Sequence[str]) -> Cell:
    """A cell with only the published numbers of a column, from the table that has these datasets."""
    run = row.first
    methods = {printed_method(run, name) for name in datasets}
    found = printed_row(run.backbone, methods.pop() if len(methods) == 1 else run.method, datasets[0])
    accuracy, error = found.accuracies.get(column), found.errors.get(column)
    return Cell(printed=accuracy, printed_error=error, source=None if accuracy is None else found.source)


def _over_seeds(cell: Cell, row: Row, values: Sequence[float]) -> Cell:
    """The cell with mean, standard deviation and, for stream methods, minimum of the accuracies of several seeds."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    worst = min(values) if row.first.stream and len(values) > 1 else None
    return replace(cell, accuracy=float(np.mean(values)) if values else None, std=std, worst=worst)


def seed_marks(row: Row, dataset: str) -> tuple[Mark, ...]:
    """Marks of a mean over seeds: missing seeds, or different subsets."""
    answered = answered_on(row, dataset)
    expected, found = len(row.by_seed()), len(answered)
    marks = [Mark(f"mean over {found} of {expected} seeds")] if found < expected else []
    if len({seeds_of(run)[0] for run in answered if run.settings.get(LIMIT) is not None}) > 1:
        marks.append(Mark("each seed drew other images, which the deviation over seeds holds as well"))
    return tuple(marks)


def average_cell(row: Row, key: str, columns: Sequence[str], cells: Mapping[str, Cell]) -> Cell:
    """Mean over datasets with equal weights; missing if any of them is missing."""
    printed, parts = _printed(row, key, columns), [cells[name] for name in columns]
    if any(cell.accuracy is None for cell in parts):
        return printed
    whole = []  # one average per seed that has all datasets
    for runs in row.by_seed().values():
        found = {name: d["acc"] for run in runs for name, d in run.results["datasets"].items() if "acc" in d}
        if set(columns) <= set(found):
            whole.append(float(np.mean([found[name] for name in columns])))
    gains = [cell.gain for cell in parts if cell.gain is not None]
    values = {n: [getattr(c, n) for c in parts] for n in ("accuracy", "ece", "ece20", "seconds", "class_accuracy")}
    means: dict[str, Any] = {name: None if None in each else float(np.mean(each)) for name, each in values.items()}
    return replace(
        _over_seeds(printed, row, whole),
        marks=tuple(dict.fromkeys(mark for cell in parts for mark in cell.marks)),
        gain=mean_of_intervals(gains) if gains else None,
        against=mean_comparison([cell.against for cell in parts]),
        images=sum(cell.images for cell in parts),
        **means,
    )


def compare(first: Sequence[Run], second: Sequence[Run], dataset: str) -> Comparison | None:
    """Compares the runs of two rows on the images of a dataset that both have, by path; None if there are none.

    Raises:
        UserError: images with the same path differ in bytes or class, or the numbers of classes differ.
    """
    classes = {run.to_test[dataset]["classes"]: run for run in (*first, *second) if dataset in run.to_test}
    if len(classes) > 1:
        (here, left), (there, right), *_ = classes.items()
        raise UserError(
            f"Expected the same classes of {dataset!r} in runs that are compared, got {here} in {left.path} and "
            f"{there} in {right.path}; compare runs on the same classes."
        )
    ours, theirs = images_of(first, dataset), images_of(second, dataset)
    pairs = {path: (ours[path], theirs[path]) for path in ours if path in theirs}
    if not pairs:
        return None
    for path, (own, others) in pairs.items():
        if len({(outcome.content, outcome.label) for outcome in own + others}) > 1:
            raise UserError(
                f"{path} of {dataset!r} is not the same picture of the same class in {first[0].path} and in "
                f"{second[0].path}. Compare runs on the same data and classes."
            )
    one, two = (
        np.array([sum(o.after for o in side) / len(side) for side in sides])
        for sides in zip(*pairs.values(), strict=True)
    )
    points, p_value = _paired(one, two, all(len(own) == len(others) == 1 for own, others in pairs.values()))
    alone = len(ours) + len(theirs) - 2 * len(pairs)
    return Comparison(PERCENT * float(one.mean()), PERCENT * float(two.mean()), points, p_value, len(pairs), alone)


def mean_comparison(datasets: Sequence[Comparison | None]) -> Comparison | None:
    """Mean over datasets with equal weights; None if there are none, or one has no image in common."""
    known = [found for found in datasets if found is not None]
    if not known or len(known) < len(datasets):
        return None
    one, two = (float(np.mean([getattr(c, side) for c in known])) for side in ("first", "second"))
    points = mean_of_intervals([found.points for found in known])
    return Comparison(one, two, points, None, sum(c.images for c in known), sum(c.only_one for c in known))


def gain_of_tuning(runs: Sequence[Run], dataset: str) -> tuple[Interval, float | None]:
    """The gain in points of answers after tuning over those before, and its p-value if each image has one answer.

    An image that several seeds drew has proportionally more weight, so the means are means of all answers.
    """
    found = list(images_of(runs, dataset).values())
    weight = len(found) / sum(map(len, found))
    after, before = (
        np.array([weight * sum(getattr(o, side) for o in each) for each in found]) for side in ("after", "before")
    )
    return _paired(after, before, all(len(each) == 1 for each in found))


def _paired(first: np.ndarray, second: np.ndarray, single: bool) -> tuple[Interval, float | None]:
    """The difference of two shares of right runs per image, in points, and McNemar's p-value if each is `single`."""
    won, lost = int((first > second).sum()), int((first < second).sum())
    return difference_interval(first - second), mcnemar(won, lost) if single else None
