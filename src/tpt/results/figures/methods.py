"""A comparison of methods: gain, seconds per image and calibration error of each, on one line next to its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from tpt.results.figures.style import BLUE, GREY, PAGE, short, styled
from tpt.results.runs.records import read_method_seconds
from tpt.results.tables.comparability import UNFINISHED
from tpt.results.tables.report import Table, average_cell
from tpt.results.tables.rows import Row
from tpt.results.tables.statistics import Interval

ROW, AROUND = 0.21, 0.95  # inches: height of a row, and of the axis labels


@dataclass(frozen=True)
class Compared:
    """One row's results on the datasets that all rows share."""

    row: Row
    gain: Interval | None  # mean over the datasets; None if the method does not adapt
    seconds: float | None  # per image; of the method alone, or with decoding and encoding if not recorded separately
    encodes: bool  # whether `seconds` may include decoding and encoding
    ece: float | None  # in %, as in the table
    unfinished: bool
    where: str  # the datasets, in words


def compared(table: Table) -> list[Compared]:
    """The rows of a table that have answers to labelled images, on the datasets that all of them share."""
    rows = [(row, cells) for row, cells in table.rows if any(cell.accuracy is not None for cell in cells.values())]
    shared = [name for name in table.datasets if all(cells[name].accuracy is not None for _, cells in rows)]
    tested = sum(any(row.having(name) for row, _ in rows) for name in table.datasets)
    where = f"mean of {len(shared)}{f' of {tested}' if tested > len(shared) else ''} datasets"
    where = f"on {shared[0]}" if len(shared) == 1 else where
    found = []
    for row, cells in rows if shared else ():
        mean = average_cell(row, "", shared, cells)
        own = [read_method_seconds(run.path, shared) for run in row.runs]
        known = [value for value in own if value is not None]
        whole = len(known) == len(own)
        seconds = float(np.mean(known)) if whole else mean.seconds
        unfinished = any(mark.why == UNFINISHED for mark in mean.marks)
        found.append(Compared(row, mean.gain, seconds, not whole, mean.ece, unfinished, where))
    return found


@styled
def methods_figure(rows: Sequence[Compared]) -> Figure:
    """Gain over zero-shot with 95 % intervals, seconds per image and ECE, one line per row.

    A row without a gain, such as zero-shot, is drawn at 0; the points of an unfinished row are hollow.
    """
    figure = Figure(figsize=(PAGE, AROUND + ROW * len(rows)))
    gain, seconds, ece = figure.subplots(1, 3, sharey=True, width_ratios=(3, 2.2, 2))
    _points(gain, rows, [each.gain or Interval(0.0, 0.0, 0.0) for each in rows])
    _points(seconds, rows, [_exact(each.seconds or None) for each in rows], "{:.2g}")
    _points(ece, rows, [_exact(each.ece) for each in rows], "{:.1f}")
    gain.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    gain.set_xlabel(f"gain over zero-shot (points)\n{short(rows[0].where)}")
    of_what = "with encoding if no cache had it" if any(each.encodes for each in rows) else "of the method alone"
    seconds.set_xlabel(f"seconds per image,\n{of_what}")
    seconds.set_xscale("log")
    seconds.margins(x=0.3)  # for the numbers right of the points
    seconds.xaxis.set_major_locator(LogLocator(numticks=4))
    seconds.xaxis.set_major_formatter("{x:g}")
    seconds.minorticks_off()
    ece.set_xlabel("ECE (%)")
    ece.set_xlim(0, 1.3 * max([each.ece for each in rows if each.ece is not None], default=1.0))
    gain.set_yticks(
        range(len(rows)), [short(f"{each.row.label}{' (unfinished)' if each.unfinished else ''}", 48) for each in rows]
    )
    gain.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _exact(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, value, value)


def _points(axes: Axes, rows: Sequence[Compared], values: Sequence[Interval | None], written: str = "") -> None:
    """Draws one point per row with a value, its interval, and the number in the format `written` to its right."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for place, (each, value) in enumerate(zip(rows, values, strict=True)):
        if value is not None:
            colour = BLUE if each.row.first.adapts else "black"
            axes.plot(value.mean, place, "o", color=colour, markerfacecolor="white" if each.unfinished else colour)
            axes.plot([value.low, value.high], [place] * 2, color=colour, zorder=1)
            look: Any = {"va": "center", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
            axes.annotate(written.format(value.mean), (value.mean, place), (6, 0), "data", "offset points", **look)
