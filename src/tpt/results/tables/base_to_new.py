"""CoCoOp's base-to-new table: a context learned on half of the classes, tested on these and on the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tpt.errors import UserError
from tpt.results.tables.grid import HEADERS, MISSING, Grid, Legend, Line, Text
from tpt.results.tables.published import AVERAGE, content, paper_backbone
from tpt.results.tables.report import dataset_cell
from tpt.results.tables.rows import Row, rows_of
from tpt.results.tables.runs import Run

SETTING = "data.classes"
BASE, NEW = "base", "new"


@dataclass(frozen=True)
class Halves:
    """One cell.

    Args:
        base, new: accuracy in % on the classes that the context was learned on, and on the others.
    """

    base: float
    new: float

    @property
    def harmonic_mean(self) -> float:
        """Harmonic mean of the two, in %; 0 if either is 0."""
        return 2 * self.base * self.new / (self.base + self.new) if self.base and self.new else 0.0


@dataclass(frozen=True)
class BaseToNew:
    """One row.

    Args:
        row: of the runs on base classes.
        cells: by dataset that both halves were tested on.
        printed: the published averages over eleven datasets; None if there are none.
    """

    row: Row
    cells: Mapping[str, Halves]
    printed: Halves | None

    @property
    def average(self) -> Halves:
        """Means over the datasets; as in the paper, their harmonic mean is that of the means."""
        return Halves(*(float(np.mean([getattr(cell, half) for cell in self.cells.values()])) for half in (BASE, NEW)))


def base_to_new(runs: Sequence[Run]) -> list[BaseToNew]:
    """The rows that have both halves of a dataset's classes.

    Args:
        runs: with `data.classes=base` and `data.classes=new`; others are left out.

    Raises:
        UserError: no dataset was tested on both halves by the same method.
    """
    halves = {half: rows_of([run for run in runs if run.settings.get(SETTING) == half]) for half in (BASE, NEW)}
    others = {(row.label, row.first.backbone): row for row in halves[NEW]}
    found = []
    for row in halves[BASE]:
        other = others.get((row.label, row.first.backbone))
        cells = {} if other is None else _cells(row, other)
        if cells:
            found.append(BaseToNew(row, cells, _printed(row)))
    if not found:
        raise UserError(
            "Expected runs of the same method on both halves of a dataset's classes, found none; test with "
            "data.classes=base and with data.classes=new."
        )
    return found


def _cells(row: Row, other: Row) -> dict[str, Halves]:
    cells = {}
    for name in dict.fromkeys(name for run in row.runs for name in run.to_test):
        base, new = (dataset_cell(each, name).accuracy for each in (row, other))
        if base is not None and new is not None:
            cells[name] = Halves(base, new)
    return cells


def _printed(row: Row) -> Halves | None:
    backbone = paper_backbone(row.first.backbone)
    for printed in content()["base_to_new"]["rows"]:
        if (printed["backbone"], printed["method"]) == (backbone, row.first.method):
            return Halves(printed["base"], printed["new"])
    return None


def base_to_new_grids(found: Sequence[BaseToNew]) -> tuple[list[Grid], Legend]:
    """The table, datasets across, and what stands under it."""
    names = tuple(dict.fromkeys(name for row in found for name in row.cells))
    lines = [line for row in found for line in _lines(row, names)]
    grid = Grid("Base to new", ("method", "backbone", *names, HEADERS[AVERAGE]), tuple(lines))
    remarks = [
        "harmonic mean of the accuracies on base and on new classes, which stand below; in %, averages of the means"
    ]
    if any(row.printed is not None for row in found):
        remarks.append(f"published: {content()['base_to_new']['source']}")
    return [grid], Legend((), tuple(remarks))


def _lines(row: BaseToNew, names: Sequence[str]) -> list[Line]:
    values: list[tuple[str, Callable[[Halves], float]]] = [
        (row.row.label, lambda cell: cell.harmonic_mean),
        ("base", lambda cell: cell.base),
        ("new", lambda cell: cell.new),
    ]
    found: list[Halves | None] = [*(row.cells.get(name) for name in names), row.average]
    lines = [
        Line(
            label,
            "" if number else row.row.first.backbone,
            tuple(Text(MISSING if cell is None else f"{value(cell):.2f}") for cell in found),
            main=not number,
        )
        for number, (label, value) in enumerate(values)
    ]
    if row.printed is not None:
        printed = f"{row.printed.harmonic_mean:.2f} ({row.printed.base:.2f}, {row.printed.new:.2f})"
        lines.append(Line("published", "", (*(Text(MISSING) for _ in names), Text(printed)), main=False))
    return lines
