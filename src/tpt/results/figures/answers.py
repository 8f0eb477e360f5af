"""One run's answers before and after adaptation: entropy, reliability, and risk against coverage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tpt.results.figures.style import (
    BLUE,
    GREY,
    MOST_PANELS,
    VERMILION,
    error_bars,
    legend_above,
    line_style,
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
MANY_FLIPS = 300  # above this many changed answers, markers are pixels in SVG
MOST_POINTS = 3000  # unchanged images drawn as points; more become a 2-D histogram


# Lines before and after adaptation, by the suffix of their columns.
SIDES = {"_zero_shot": line_style(1) | {"label": "before"}, "": line_style(0) | {"label": "after"}}


def per_dataset(
    run: Run, measure: str, draw: Callable[[Axes, Run, str], str], x: str, y: str, aspect: float = 1.0
) -> Figure | None:
    """One panel per dataset whose results have a measure; `draw(panel, run, dataset)` returns a line for its title.

    Only as many datasets are drawn as fit in one figure; None without any.
    """
    names = [name for name, about in run.results["datasets"].items() if measure in about][:MOST_PANELS]
    if not names:
        return None
    figure, axes = panels(len(names), aspect)
    for panel, name in zip(axes, names, strict=True):
        panel.set_title(f"{short(name)}\n{draw(panel, run, name)}".strip())
    figure.supxlabel(x)
    figure.supylabel(y)
    legend_above(figure, axes[0])
    return figure


@styled
def entropy_figure(run: Run) -> Figure | None:
    """Marginal entropy of the selected views after tuning against before, one panel per dataset.

    Images whose answer became right or wrong are highlighted (without labels: whose answer changed); the others form
    a grey cloud.  Below the diagonal, tuning made the averaged prediction of the views more confident.  None if no
    answer and no entropy changed.
    """
    rows = answered(run.records)
    pairs = [(rows[name].to_numpy(), rows[f"{name}_zero_shot"].to_numpy()) for name in ("entropy", "pred")]
    if not any((after != before).any() for after, before in pairs):
        return None
    return per_dataset(run, "entropy", _entropies, "marginal entropy before (nats)", "marginal entropy after (nats)")


def _entropies(axes: Axes, run: Run, dataset: str) -> str:
    rows = run.of(dataset)
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
    look: dict[str, Any] = {"linestyle": "none", "markersize": 4, "alpha": 0.7, "markeredgewidth": 0}
    look["rasterized"] = right.sum() + wrong.sum() > MANY_FLIPS
    axes.plot(
        before[right], after[right], "^", color=BLUE, label="became right" if labelled else "changed", zorder=4, **look
    )
    if labelled:
        axes.plot(before[wrong], after[wrong], "v", color=VERMILION, label="became wrong", zorder=3, **look)
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    axes.locator_params(nbins=5)
    return ""


class Bin(NamedTuple):
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


@styled
def reliability_figure(run: Run) -> Figure | None:
    """Accuracy against confidence before and after tuning, with the calibration error, one panel per dataset.

    Bars are 95 % Wilson intervals; the bins are those of the calibration error, or fewer if there are few images.
    On the diagonal, accuracy equals confidence.
    """
    few = any(about["images"] < FEW for about in run.results["datasets"].values() if "ece" in about)
    bins, ticks = FEW_BINS if few else BINS, range(0, 101, 25)

    def draw(panel: Axes, run: Run, name: str) -> str:
        rows, about = run.of(name), run.results["datasets"][name]
        label = rows["label"].to_numpy()
        panel.plot([0, 100], [0, 100], color="black", linewidth=0.6)
        for end, look in SIDES.items():
            confidence, right = rows[f"confidence{end}"].to_numpy(), rows[f"pred{end}"].to_numpy() == label
            found = reliability(confidence.astype(float), right, bins)
            thin = look | {"elinewidth": 0.6, "markersize": 3.5}
            error_bars(panel, [b.confidence for b in found], [b.accuracy for b in found], **thin)
        panel.set(xlim=(0, 102), ylim=(-2, 102), aspect="equal", xticks=ticks, yticks=ticks)
        return f"ECE {about['ece_zero_shot']:.1f} → {about['ece']:.1f} %"

    return per_dataset(run, "ece", draw, f"confidence (%), {bins} bins", "accuracy (%)", aspect=1.1)


@styled
def risk_figure(run: Run) -> Figure | None:
    """Error rate among the most confident answers before and after adaptation, one panel per dataset.

    The title of each panel gives the area under each curve in %; smaller is better.
    """

    def draw(panel: Axes, run: Run, name: str) -> str:
        rows, areas = run.of(name), []
        for end, look in SIDES.items():
            confidence, right = rows[f"confidence{end}"].to_numpy(), rows[f"rank{end}"].to_numpy() == 0
            coverage, risk = risk_curve(confidence, right)(weights := np.ones(len(right)))
            panel.plot(PERCENT * coverage, PERCENT * risk, **(look | {"marker": ""}))
            areas.append(f"{risk_area(confidence, right)(weights):.1f}")
        panel.set(xlim=(0, 100), xticks=range(0, 101, 25))
        panel.set_ylim(bottom=0)
        return f"AURC {' → '.join(areas)} %"

    coverage = "coverage: share of images answered, most confident first (%)"
    return per_dataset(run, "ece", draw, coverage, "risk: wrong answers among these (%)", aspect=1.1)
