"""What adaptation changed: accuracy per class, confusions made and corrected, and the answers to single images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np

from tpt.errors import UserError
from tpt.results.runs.records import NAMED
from tpt.results.tables.brief import gain_text
from tpt.results.tables.comparability import left_out
from tpt.results.tables.grid import Grid, Legend, Line, Text, number
from tpt.results.tables.rows import NOTHING, labelled_runs
from tpt.results.tables.runs import Run
from tpt.results.tables.statistics import PERCENT, Gain, Interval, paired_gain

MOST = 30  # lines per table on a terminal
FIXED, BROKEN, CHANGED = "fixed", "broken", "changed"
Record = Mapping[str, Any]


class ClassResult(NamedTuple):
    """The results of one class: its images with an answer, right answers before and after adaptation, and the gain."""

    name: str  # the class number if the records have no names
    images: int
    before: int
    after: int
    gain: Gain


class Confusion(NamedTuple):
    """Numbers of images of one class (`truth`) that were classified as another (`answer`)."""

    truth: str
    answer: str
    before: int
    after: int
    made: int  # added by adaptation, including from another wrong answer
    corrected: int  # removed by adaptation, including to another wrong answer


def class_results(run: Run, dataset: str) -> list[ClassResult]:
    """All classes that have a labelled image with an answer, the most changed by adaptation first."""
    names, label, before, after = _answers(run, dataset)
    found = []
    for key in np.unique(label).tolist():
        inside = label == key
        first, second = (before == label)[inside], (after == label)[inside]
        gain = paired_gain(first, second)
        found.append(ClassResult(names[key], len(first), int(first.sum()), int(second.sum()), gain))
    return sorted(found, key=lambda c: (-abs(c.gain.points), -(c.gain.won + c.gain.lost), c.name))


def confusions(run: Run, dataset: str) -> list[Confusion]:
    """All pairs of classes whose confusions adaptation changed, the most changed first."""
    names, *columns = _answers(run, dataset)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    first, second = Counter((truth, old) for truth, old, _ in rows), Counter((truth, new) for truth, _, new in rows)
    corrected = Counter((truth, old) for truth, old, new in rows if old not in (new, truth))
    made = Counter((truth, new) for truth, old, new in rows if new not in (old, truth))
    pairs = made | corrected
    found = [Confusion(names[p[0]], names[p[1]], first[p], second[p], made[p], corrected[p]) for p in pairs]
    return sorted(found, key=lambda c: (-(c.made + c.corrected), -abs(c.made - c.corrected), c.truth, c.answer))


def _answers(run: Run, dataset: str) -> tuple[Mapping[int, str], np.ndarray, np.ndarray, np.ndarray]:
    """Class names (numbers if unnamed); label, answer before and answer after of each labelled image."""
    rows = run.labelled(dataset)
    names: dict[int, str] = {}
    for name, column in NAMED.items():
        for key, text in zip(rows[column].to_pylist(), rows[name].to_pylist(), strict=True):
            names.setdefault(key, str(key) if text is None else text)
    label, before, after = (rows[column].to_numpy() for column in ("label", "pred_zero_shot", "pred"))
    return names, label, before, after


def class_grids(
    runs: Sequence[Run], most: int | None = MOST, only: Sequence[str] | None = None
) -> tuple[list[Grid], Legend]:
    """Two tables per run and dataset: classes, and confusions if adaptation changed any; a UserError if there are none.

    Each has at most `most` lines, the most changed first; `only` chooses datasets.  None shows all.
    """
    grids = [
        grid
        for label, run, datasets in labelled_runs(runs)
        for dataset in datasets
        if only is None or dataset in only
        for grid in _grids(f"{dataset}, {label}", run, dataset, most)
    ]
    if not grids:
        raise UserError(NOTHING)
    remarks = (
        "before, after: accuracy in %; gain in points, with Bonett and Price's 95 % interval",
        "confusions: images of a class that were predicted as another class; made and corrected by adaptation",
    )
    return grids, Legend((), remarks)


def _grids(title: str, run: Run, dataset: str, most: int | None) -> Iterator[Grid]:
    marks = left_out([run], [dataset])
    classes = []
    for name, images, *right, gain in class_results(run, dataset):
        shares = (number(PERCENT * share / images, 1) for share in right)
        classes.append((name, str(images), *shares, gain_text(Interval(gain.points, gain.low, gain.high))))
    pairs = [tuple(map(str, pair)) for pair in confusions(run, dataset)]
    for what, header, lines in (
        ("Classes", ("class", "images", "before", "after", "gain [95 %]"), classes),
        ("Confusions", ("class", "predicted as", "before", "after", "made", "corrected"), pairs),
    ):
        some = most is not None and len(lines) > most
        end = f" ({most} of {len(lines):,} that changed most; --out FILE has all)" if some else ""
        made = [Line(label, second, tuple(map(Text, cells)), True, marks) for label, second, *cells in lines[:most]]
        if made:
            yield Grid(f"{what} of {title}{end}", header, tuple(made), dense=True)


def flips_of(records: Iterable[Record], limit: int) -> list[tuple[str, Record]]:
    """At most `limit` images whose answer changed, and whether it was fixed, broken or, as without label, changed.

    The kinds alternate, so that none crowds out the others.
    """
    found: dict[str, list[tuple[str, Record]]] = {FIXED: [], BROKEN: [], CHANGED: []}
    for record in records:
        label, before, after = (record[name] for name in ("label", "pred_zero_shot", "pred"))
        if record["problem"] is None and before != after:
            kind = FIXED if after == label else BROKEN if before == label else CHANGED
            found[kind].append((kind, record))
    return [flip for flip in chain.from_iterable(zip_longest(*found.values())) if flip is not None][:limit]
