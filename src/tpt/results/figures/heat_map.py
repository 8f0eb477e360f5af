"""The transfer matrix as a heat map."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tpt.results.figures.style import COLUMN, PAGE, short, styled
from tpt.results.tables.grid import signed
from tpt.results.tables.pivots import Transfer

COLOURS = "PuOr"  # diverging; safe for colour-blind readers, and its ends differ in grey
LEAST = 0.05  # smallest limit of the scale, so that noise does not fill it
WIDE = 3  # most targets whose numbers fit their cells in one column of a paper, next to long names


@styled
def transfer_figure(matrix: Transfer) -> Figure:
    """Relative improvement over zero-shot, one row per source, one column per target; untested cells are hatched."""
    cells = [[matrix.cells.get((source, target)) for target in matrix.targets] for source in matrix.sources]
    values = np.array([[cell and cell.improvement for cell in row] for row in cells], dtype=float)  # NaN for None
    known = values[~np.isnan(values)]
    most = max(float(np.abs(known).max()) if known.size else 0.0, LEAST)
    width = COLUMN if len(matrix.targets) <= WIDE else PAGE
    figure = Figure(figsize=(width, 1.6 + 0.36 * len(matrix.sources)))
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(values), cmap=COLOURS, vmin=-most, vmax=most, aspect="auto")
    axes.patch.set(hatch="////", edgecolor="#bbbbbb")
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            colour = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"  # readable on the cell
            axes.text(j, i, signed(float(value)), ha="center", va="center", color=colour)
    slanted: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(matrix.targets)), [short(name, 18) for name in matrix.targets], **slanted)
    axes.set_yticks(range(len(matrix.sources)), [short(name, 18) for name in matrix.sources])
    axes.set(xlabel="tested on", ylabel="learned on", title=short(matrix.title, 60))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="relative improvement", fraction=0.06, pad=0.03)
    return figure
