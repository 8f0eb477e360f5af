"""Accuracy and seconds against a setting that varies in a sweep: views, steps, percentile, or one of a new method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from matplotlib.figure import Figure

from tpt.results.figures.style import COLUMN, GREY, error_bars, legend_above, line_style, short, styled
from tpt.results.runs.settings import REGISTER, axis_label, is_seed, meaning
from tpt.results.tables.rows import Row, differing, rows_of, short_names
from tpt.results.tables.runs import Run, images_of
from tpt.results.tables.statistics import Interval, mean_interval, mean_of_intervals, wilson


@dataclass(frozen=True)
class Point:
    """The results for one value of a setting."""

    value: float
    accuracy: Interval  # in %, mean over datasets, on the images that all points of the figure share
    zero_shot: Interval
    seconds: Interval  # per image


@dataclass(frozen=True)
class Curves:
    """The data of one figure."""

    setting: str  # dotted key of the setting
    lines: Mapping[str, tuple[Point, ...]]  # by label, in order of the value; other settings are constant along a line
    datasets: tuple[str, ...]  # over which the accuracies are averaged


def curves(runs: Sequence[Run]) -> list[Curves]:
    """The curves of each numeric setting that varies while all others stay the same.

    Each figure uses the images that all its runs share.
    """
    rows = [row for row in rows_of(runs) if row.first.adapts and row.first.results["datasets"]]
    settings = dict.fromkeys(key for row in rows for key in row.first.compared)
    varying = [*(key for key in REGISTER if key in settings), *(key for key in settings if key not in REGISTER)]
    return [found for varied in varying if axis_label(varied) and (found := _curves(varied, rows)) is not None]


def _curves(varied: str, rows: Sequence[Row]) -> Curves | None:
    groups: dict[Any, list[tuple[float, Row]]] = {}
    for row in rows:
        settings = row.first.compared
        value = settings.get(varied)
        if isinstance(value, int | float) and not isinstance(value, bool):
            rest = sorted((k, str(v)) for k, v in settings.items() if k != varied and not is_seed(k))
            groups.setdefault((row.first.method, row.first.backbone, *rest), []).append((float(value), row))
    found = [sorted(line, key=lambda each: each[0]) for line in groups.values()]
    found = [line for line in found if line[0][0] < line[-1][0]]
    common = _common_images([row for line in found for _, row in line])
    if not common:
        return None
    labels = _labels([line[0][1] for line in found], varied)
    lines = [tuple(_point(value, row, common) for value, row in line) for line in found]
    return Curves(varied, dict(zip(labels, lines, strict=True)), tuple(common))


def _common_images(rows: Sequence[Row]) -> dict[str, set[str]]:
    """The paths that every row has, by dataset; datasets without any are left out."""
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run.to_test)
    found = {name: set.intersection(*({*images_of(row.having(name), name)} for row in rows)) for name in names}
    return {name: paths for name, paths in found.items() if paths}


def _point(value: float, row: Row, common: Mapping[str, set[str]]) -> Point:
    def accuracy(side: str, name: str, paths: set[str]) -> Interval:
        found = (each for path, each in images_of(row.having(name), name).items() if path in paths)
        shares = [sum(getattr(outcome, side) for outcome in each) / len(each) for each in found]
        return wilson(float(np.mean(shares)), len(shares))

    after, before = (
        mean_of_intervals([accuracy(side, *each) for each in common.items()]) for side in ("after", "before")
    )
    return Point(value, after, before, _seconds_per_image(row.runs, tuple(common)))


def _seconds_per_image(runs: Sequence[Run], datasets: Sequence[str]) -> Interval:
    """Mean wall-clock seconds per image over the number of processes; the shared time of a batch counts once."""
    times: list[float] = []
    for run in runs:
        processes = max(1, run.results["sessions"][-1]["processes"])
        rows = run.records.filter(pc.field("dataset").isin(list(datasets)))
        times += (np.unique(rows["seconds"].drop_null().to_numpy()) / processes).tolist()
    return mean_interval(times or [0.0])


def _labels(rows: Sequence[Row], varied: str) -> list[str]:
    """Labels of the lines: the settings in which they differ."""
    settings = [{**row.first.compared, "method": row.first.method, "backbone": row.first.backbone} for row in rows]
    telling = [key for key in differing(settings) if key != varied and not is_seed(key)]
    telling = [key for key in telling if not key.endswith(("_target_", "_partial_"))] or telling
    names = short_names(telling)
    return [
        ", ".join(f"{names[key]}={each.get(key)}" for key in telling) or row.first.method
        for each, row in zip(settings, rows, strict=True)
    ]


@styled
def setting_figure(found: Curves) -> Figure:
    """Accuracy (top) and seconds per image (bottom) against a setting, one line per combination of the others.

    Bars are 95 % intervals; the dashed line is zero-shot accuracy.
    """
    figure = Figure(figsize=(COLUMN, 4.4))
    accuracy, seconds = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for number, (label, points) in enumerate(found.lines.items()):
        look, x = line_style(number), _spread(found.setting, [p.value for p in points], number, len(found.lines))
        look |= {"label": short(label, 48), "elinewidth": 0.8}
        error_bars(accuracy, x, [p.accuracy for p in points], **look)
        error_bars(seconds, x, [p.seconds for p in points], **look)
    every = [p for points in found.lines.values() for p in points]
    zero_shot = float(np.mean([p.zero_shot.mean for p in every]))
    accuracy.axhline(zero_shot, color=GREY, linestyle="--", linewidth=1.0, zorder=0, label="zero-shot")
    values = sorted({p.value for p in every})
    if meaning(found.setting).logarithmic and values[0] > 0:
        seconds.set_xscale("log", base=2)
    seconds.set_xticks(values, [f"{value:g}" for value in values])
    seconds.set_xticks([], minor=True)
    mean = f", mean of {len(found.datasets)} datasets" if len(found.datasets) > 1 else f" on {short(found.datasets[0])}"
    accuracy.set_ylabel(f"accuracy (%){mean}")
    accuracy.margins(y=0.08)
    seconds.set_ylabel("seconds per image")
    seconds.set_ylim(bottom=0)
    seconds.set_xlabel(axis_label(found.setting))
    legend_above(figure, accuracy)
    figure.align_ylabels()
    return figure


def _spread(varied: str, values: Sequence[float], number: int, lines: int) -> np.ndarray:
    """The values, shifted slightly per line so that the error bars of several lines do not hide each other."""
    x, shift = np.asarray(values, dtype=float), (number - (lines - 1) / 2) * 0.05
    if meaning(varied).logarithmic:
        return x * 2 ** (shift * 0.8)
    return x + shift * (float(np.diff(x).min()) if len(x) > 1 else 1.0)
