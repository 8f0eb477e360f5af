"""Accuracy and seconds against a setting that varies in a sweep: views, steps, percentile, or one of a new method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from tpt.results.figures.style import COLUMN, GREY, error_bars, legend_above, line_style, short, styled
from tpt.results.runs.settings import REGISTER, axis_label, is_seed, meaning
from tpt.results.tables.rows import Row, differing, rows_of, settings_of, short_names
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
    settings = dict.fromkeys(key for row in rows for key in settings_of(row.first))
    varying = [*(key for key in REGISTER if key in settings), *(key for key in settings if key not in REGISTER)]
    return [found for varied in varying if axis_label(varied) and (found := _curves(varied, rows)) is not None]


def _curves(varied: str, rows: Sequence[Row]) -> Curves | None:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        settings = settings_of(row.first)
        if isinstance(settings.get(varied), int | float) and not isinstance(settings[varied], bool):
            rest = sorted((k, str(v)) for k, v in settings.items() if k != varied and not is_seed(k))
            groups.setdefault((row.first.method, row.first.backbone, *rest), []).append(row)
    groups = {rest: rows for rest, rows in groups.items() if len({_value(varied, row) for row in rows}) > 1}
    used = [row for rows in groups.values() for row in rows]
    common = _common_images(used) if used else {}
    if not common:
        return None
    labels = _labels([rows[0] for rows in groups.values()], varied)
    lines = {
        label: tuple(_point(varied, row, common) for row in sorted(rows, key=lambda row: _value(varied, row)))
        for label, rows in zip(labels, groups.values(), strict=True)
    }
    return Curves(varied, lines, tuple(common))


def _value(varied: str, row: Row) -> float:
    return float(settings_of(row.first)[varied])


def _common_images(rows: Sequence[Row]) -> dict[str, set[str]]:
    """The paths that every row has, by dataset; datasets without any are left out."""
    found: dict[str, set[str]] = {}
    for name in dict.fromkeys(name for row in rows for run in row.runs for name in run.to_test):
        if shared := set.intersection(*(set(images_of(row.having(name), name)) for row in rows)):
            found[name] = shared
    return found


def _point(varied: str, row: Row, common: Mapping[str, set[str]]) -> Point:
    def accuracy(side: str, name: str, paths: set[str]) -> Interval:
        found = (each for path, each in images_of(row.having(name), name).items() if path in paths)
        shares = [sum(getattr(outcome, side) for outcome in each) / len(each) for each in found]
        return wilson(float(np.mean(shares)), len(shares))

    after, before = (
        mean_of_intervals([accuracy(side, *each) for each in common.items()]) for side in ("after", "before")
    )
    return Point(_value(varied, row), after, before, _seconds_per_image(row.runs, tuple(common)))


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
    settings = [{**settings_of(row.first), "method": row.first.method, "backbone": row.first.backbone} for row in rows]
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
    figure = Figure(figsize=(COLUMN, 4.4), layout="constrained")
    accuracy, seconds = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    handles = []
    for number, (label, points) in enumerate(found.lines.items()):
        look, x = line_style(number), _spread(found.setting, [p.value for p in points], number, len(found.lines))
        look |= {"label": label, "elinewidth": 0.8}
        handles.append(error_bars(accuracy, x, [p.accuracy for p in points], **look))
        error_bars(seconds, x, [p.seconds for p in points], **look)
    every = [p for points in found.lines.values() for p in points]
    zero_shot = float(np.mean([p.zero_shot.mean for p in every]))
    handles.append(accuracy.axhline(zero_shot, color=GREY, linestyle=(0, (4, 3)), linewidth=1.0, zorder=0))
    _axis(seconds, found.setting, sorted({p.value for p in every}))
    mean = f", mean of {len(found.datasets)} datasets" if len(found.datasets) > 1 else f" on {short(found.datasets[0])}"
    accuracy.set_ylabel(f"accuracy (%){mean}")
    accuracy.margins(y=0.08)
    seconds.set_ylabel("seconds per image")
    seconds.set_ylim(bottom=0)
    seconds.set_xlabel(axis_label(found.setting))
    legend_above(figure, handles, [*(short(label, 48) for label in found.lines), "zero-shot"])
    figure.align_ylabels()
    return figure


def _spread(varied: str, values: Sequence[float], number: int, lines: int) -> np.ndarray:
    """The values, shifted slightly per line so that the error bars of several lines do not hide each other."""
    x, shift = np.asarray(values, dtype=float), (number - (lines - 1) / 2) * 0.05
    if meaning(varied).logarithmic:
        return x * 2 ** (shift * 0.8)
    return x + shift * (float(np.diff(x).min()) if len(x) > 1 else 1.0)


def _axis(axes: Axes, varied: str, values: Sequence[float]) -> None:
    if meaning(varied).logarithmic and min(values) > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
