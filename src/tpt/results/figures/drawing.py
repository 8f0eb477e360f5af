"""Draws every figure for which some runs have data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from tpt.errors import UserError
from tpt.files import file_name
from tpt.results.figures.along import along, along_figure
from tpt.results.figures.answers import entropy_figure, reliability_figure, risk_figure
from tpt.results.figures.confusion import confusion_figure
from tpt.results.figures.heat_map import transfer_figure
from tpt.results.figures.methods import compared, methods_figure
from tpt.results.figures.settings import curves, setting_figure
from tpt.results.figures.style import remark, save_as
from tpt.results.tables.pivots import transfer_matrices
from tpt.results.tables.report import make_report
from tpt.results.tables.rows import coverage_remark, rows_of
from tpt.results.tables.runs import Run

Drawing = tuple[str, Sequence[Run], Callable[[], Figure | None]]
BY_RUN: dict[str, Callable[[Run], Figure | None]] = {  # kinds with one figure per run
    "entropy": entropy_figure,
    "confusions": confusion_figure,
    "reliability": reliability_figure,
    "risk": risk_figure,
}
KINDS = ("accuracy_by", "methods", "stream", "transfer", *BY_RUN)  # prefixes of the names of figures


def figures_of(
    runs: Sequence[Run], learned_on: Mapping[str, str] | None = None, kinds: Sequence[str] = KINDS
) -> Iterator[tuple[str, Figure]]:
    """Yields every figure of the given `KINDS` for which the runs have data, with a name for its file.

    A remark under each figure lists what the runs leave out; `learned_on` is as for `transfer_matrices`.
    """
    for name, used, draw in _drawings(runs, learned_on):
        if name.startswith(tuple(kinds)) and (figure := draw()) is not None:
            remark(figure, list(coverage_remark(used, labels=len(used) > 1)))
            yield name, figure


def _drawings(runs: Sequence[Run], learned_on: Mapping[str, str] | None) -> Iterator[Drawing]:
    """Yields the name, the runs and the drawing function, which returns None without data, of every figure."""
    for found in curves(runs):
        yield f"accuracy_by_{found.setting.rsplit('.', 1)[-1]}", runs, partial(setting_figure, found)
    tables = [rows for table in make_report(runs).tables if len(rows := compared(table)) > 1]
    for number, rows in enumerate(tables, 1):
        used = [run for each in rows for run in each.row.runs]
        yield f"methods{f'_{number}' if len(tables) > 1 else ''}", used, partial(methods_figure, rows)
    for name in dict.fromkeys(name for run in runs for name in run.to_test):
        if lines := along(rows_of(runs), name):
            yield f"stream_{file_name(name)}", runs, partial(along_figure, lines, name)
    with suppress(UserError):  # runs are missing, or it is unknown what a context was learned on
        for matrix in transfer_matrices(runs, learned_on):
            yield f"transfer_{file_name(matrix.title)}", runs, partial(transfer_figure, matrix)
    adapted = [(row, run) for row in rows_of(runs) for run in row.runs if run.adapts and run.results["datasets"]]
    for row, run in adapted:
        seed = f"_seed_{run.results.get('seed')}" if len(row.by_seed()) > 1 else ""
        several = len(row.runs) > len(row.by_seed())  # one run per dataset
        end = file_name(f"{row.label}{seed}{'_' + '_'.join(run.to_test) if several else ''}")
        for kind, draw in BY_RUN.items():
            yield f"{kind}_{end}", [run], partial(draw, run)


def draw_all(
    runs: Sequence[Run],
    folder: str | Path,
    learned_on: Mapping[str, str] | None = None,
    kinds: Sequence[str] = KINDS,
    suffixes: Sequence[str] = ("png", "svg"),
) -> Iterator[Path]:
    """Writes the figures of `figures_of` to a folder, as png, svg or pdf, and yields their paths."""
    taken: dict[str, int] = {}
    for name, figure in figures_of(runs, learned_on, kinds):
        taken[name] = taken.get(name, 0) + 1
        stem = name if taken[name] == 1 else f"{name}_{taken[name]}"
        yield from (save_as(figure, Path(folder) / f"{stem}.{suffix}") for suffix in suffixes)
