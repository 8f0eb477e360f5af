"""Accuracy along a stream: a method's accuracy so far, and its gain over zero-shot early and late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from matplotlib.figure import Figure

from tpt.results.figures.style import COLUMN, GREY, legend_above, line_style, short, styled
from tpt.results.tables.rows import Row
from tpt.results.tables.statistics import PERCENT

PARTS, LEAST = 10, 20  # most parts of a stream, each with its own gain, and fewest images per part
FIRST, SHARE = 20, 0.02  # images and share of a stream before which accuracy so far is too noisy to draw
MARKERS = 8  # per line, approximately


@dataclass(frozen=True)
class Along:
    """One row's answers on one dataset, in stream order."""

    label: str
    position: np.ndarray  # (N,) positions in the stream, from 1
    accuracy: np.ndarray  # (N,) accuracy in % over all images up to each position, mean over the row's runs
    gains: tuple[np.ndarray, np.ndarray]  # mean positions of equal parts, and gains over zero-shot there, in points


def along(rows: Sequence[Row], dataset: str) -> list[Along]:
    """The rows with labelled records of a dataset, in stream order; empty if none of the methods is a stream method.

    Episodic methods are drawn in the order in which they processed the images.
    """
    found = [each for row in rows if (each := _along(row, dataset)) is not None]
    return found if any(row.first.stream for row in rows if row.having(dataset)) else []


def _along(row: Row, dataset: str) -> Along | None:
    places, before, after = [], [], []
    for run in row.having(dataset):
        table = run.labelled(dataset).filter(pc.field("position").is_valid())
        label = table["label"].to_numpy()
        places.append(table["position"].to_numpy())
        before.append(table["pred_zero_shot"].to_numpy() == label)
        after.append(table["pred"].to_numpy() == label)
    place = np.concatenate([*places, np.zeros(0, dtype=np.int64)])
    if not len(place):
        return None
    position, where, runs = np.unique(place, return_inverse=True, return_counts=True)
    first, then = (PERCENT * np.bincount(where, np.concatenate(side)) / runs for side in (before, after))
    parts = np.array_split(np.arange(len(runs)), max(1, min(PARTS, len(runs) // LEAST)))
    middle, gains = (np.array([values[part].mean() for part in parts]) for values in (position + 1, then - first))
    return Along(row.label, position + 1, then.cumsum() / np.arange(1, len(then) + 1), (middle, gains))


@styled
def along_figure(lines: Sequence[Along], dataset: str) -> Figure:
    """Accuracy so far (top) and gain over zero-shot in equal parts of the stream (bottom), one line per row."""
    figure = Figure(figsize=(COLUMN, 4.4))
    accuracy, gain = figure.subplots(2, 1, sharex=True)
    for number, line in enumerate(lines):
        look, last = line_style(number) | {"label": short(line.label, 48)}, line.position[-1]
        shown = line.position >= min(max(FIRST, SHARE * last), last)
        accuracy.plot(line.position[shown], line.accuracy[shown], markevery=1 + int(shown.sum()) // MARKERS, **look)
        gain.plot(*line.gains, **look)
    legend_above(figure, gain)
    gain.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    accuracy.set_ylabel(f"accuracy so far (%)\non {short(dataset)}")
    gain.set_ylabel("gain over zero-shot\n(points)")
    gain.set_xlabel("images of the stream")
    figure.align_ylabels()
    return figure
