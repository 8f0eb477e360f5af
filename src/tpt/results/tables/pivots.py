"""Accuracies by two names: CoCoOp's base-to-new table, and the transfer matrix of the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from tpt.errors import UserError
from tpt.results.tables.compare import Comparison, compare
from tpt.results.tables.grid import HEADERS, MISSING, Grid, Legend, Line, Text, interval_text, signed
from tpt.results.tables.published import AVERAGE, content, paper_backbone
from tpt.results.tables.report import dataset_cell
from tpt.results.tables.rows import Row, rows_of
from tpt.results.tables.runs import Run

HALF = "data.classes"
BASE, NEW = "base", "new"
LEARNED = ("coop", "cocoop")  # methods of Figure 2
BASELINE = "clip"
PART = "a"  # letter of the one mark
T = TypeVar("T")


@dataclass(frozen=True)
class Halves:
    """A cell of a base-to-new table.

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
    """A row of a base-to-new table.

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


@dataclass(frozen=True)
class Transfer:
    """A transfer matrix.

    Args:
        method: coop or cocoop.
        backbone: its name.
        sources, targets: datasets, rows and columns.
        cells: by source and target, the learned context against the written prompt on the images that both were
            tested on; what was not tested is missing.
    """

    method: str
    backbone: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    cells: Mapping[tuple[str, str], Comparison]

    @property
    def title(self) -> str:
        """Learner and backbone."""
        return f"{self.method}, {self.backbone}"


def base_to_new(runs: Sequence[Run]) -> list[BaseToNew]:
    """The rows that have both halves of a dataset's classes.

    Args:
        runs: with `data.classes=base` and `data.classes=new`; others are left out.

    Raises:
        UserError: no dataset was tested on both halves by the same method.
    """
    bases, news = (rows_of([run for run in runs if run.settings.get(HALF) == half]) for half in (BASE, NEW))
    others = {(row.label, row.first.backbone): row for row in news}
    pairs = [(row, others[key]) for row in bases if (key := (row.label, row.first.backbone)) in others]
    found = [BaseToNew(row, cells, _printed(row)) for row, other in pairs if (cells := _halves(row, other))]
    if not found:
        raise UserError(
            "Expected runs of the same method on both halves of a dataset's classes, found none; test with "
            "data.classes=base and with data.classes=new."
        )
    return found


def _halves(row: Row, other: Row) -> dict[str, Halves]:
    cells = {}
    for name in dict.fromkeys(name for run in row.runs for name in run.to_test):
        base, new = (dataset_cell(each, name).accuracy for each in (row, other))
        if base is not None and new is not None:
            cells[name] = Halves(base, new)
    return cells


def _printed(row: Row) -> Halves | None:
    key = paper_backbone(row.first.backbone), row.first.method
    rows = content()["base_to_new"]["rows"]
    return next((Halves(r["base"], r["new"]) for r in rows if (r["backbone"], r["method"]) == key), None)


def transfer_matrices(runs: Sequence[Run], learned_on: Mapping[str, str] | None = None) -> list[Transfer]:
    """One matrix for each learner and backbone.

    Args:
        runs: with learned contexts (rows coop and cocoop), and of `row=clip` for the zero-shot accuracy.
        learned_on: a run's directory or its context's path -> dataset, if its `training.json` does not say.

    Raises:
        UserError: there is no run of one of these kinds, or the dataset a context was learned on is not known.
    """
    learned = [run for run in runs if run.method in LEARNED]
    baselines = [run for run in runs if run.method == BASELINE]
    if not learned:
        raise UserError("Expected runs with a learned context, got none; test with row=coop or row=cocoop.")
    if not baselines:
        raise UserError(f"Expected runs of row={BASELINE} for the zero-shot accuracy, got none; add them.")
    given = {_absolute(path): name for path, name in (learned_on or {}).items()}
    matrices: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in learned:
        by_source = matrices.setdefault((run.method, run.backbone), {})
        by_source.setdefault(_learned_on(run, given), []).append(run)
    return [_matrix(*key, by_source, baselines) for key, by_source in matrices.items()]


def _absolute(path: object) -> str:
    return str(Path(str(path)).expanduser().resolve())


def _learned_on(run: Run, given: Mapping[str, str]) -> str:
    """The dataset that the context of a run was learned on; `given` has some by absolute path of a run or context."""
    context = run.settings.get("context.path")
    for path in (run.path, *([context] if isinstance(context, str) else [])):
        if (found := given.get(_absolute(path))) is not None:
            return found
    if run.training is None or run.training.source is None:
        raise UserError(
            f"Expected a training.json beside the context of {run.path} that names the dataset it was learned on, "
            f"found none; pass --learned-on {run.path}=DATASET."
        )
    return run.training.source


def _matrix(method: str, backbone: str, by_source: Mapping[str, list[Run]], baselines: Sequence[Run]) -> Transfer:
    near = [run for run in baselines if run.backbone == backbone]
    targets = tuple(dict.fromkeys(name for runs in by_source.values() for run in runs for name in run.to_test))
    cells = {}
    for source, runs in by_source.items():
        row, *more = rows_of(runs)  # of several seeds, for a cell holds one number
        if more:
            raise UserError(
                f"Expected one kind of context learned on {source}, got {row.label} ({row.first.path}) and "
                f"{more[0].label} ({more[0].first.path}); give runs that differ in the seed alone."
            )
        for target in targets:
            cell = compare(row.having(target), [run for run in near if target in run.to_test], target)
            if cell is not None:
                cells[source, target] = cell
    sources = tuple(sorted(by_source, key=lambda name: targets.index(name) if name in targets else len(targets)))
    return Transfer(method, backbone, sources, targets, cells)


def base_to_new_grids(found: Sequence[BaseToNew]) -> tuple[list[Grid], Legend]:
    """The table, datasets across, and what stands under it."""
    names = tuple(dict.fromkeys(name for row in found for name in row.cells))
    below = {BASE: lambda cell: f"{cell.base:.2f}", NEW: lambda cell: f"{cell.new:.2f}"}
    lines: list[Line] = []
    for row in found:
        cells = [*(row.cells.get(name) for name in names), row.average]
        lines += _lines(row.row.label, row.row.first.backbone, cells, _mean, below)
        if (printed := row.printed) is not None:
            said = f"{printed.harmonic_mean:.2f} ({printed.base:.2f}, {printed.new:.2f})"
            lines.append(Line("published", "", (*(Text(MISSING) for _ in names), Text(said)), main=False))
    grid = Grid("Base to new", ("method", "backbone", *names, HEADERS[AVERAGE]), tuple(lines))
    remarks = [
        "harmonic mean of the accuracies on base and on new classes, which stand below; in %, averages of the means"
    ]
    if any(row.printed is not None for row in found):
        remarks.append(f"published: {content()['base_to_new']['source']}")
    return [grid], Legend((), tuple(remarks))


def _mean(cell: Halves) -> Text:
    return Text(f"{cell.harmonic_mean:.2f}")


def transfer_grids(matrices: Sequence[Transfer]) -> tuple[list[Grid], Legend]:
    """The matrices, sources in lines and targets in columns, and what stands under them."""
    partial = [
        f"{source} to {target} {cell.images:,} of {cell.images + cell.only_one:,}"
        for matrix in matrices
        for (source, target), cell in matrix.cells.items()
        if cell.only_one
    ]
    marks = ((PART, f"on the images that both runs have: {'; '.join(partial)}"),) if partial else ()
    remarks = ["(accuracy - zero-shot accuracy) / zero-shot accuracy on the target, as in the paper's Figure 2"]
    if any(matrix.cells for matrix in matrices):
        remarks.append("below it accuracy and zero-shot accuracy in %, and the 95 % interval of their difference")
    return [_transfer_grid(matrix) for matrix in matrices], Legend(marks, tuple(remarks))


def _transfer_grid(matrix: Transfer) -> Grid:
    below = {
        "accuracy": lambda cell: f"{cell.first:.2f}",
        "zero-shot": lambda cell: f"{cell.second:.2f}",
        "95 % interval": lambda cell: interval_text(cell.points),
    }
    lines: list[Line] = []
    for source in matrix.sources:
        cells = [matrix.cells.get((source, target)) for target in matrix.targets]
        lines += _lines(source, matrix.backbone, cells, _improvement, below)
    return Grid(f"Transfer of {matrix.method}", ("learned on", "backbone", *matrix.targets), tuple(lines))


def _improvement(cell: Comparison) -> Text:
    if cell.improvement is None:
        return Text(MISSING)
    return Text(signed(cell.improvement), (PART,) if cell.only_one else ())


def _lines(
    label: str,
    backbone: str,
    cells: Sequence[T | None],
    main: Callable[[T], Text],
    below: Mapping[str, Callable[[T], str]],
) -> Iterator[Line]:
    """A row's main line, and the others under it; of a cell that is None nothing is known."""
    yield Line(label, backbone, tuple(Text(MISSING) if cell is None else main(cell) for cell in cells), main=True)
    for name, text in below.items():
        texts = (MISSING if cell is None else text(cell) for cell in cells)
        yield Line(name, "", tuple(map(Text, texts)), main=False)
