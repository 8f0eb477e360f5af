"""The confusions that adaptation made and mended."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tpt.errors import UserError
from tpt.results.figures.style import BLUE, MOST_PANELS, PAGE, VERMILION, legend_above, short, styled
from tpt.results.tables.classes import Confusion, confusions
from tpt.results.tables.runs import Run

MOST, LEAST = 12, 2  # pairs of each dataset, and images that a pair changed by


@styled
def confusion_figure(run: Run) -> Figure:
    """A bar for each pair of classes: to the left images that are confused no more, to the right those that are now.

    A panel for each dataset that has `main_confusions`, the most changed pairs on top.
    """
    found = {name: main_confusions(run, name) for name, d in run.results["datasets"].items() if "acc" in d}
    shown = [(name, pairs) for name, pairs in found.items() if pairs][:MOST_PANELS]
    if not shown:
        raise UserError(
            f"Adaptation changed no confusion of {run.path} by more than one image, so there is nothing to draw."
        )
    heights = [len(pairs) + 2 for _, pairs in shown]
    figure = Figure(figsize=(PAGE, 0.17 * sum(heights) + 1.0), layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights).flatten().tolist()
    for panel, (name, pairs) in zip(axes, shown, strict=True):
        _bars(panel, pairs)
        panel.set_title(short(name))
    axes[-1].set_xlabel("images")
    handles, labels = axes[0].get_legend_handles_labels()
    legend_above(figure, handles, labels)
    return figure


def main_confusions(run: Run, dataset: str) -> list[Confusion]:
    """The pairs of classes that are confused more, or less, often than before by two images at least.

    The largest changes first; one image more or less is chance, and what was made and mended as often is none.
    """
    found = [pair for pair in confusions(run, dataset) if abs(pair.made - pair.mended) >= LEAST]
    return sorted(found, key=lambda pair: -abs(pair.made - pair.mended))[:MOST]


def _bars(axes: Axes, pairs: list[Confusion]) -> None:
    places = range(len(pairs))
    axes.barh(places, [-pair.mended for pair in pairs], color=BLUE, label="mended")
    axes.barh(places, [pair.made for pair in pairs], color=VERMILION, hatch="///", label="made")
    axes.axvline(0, color="black", linewidth=0.6)
    names = [f"{short(pair.truth, 24)} taken for {short(pair.answer, 24)}" for pair in pairs]
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
