"""Methods side by side: what they gain against what they cost, and how sure they are against how right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from tpt.results.figures.answers import Bin, bins_of, reliability
from tpt.results.figures.style import PAGE, error_bars, line_style, short, styled
from tpt.results.runs.records import read_method_seconds
from tpt.results.tables.comparability import UNFINISHED
from tpt.results.tables.report import Table, average_cell
from tpt.results.tables.rows import Row
from tpt.results.tables.statistics import Interval

TICKS = 5  # on the axis of seconds, at most


@dataclass(frozen=True)
class Compared:
    """One row on the datasets that all rows have."""

    row: Row
    gain: Interval | None  # mean over the datasets; None if nothing adapts
    seconds: float | None  # per image; of the method alone, or from decoding on where records do not tell these apart
    encodes: bool  # whether `seconds` may hold decoding and encoding
    ece: float | None  # in %, as in the table
    unfinished: bool
    bins: list[Bin]  # of the answers to all images together, by their confidence
    where: str  # which datasets these are


def compared(table: Table) -> list[Compared]:
    """The rows of a table that have answers to labelled images, on the datasets that all of them have."""
    rows = [(row, cells) for row, cells in table.rows if any(cell.accuracy is not None for cell in cells.values())]
    shared = [name for name in table.datasets if all(cells[name].accuracy is not None for _, cells in rows)]
    tested = sum(any(row.having(name) for row, _ in rows) for name in table.datasets)
    where = f"mean of {len(shared)}{f' of {tested}' if tested > len(shared) else ''} datasets"
    where = f"on {shared[0]}" if len(shared) == 1 else where
    found = []
    for row, cells in rows if shared else ():
        mean = cells[shared[0]] if len(shared) == 1 else average_cell(row, "", shared, cells)
        parts = [run.of(name) for name in shared for run in row.having(name)]
        confidence = np.concatenate([part["confidence"].to_numpy().astype(float) for part in parts])
        right = np.concatenate([part["pred"].to_numpy() == part["label"].to_numpy() for part in parts])
        own = [read_method_seconds(run.path, shared) for run in row.runs]
        known = [value for value in own if value is not None]
        whole = len(known) == len(own)
        seconds = float(np.mean(known)) if whole else mean.seconds
        unfinished = any(mark.why == UNFINISHED for mark in mean.marks)
        bins = reliability(confidence, right, bins_of(len(right)))
        found.append(Compared(row, mean.gain, seconds, not whole, mean.ece, unfinished, bins, where))
    return found


@styled
def methods_figure(rows: Sequence[Compared]) -> Figure:
    """Gain over zero-shot against seconds per image, with 95 % intervals, and reliability, a colour for each row.

    A row without a gain, such as zero-shot, is drawn at 0.
    """
    names = [_name(each) for each in rows]
    columns = max(1, min(3, int(PAGE / (0.5 + 0.065 * max(map(len, names))))))
    figure = Figure(figsize=(PAGE, 3.1 + 0.16 * -(-len(rows) // columns)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    handles = []
    for number, (each, name) in enumerate(zip(rows, names, strict=True)):
        look = line_style(number)
        if each.seconds:
            gain = each.gain or Interval(0.0, 0.0, 0.0)
            error_bars(left, [each.seconds], [gain], **(look | {"linestyle": "none"}))
        points = [(b.confidence, b.accuracy.mean) for b in each.bins]
        (line,) = right.plot(*zip(*points, strict=True), label=name, **look)
        handles.append(line)
    left.axhline(0, color="black", linewidth=0.6)
    with_encoding = any(each.encodes for each in rows)
    left.set(
        xscale="log",
        xlabel="seconds per image, " + ("with encoding if no cache had it" if with_encoding else "of the method alone"),
        ylabel=f"gain over zero-shot (points)\n{short(rows[0].where)}",
    )
    seconds = [each.seconds for each in rows if each.seconds]
    left.xaxis.set_major_locator(FixedLocator(_ticks(min(seconds, default=1.0), max(seconds, default=1.0))))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.plot([0, 100], [0, 100], color="black", linewidth=0.6)
    right.set(xlim=(0, 102), ylim=(-2, 102), aspect="equal", xlabel="confidence (%)", ylabel="accuracy (%)")
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)
    return figure


def _name(each: Compared) -> str:
    error = "" if each.ece is None else f", ECE {each.ece:.1f} %"
    return short(f"{each.row.label}{' (unfinished)' if each.unfinished else ''}", 60) + error


def _ticks(low: float, high: float) -> list[float]:
    """At most `TICKS` round numbers around a range of seconds, as close to each other as that allows."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in found if low / 1.5 <= tick <= high * 1.5]
        if len(inside) <= TICKS:
            return inside
    return inside[:: -(-len(inside) // TICKS)]
