"""Methods side by side: what they gain against what they cost, and how sure they are against how right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from tpt.errors import UserError
from tpt.results.figures.answers import FEW, FEW_BINS, reliability
from tpt.results.figures.style import COLOURS, DASHES, MARKERS, PAGE, styled
from tpt.results.tables.measures import BINS, PERCENT
from tpt.results.tables.report import Table, average_cell
from tpt.results.tables.rows import Row
from tpt.results.tables.statistics import Interval


@dataclass(frozen=True)
class Compared:
    """One row: its mean gain over the datasets, its seconds an image, and its answers on all of them together."""

    row: Row
    gain: Interval | None
    seconds: float | None
    confidence: np.ndarray
    right: np.ndarray

    @property
    def ece(self) -> float:
        """Calibration error in percent of all answers together, with as many bins as are drawn."""
        bins = reliability(self.confidence, self.right, bins_of(self.right))
        return sum(PERCENT * abs(b.accuracy - b.confidence) * b.images for b in bins) / max(1, len(self.right))


def compared(table: Table) -> list[Compared]:
    """The rows of a table that have answers to labelled images, on the datasets that all of them have."""
    rows = [(row, cells) for row, cells in table.rows if any(cell.accuracy is not None for cell in cells.values())]
    shared = [name for name in table.datasets if all(cells[name].accuracy is not None for _, cells in rows)]
    found = []
    for row, cells in rows if shared else ():
        mean = cells[shared[0]] if len(shared) == 1 else average_cell(row, "", shared, cells)
        parts = [run.of(name) for name in shared for run in row.having(name)]
        confidence = np.concatenate([part["confidence"].to_numpy().astype(float) for part in parts])
        right = np.concatenate([part["pred"].to_numpy() == part["label"].to_numpy() for part in parts])
        found.append(Compared(row, mean.gain, mean.seconds, confidence, right))
    return found


def bins_of(answers: np.ndarray) -> int:
    """Fifteen bins, or fewer if answers are few."""
    return BINS if len(answers) >= FEW else FEW_BINS


@styled
def methods_figure(rows: Sequence[Compared]) -> Figure:
    """Gain over zero-shot against seconds an image, with 95 % intervals, and reliability, a colour for each row.

    Args:
        rows: of one table, as `compared` gives them; a row without a gain, such as zero-shot, is drawn at 0.

    Raises:
        UserError: fewer than two rows.
    """
    if len(rows) < 2:
        raise UserError(f"Expected at least two methods to compare, got {len(rows)}.")
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 3.2), layout="constrained", width_ratios=(1.15, 1))
    handles = []
    for number, each in enumerate(rows):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        _cost(left, each, look)
        found = reliability(each.confidence, each.right, bins_of(each.right))
        (line,) = right.plot(
            [PERCENT * b.confidence for b in found],
            [PERCENT * b.accuracy for b in found],
            linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
            label=f"{each.row.label}, ECE {each.ece:.1f} %",
            **look,
        )
        handles.append(line)
    left.axhline(0, color="black", linewidth=0.6)
    left.set(
        xscale="log",
        xlabel="seconds an image (with encoding if no cache had it)",
        ylabel="gain over zero-shot (points)",
    )
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.plot([0, 100], [0, 100], color="black", linewidth=0.6)
    right.set(xlim=(0, 102), ylim=(-2, 102), aspect="equal", xlabel="confidence (%)", ylabel="accuracy (%)")
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _cost(axes: Axes, each: Compared, look: dict[str, Any]) -> None:
    if each.seconds is None:
        return
    gain = each.gain or Interval(0.0, 0.0, 0.0)
    spread = [[max(0.0, gain.mean - gain.low)], [max(0.0, gain.high - gain.mean)]]
    axes.errorbar([each.seconds], [gain.mean], spread if each.gain else None, linestyle="none", **look)
