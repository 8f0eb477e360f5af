"""Risk against coverage: how many answers are wrong if only the surest are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tpt.results.figures.answers import datasets_of
from tpt.results.figures.style import BLUE, VERMILION, legend_above, panels, short, styled
from tpt.results.tables.runs import Run
from tpt.results.tables.scores import risk_area, risk_curve
from tpt.results.tables.statistics import PERCENT


@styled
def risk_figure(run: Run) -> Figure:
    """Share of wrong answers among the surest ones before and after adaptation, a panel for each dataset.

    Above each panel stands the area under both curves, which is better the smaller it is.

    Raises:
        UserError: no image with a label has an answer.
    """
    names = datasets_of(run, "ece")
    figure, axes = panels(len(names), aspect=1.1)
    for panel, name in zip(axes, names, strict=True):
        rows = run.of(name)
        handles, areas = zip(
            _curve(panel, rows, "_zero_shot", {"color": VERMILION, "linestyle": "--"}),
            _curve(panel, rows, "", {"color": BLUE, "linestyle": "-"}),
            strict=True,
        )
        panel.set(xlim=(0, 100), xticks=range(0, 101, 25))
        panel.set_ylim(bottom=0)
        panel.set_title(f"{short(name)}\nAURC {areas[0]:.1f} → {areas[1]:.1f} %")
    figure.supxlabel("coverage: share of the images answered, the surest first (%)", fontsize="medium")
    figure.supylabel("risk: wrong answers among these (%)", fontsize="medium")
    legend_above(figure, handles, ["before", "after"])
    return figure


def _curve(axes: Axes, rows: pa.Table, end: str, look: dict[str, Any]) -> tuple[Any, float]:
    confidence, right = rows[f"confidence{end}"].to_numpy(), rows[f"rank{end}"].to_numpy() == 0
    every = np.ones(len(right))
    coverage, risk = risk_curve(confidence, right)(every)
    (line,) = axes.plot(PERCENT * coverage, PERCENT * risk, **look)
    return line, risk_area(confidence, right)(every)
