"""Class by class: accuracy before and after adaptation, and the confusions that it made and mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from tpt.errors import UserError
from tpt.results.tables.grid import Grid, Legend, Line, Text
from tpt.results.tables.rows import rows_of
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import Gain, gain_of_counts
from tpt.results.tables.table import gain_text

MOST = 30  # lines on a terminal


@dataclass(frozen=True)
class ClassResult:
    """One class of a dataset.

    Args:
        name: of the class, or its number if the records have no names.
        images: answered ones of this class.
        before, after: how many of them were right.
        gain: of accuracy, in points.
    """

    name: str
    images: int
    before: int
    after: int
    gain: Gain


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were taken for another.

    Args:
        truth, answer: names of the two classes.
        before, after: images of `truth` that were answered so.
        made: those that adaptation brought; what was wrong before, with another answer, is among them.
        mended: those that it took away; what is wrong now, with another answer, is among them.
    """

    truth: str
    answer: str
    before: int
    after: int
    made: int
    mended: int


def class_results(run: Run, dataset: str) -> list[ClassResult]:
    """Every class that has an answered image with a label, those that adaptation changed most first.

    Args:
        run: finished or not.
        dataset: of the run.
    """
    names, label, before, after = _answers(run, dataset)
    found = []
    for number in np.unique(label).tolist():
        inside = label == number
        first, second = (before == label)[inside], (after == label)[inside]
        gain = gain_of_counts(int((second & ~first).sum()), int((first & ~second).sum()), int(inside.sum()))
        found.append(ClassResult(names[number], int(inside.sum()), int(first.sum()), int(second.sum()), gain))
    return sorted(found, key=lambda c: (-abs(c.gain.points), -(c.gain.won + c.gain.lost), c.name))


def confusions(run: Run, dataset: str) -> list[Confusion]:
    """Every pair of classes that adaptation confuses more or less often than before, the most changed first.

    Args:
        run: finished or not.
        dataset: of the run.
    """
    names, label, before, after = _answers(run, dataset)
    made, mended, first, second = (Counter[tuple[int, int]]() for _ in range(4))
    for truth, old, new in zip(label.tolist(), before.tolist(), after.tolist(), strict=True):
        first[truth, old] += 1
        second[truth, new] += 1
        if old != new:
            mended[truth, old] += old != truth
            made[truth, new] += new != truth
    pairs = {pair for pair in made | mended if made[pair] or mended[pair]}
    found = [
        Confusion(names[pair[0]], names[pair[1]], first[pair], second[pair], made[pair], mended[pair]) for pair in pairs
    ]
    return sorted(found, key=lambda c: (-(c.made + c.mended), -abs(c.made - c.mended), c.truth, c.answer))


def _answers(run: Run, dataset: str) -> tuple[Mapping[int, str], np.ndarray, np.ndarray, np.ndarray]:
    """Names of classes, as far as records know them, and label and answers before and after of labelled images."""
    rows = run.of(dataset)
    rows = rows.filter(pc.is_valid(rows["label"]))
    names: dict[int, str] = {}
    columns = ("label", "pred_zero_shot", "pred")
    for number, name in zip(columns, ("class_name", "pred_name_zero_shot", "pred_name"), strict=True):
        for key, text in zip(rows[number].to_pylist(), rows[name].to_pylist(), strict=True):
            names.setdefault(key, str(key) if text is None else text)
    label, before, after = (rows[column].to_numpy() for column in columns)
    return names, label, before, after


def class_grids(
    runs: Sequence[Run], most: int | None = MOST, only: Sequence[str] | None = None
) -> tuple[list[Grid], Legend]:
    """Two tables for each run and dataset: classes, and confusions.

    Args:
        runs: finished or not.
        most: lines of a table, of what changed most; None shows everything.
        only: datasets; None takes all.

    Raises:
        UserError: no run has an answered image with a label.
    """
    grids = [
        grid
        for title, run, dataset in _labelled(runs)
        if only is None or dataset in only
        for grid in _grids(title, run, dataset, most)
    ]
    if not grids:
        raise UserError("Expected answered images with labels, found none; wait until the runs have some.")
    remarks = (
        "before, after: accuracy in %; gain in points, with Bonett and Price's 95 % interval",
        "confusions: images of a class that were taken for another; made and mended by the adaptation",
    )
    return grids, Legend((), remarks)


def _labelled(runs: Sequence[Run]) -> Iterator[tuple[str, Run, str]]:
    for row in rows_of(runs):
        for run in row.runs:
            seed = f", seed={run.results.get('seed')}" if len(row.by_seed()) > 1 else ""
            for dataset, about in run.results["datasets"].items():
                if "acc" in about:
                    yield f"{dataset}, {row.label}{seed}", run, dataset


def _grids(title: str, run: Run, dataset: str, most: int | None) -> Iterator[Grid]:
    classes, pairs = class_results(run, dataset), confusions(run, dataset)
    yield Grid(
        f"Classes of {title}{_left(classes, most)}",
        ("class", "images", "before", "after", "gain [95 %]"),
        tuple(
            _line(
                c.name,
                c.images,
                _share(c.before, c.images),
                _share(c.after, c.images),
                gain_text(c.gain.interval),
            )
            for c in classes[:most]
        ),
        dense=True,
    )
    if pairs:
        yield Grid(
            f"Confusions of {title}{_left(pairs, most)}",
            ("class", "taken for", "before", "after", "made", "mended"),
            tuple(_line(c.truth, c.answer, *map(str, (c.before, c.after, c.made, c.mended))) for c in pairs[:most]),
            dense=True,
        )


def _share(right: int, images: int) -> str:
    return f"{100 * right / images:.1f}"


def _line(label: str, second: object, *cells: str) -> Line:
    return Line(label, str(second), tuple(map(Text, cells)), main=True)


def _left(found: Sequence[object], most: int | None) -> str:
    if most is None or len(found) <= most:
        return ""
    return f" ({most} of {len(found):,} that changed most; --out FILE has all)"
