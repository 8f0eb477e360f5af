"""The confusions that adaptation caused and removed."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tpt.results.figures.style import BLUE, MOST_PANELS, PAGE, VERMILION, legend_above, short, styled
from tpt.results.tables.classes import Confusion, confusions
from tpt.results.tables.runs import Run

MOST, LEAST = 12, 2  # pairs per dataset, and smallest change of a pair, in images


@styled
def confusion_figure(run: Run) -> Figure | None:
    """One bar per pair of classes: images no longer confused (left) and newly confused (right); None without any.

    There is one panel per dataset with `main_confusions`, the most changed pairs on top.
    """
    found = {name: main_confusions(run, name) for name, d in run.results["datasets"].items() if "acc" in d}
    shown = [(name, pairs) for name, pairs in found.items() if pairs][:MOST_PANELS]
    if not shown:
        return None
    heights = [len(pairs) + 2 for _, pairs in shown]
    figure = Figure(figsize=(PAGE, 0.17 * sum(heights) + 1.0))
    axes = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights).flatten().tolist()
    for panel, (name, pairs) in zip(axes, shown, strict=True):
        places = range(len(pairs))
        panel.barh(places, [-pair.corrected for pair in pairs], color=BLUE, label="corrected")
        panel.barh(places, [pair.made for pair in pairs], color=VERMILION, hatch="///", label="made")
        panel.axvline(0, color="black", linewidth=0.6)
        panel.set_yticks(places, [f"{short(p.truth, 24)} predicted as {short(p.answer, 24)}" for p in pairs])
        panel.invert_yaxis()
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        panel.set_title(short(name))
    axes[-1].set_xlabel("images")
    legend_above(figure, axes[0])
    return figure


def main_confusions(run: Run, dataset: str) -> list[Confusion]:
    """Pairs of classes confused more or less often than before by at least two images, the largest changes first.

    A net change of one image is treated as chance.
    """
    found = [pair for pair in confusions(run, dataset) if abs(pair.made - pair.corrected) >= LEAST]
    return sorted(found, key=lambda pair: -abs(pair.made - pair.corrected))[:MOST]
