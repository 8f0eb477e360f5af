"""Compares runs, only on the images that both have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from tpt.errors import UserError
from tpt.results.tables.runs import ImageResult, Run
from tpt.results.tables.statistics import PERCENT, Interval, difference_interval, mcnemar, mean_of_intervals


@final
@dataclass(frozen=True)
class Comparison:
    """Two accuracies on the images that both sides have."""

    first: float  # in %
    second: float
    points: Interval  # their difference in percentage points, with its paired 95 % interval
    p_value: float | None  # of the exact McNemar test; None if a side is a mean over runs, and for averages
    images: int  # images that both sides have
    only_one: int  # images that only one side has

    @property
    def improvement(self) -> float | None:
        """Relative improvement over `second`, as in Shu et al., Figure 2; None if `second` is 0."""
        return (self.first - self.second) / self.second if self.second else None


def compare(first: Sequence[Run], second: Sequence[Run], dataset: str) -> Comparison | None:
    """Compares the runs of two rows on the images of a dataset that both have, by path; None if there are none.

    Raises:
        UserError: images with the same path differ in bytes or class, or the numbers of classes differ.
    """
    classes = {run.to_test[dataset]["classes"]: run for run in (*first, *second) if dataset in run.to_test}
    if len(classes) > 1:
        (here, left), (there, right), *_ = classes.items()
        raise UserError(
            f"Expected the same classes of {dataset!r} in runs that are compared, got {here} in {left.path} and "
            f"{there} in {right.path}; compare runs on the same classes."
        )
    ours, theirs = images_of(first, dataset), images_of(second, dataset)
    pairs = {path: (ours[path], theirs[path]) for path in ours if path in theirs}
    if not pairs:
        return None
    for path, (own, others) in pairs.items():
        if len({(outcome.content, outcome.label) for outcome in own + others}) > 1:
            raise UserError(
                f"{path} of {dataset!r} is not the same picture of the same class in {first[0].path} and in "
                f"{second[0].path}. Compare runs on the same data and classes."
            )
    one, two = (
        np.array([sum(o.after for o in side) / len(side) for side in sides])
        for sides in zip(*pairs.values(), strict=True)
    )
    points, p_value = _paired(one, two, all(len(own) == len(others) == 1 for own, others in pairs.values()))
    alone = len(ours) + len(theirs) - 2 * len(pairs)
    return Comparison(PERCENT * float(one.mean()), PERCENT * float(two.mean()), points, p_value, len(pairs), alone)


def mean_comparison(datasets: Sequence[Comparison | None]) -> Comparison | None:
    """Mean over datasets with equal weights; None if there are none, or one has no image in common."""
    known = [found for found in datasets if found is not None]
    if not known or len(known) < len(datasets):
        return None
    one, two = (float(np.mean([getattr(c, side) for c in known])) for side in ("first", "second"))
    points = mean_of_intervals([found.points for found in known])
    return Comparison(one, two, points, None, sum(c.images for c in known), sum(c.only_one for c in known))


def gain_of_tuning(runs: Sequence[Run], dataset: str) -> tuple[Interval, float | None]:
    """The gain in points of answers after tuning over those before, and its p-value if each image has one answer.

    An image that several seeds drew has proportionally more weight, so the means are means of all answers.
    """
    found = list(images_of(runs, dataset).values())
    weight = len(found) / sum(map(len, found))
    after, before = (
        np.array([weight * sum(getattr(o, side) for o in each) for each in found]) for side in ("after", "before")
    )
    return _paired(after, before, all(len(each) == 1 for each in found))


def _paired(first: np.ndarray, second: np.ndarray, single: bool) -> tuple[Interval, float | None]:
    """The difference of two shares of right runs per image, in points, and McNemar's p-value if each is `single`."""
    won, lost = int((first > second).sum()), int((first < second).sum())
    return difference_interval(first - second), mcnemar(won, lost) if single else None


def images_of(runs: Iterable[Run], dataset: str) -> dict[str, list[ImageResult]]:
    """The results of a dataset's labelled images in some runs, by path."""
    found: dict[str, list[ImageResult]] = {}
    for run in runs:
        for path, outcome in run.outcomes.get(dataset, {}).items():
            found.setdefault(path, []).append(outcome)
    return found
