"""The style of all figures: a paper's column width, text of at least 8 points, colours for colour-blind readers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from tpt.files import with_suffix, writing
from tpt.results.tables.statistics import Interval

COLUMN, PAGE = 3.4, 6.9  # inches: width of one column of a two-column paper, and of both
POINTS = 8  # smallest text size
# Okabe and Ito, "Color universal design" (2008), without yellow (hard to see) and black (used otherwise).
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#777777"
LOOKS = {  # of lines; the numbers of colours and markers have no common factor
    "color": (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY),
    "marker": ("o", "s", "^", "D", "v", "P", "X"),
    "linestyle": ("-", "--", "-.", ":"),
}
DPI = 300
MOST_PANELS = 12
MOST_LINES = 6  # of a remark
LINE = 0.17  # inches per line of a legend
# Leaves out the program (PNG) and the time (SVG, PDF), so that equal figures have equal bytes.
METADATA: dict[str, Any] = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
RC: Any = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), POINTS),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize", "figure.labelsize", "figure.titlesize"), POINTS),
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tpt",  # the same figure has the same bytes
}
style = partial(context, RC, after_reset=True)  # regardless of the user's matplotlib settings
styled = style()  # decorates a drawing function


def line_style(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of the n-th line; no two of the first forty are the same."""
    return {name: values[number % len(values)] for name, values in LOOKS.items()}


def error_bars(axes: Axes, x: Any, intervals: Sequence[Interval], **look: Any) -> Any:
    """Draws means with their intervals, and returns matplotlib's container."""
    means, low, high = np.asarray([(i.mean, i.low, i.high) for i in intervals]).T
    return axes.errorbar(x, means, yerr=np.clip([means - low, high - means], 0, None), **look)


def panels(number: int, aspect: float = 1.0) -> tuple[Figure, list[Axes]]:
    """A figure with up to three panels per row, and its axes; `aspect` is a panel's height divided by its width."""
    columns = min(number, 3)
    rows = -(-number // columns)
    width = (COLUMN, 5.0, PAGE)[columns - 1]
    figure = Figure(figsize=(width, width / columns * aspect * rows + 0.6))
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for spare in axes[number:]:
        spare.remove()
    return figure, axes[:number]


def short(name: str, length: int = 28) -> str:
    """A name cut to fit above a panel, with `$` escaped so that it is not read as mathematics."""
    cut = name if len(name) <= length else f"{name[: length - 3]}..."
    return cut.replace("$", r"\$")


def save_as(figure: Figure, path: str | Path) -> Path:
    """Writes a figure whole or not at all, in the format of the suffix; the same figure gives the same bytes."""
    path = with_suffix(path, METADATA)
    with writing(path) as partial, style():
        figure.savefig(partial, format=path.suffix[1:], dpi=DPI, metadata=METADATA[path.suffix.lower()])
    return path


@styled
def remark(figure: Figure, texts: Sequence[str]) -> None:
    """Adds text under a figure, such as what is missing in it, wrapped into lines; adds nothing if there is no text."""
    characters = int(figure.get_figwidth() / 0.066)
    lines = [line for text in texts for line in textwrap.wrap(text, characters)]
    if lines:
        shown = "\n".join(lines[:MOST_LINES]) + (" ..." if len(lines) > MOST_LINES else "")
        figure.set_figheight(figure.get_figheight() + 0.14 * min(len(lines), MOST_LINES))
        shown = shown.replace("$", r"\$")
        if label := figure.get_supxlabel():
            figure.supxlabel(f"{label}\n{shown}")
        else:  # as a legend, because the layout reserves space for legends
            figure.legend([], [], title=shown, loc="outside lower left", alignment="left")


def legend_above(figure: Figure, axes: Axes) -> None:
    """Adds one legend of the labels in `axes`, in as many columns as fit, and makes the figure taller for its lines."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max((len(label) for label in labels), default=1)
    fitting = int(figure.get_figwidth() / (0.45 + 0.065 * longest))
    columns = max(1, min(fitting, len(labels)))
    figure.set_figheight(figure.get_figheight() + LINE * (-(-len(labels) // columns) - 1))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)
