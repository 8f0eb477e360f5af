"""One run's answers before and after adaptation: entropy, reliability, and risk against coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from tpt.errors import UserError
from tpt.results.figures.style import (
    BLUE,
    GREY,
    MOST_PANELS,
    VERMILION,
    error_bars,
    legend_above,
    panels,
    short,
    styled,
)
from tpt.results.runs import answered
from tpt.results.tables.results import BINS, binned
from tpt.results.tables.runs import Run
from tpt.results.tables.scores import risk_area, risk_curve
from tpt.results.tables.statistics import PERCENT, Interval, wilson

FEW, FEW_BINS = 300, 5  # with fewer images, fewer bins: fifteen would show only noise
MANY_FLIPS = 300  # above this many changed answers, markers are smaller, and pixels in SVG
MOST_POINTS = 3000  # unchanged images drawn as points; more become a 2-D histogram


# Lines before and after adaptation, by the suffix of their columns; they differ even without colour.
LOOKS: Mapping[str, dict[str, Any]] = {
    "_zero_shot": {"color": VERMILION, "marker": "s", "linestyle": "--"},
    "": {"color": BLUE, "marker": "o", "linestyle": "-"},
}


@styled
def entropy_figure(run: Run) -> Figure:
    """Marginal entropy of the selected views after tuning against before, one panel per dataset.

    Images whose answer became right or wrong are highlighted (without labels: whose answer changed); the others form
    a grey cloud.  Below the diagonal, tuning made the averaged prediction of the views more confident.
    """
    names = datasets_of(run)
    figure, axes = panels(len(names))
    for panel, name in zip(axes, names, strict=True):
        _entropies(panel, run.of(name))
        panel.set_title(short(name))
    figure.supxlabel("marginal entropy before (nats)", fontsize="medium")
    figure.supylabel("marginal entropy after (nats)", fontsize="medium")
    handles, _ = axes[0].get_legend_handles_labels()
    without = run.of(names[0])["label"].null_count
    legend_above(figure, handles, ["unchanged", *(("changed",) if without else ("became right", "became wrong"))])
    return figure


def moved(run: Run) -> bool:
    """Whether adaptation changed any answer or entropy; if not, all points lie on the diagonal."""
    rows = answered(run.records)
    pairs = [(rows[name].to_numpy(), rows[f"{name}_zero_shot"].to_numpy()) for name in ("entropy", "pred")]
    return any(bool((after != before).any()) for after, before in pairs)


def _entropies(axes: Axes, rows: pa.Table) -> None:
    labelled = not rows["label"].null_count
    pred, first = (rows[c].to_numpy() for c in ("pred", "pred_zero_shot"))
    label = rows["label"].to_numpy() if labelled else pred  # otherwise every changed answer is highlighted
    before, after = (rows[c].to_numpy().astype(float) for c in ("entropy_zero_shot", "entropy"))
    right, wrong = (first != label) & (pred == label), (first == label) & (pred != label)
    same = ~(right | wrong)
    most = max(float(np.nanmax([before, after])), 1e-3) * 1.05
    axes.plot([0, most], [0, most], color="black", linewidth=0.6, zorder=1)
    if same.sum() > MOST_POINTS:
        axes.hist2d(before[same], after[same], bins=60, range=[[0, most]] * 2, cmap="Greys", cmin=1, norm="log")
        axes.plot([], [], "s", color=GREY, label="unchanged")
    else:
        axes.plot(before[same], after[same], ".", color=GREY, markersize=3, alpha=0.6, label="unchanged", zorder=2)
    many = right.sum() + wrong.sum() > MANY_FLIPS
    look: dict[str, Any] = {"linestyle": "none", "markersize": 2.5 if many else 5, "rasterized": many}
    look |= {"alpha": 0.5, "markeredgewidth": 0} if many else {"markeredgecolor": "white", "markeredgewidth": 0.4}
    axes.plot(before[right], after[right], "^", color=BLUE, label="right", zorder=4, **look)
    if labelled:
        axes.plot(before[wrong], after[wrong], "v", color=VERMILION, label="wrong", zorder=3, **look)
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    axes.locator_params(nbins=5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence: mean confidence in %, accuracy in % with its interval, and number of images."""

    confidence: float
    accuracy: Interval
    images: int


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The non-empty bins of a reliability diagram (Guo et al., ICML 2017, figure 1), computed as for `ece`."""
    return [
        Bin(PERCENT * sure / images, wilson(hits / images, int(images)), int(images))
        for images, sure, hits in binned(confidence, right, bins).T
        if images
    ]


def before_and_after(
    run: Run, score: str, draw: Callable[[Axes, str, str, dict[str, Any]], tuple[Any, float]], x: str, y: str
) -> Figure:
    """One panel per dataset: a line before and one after adaptation, and the score of each, in %, in the title.

    `draw(panel, dataset, suffix of the columns before or after, line style)` returns the drawn line and its score.
    """
    names = datasets_of(run, "ece")
    figure, axes = panels(len(names), aspect=1.1)
    for panel, name in zip(axes, names, strict=True):
        (first, before), (second, after) = (draw(panel, name, end, look) for end, look in LOOKS.items())
        panel.set_title(f"{short(name)}\n{score} {before:.1f} → {after:.1f} %")
    figure.supxlabel(x, fontsize="medium")
    figure.supylabel(y, fontsize="medium")
    legend_above(figure, [first, second], ["before", "after"])
    return figure


@styled
def reliability_figure(run: Run) -> Figure:
    """Accuracy against confidence before and after tuning, with the calibration error, one panel per dataset.

    Bars are 95 % Wilson intervals; the bins are those of the calibration error, or fewer if there are few images.
    On the diagonal, accuracy equals confidence.
    """
    few = min(run.results["datasets"][name]["images"] for name in datasets_of(run, "ece")) < FEW
    bins = FEW_BINS if few else BINS

    def draw(panel: Axes, name: str, end: str, look: dict[str, Any]) -> tuple[Any, float]:
        rows, ticks = run.of(name), range(0, 101, 25)
        if end:  # draw the diagonal once
            panel.plot([0, 100], [0, 100], color="black", linewidth=0.6)
        panel.set(xlim=(0, 102), ylim=(-2, 102), aspect="equal", xticks=ticks, yticks=ticks)
        confidence = rows[f"confidence{end}"].to_numpy().astype(float)
        found = reliability(confidence, rows[f"pred{end}"].to_numpy() == rows["label"].to_numpy(), bins)
        look = look | {"elinewidth": 0.6, "markersize": 3.5}
        line = error_bars(panel, [b.confidence for b in found], [b.accuracy for b in found], **look)
        return line, run.results["datasets"][name][f"ece{end}"]

    return before_and_after(run, "ECE", draw, f"confidence (%), {bins} bins", "accuracy (%)")


@styled
def risk_figure(run: Run) -> Figure:
    """Error rate among the most confident answers before and after adaptation, one panel per dataset.

    The title of each panel gives the area under each curve in %; smaller is better.
    """

    def draw(panel: Axes, name: str, end: str, look: dict[str, Any]) -> tuple[Any, float]:
        rows = run.of(name)
        confidence, right = rows[f"confidence{end}"].to_numpy(), rows[f"rank{end}"].to_numpy() == 0
        weights = np.ones(len(right))
        coverage, risk = risk_curve(confidence, right)(weights)
        (line,) = panel.plot(PERCENT * coverage, PERCENT * risk, **(look | {"marker": ""}))
        panel.set(xlim=(0, 100), xticks=range(0, 101, 25))
        if not end:  # after both lines, because this also fixes the upper limit
            panel.set_ylim(bottom=0)
        return line, risk_area(confidence, right)(weights)

    coverage = "coverage: share of images answered, most confident first (%)"
    return before_and_after(run, "AURC", draw, coverage, "risk: wrong answers among these (%)")


def datasets_of(run: Run, measure: str = "entropy") -> Sequence[str]:
    """The datasets whose results have a measure, at most as many as fit in one figure."""
    names = [name for name, about in run.results["datasets"].items() if measure in about][:MOST_PANELS]
    if not names:
        raise UserError(f"{run.path} has no answers yet. Wait until it has some.")
    return names
