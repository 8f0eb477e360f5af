"""Runs against each other: the same images with the same images only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tpt.errors import UserError
from tpt.results.tables.runs import ImageResult, Run
from tpt.results.tables.statistics import Interval, difference_interval, mcnemar, mean_of_intervals


@dataclass(frozen=True)
class Comparison:
    """Two accuracies on the images that both have.

    Args:
        points: their difference, in percentage points, with its paired 95 % interval.
        p_value: of the exact McNemar test; None if a side is a mean over several runs, and for an average.
        images: that both have.
        only_one: images that one of them has and the other has not.
    """

    points: Interval
    p_value: float | None
    images: int
    only_one: int


@dataclass(frozen=True)
class Shared:
    """Results of the same images on two sides, each the mean over the runs of a side that have the image.

    Args:
        first, second: (N,) share of a side's runs that are right.
        single: whether each side is one run.
        only_one: images that one side has and the other has not.
    """

    first: np.ndarray
    second: np.ndarray
    single: bool
    only_one: int


def after(outcome: ImageResult) -> bool:
    """Whether the adapted answer is right."""
    return outcome.after


def before(outcome: ImageResult) -> bool:
    """Whether the answer before adaptation is right."""
    return outcome.before


def shared_images(
    first: Sequence[Run],
    second: Sequence[Run],
    dataset: str,
    of_first: Callable[[ImageResult], bool] = after,
    of_second: Callable[[ImageResult], bool] = after,
) -> Shared:
    """The outcomes of the images of a dataset that both sides have, joined by their path.

    Args:
        first, second: the runs of the two sides.
        dataset: whose images are meant.
        of_first, of_second: which answer counts.

    Raises:
        UserError: an image of the same path has other bytes or another class, or the classes differ in number: the
            answers would not be to the same question.
    """
    _refuse_other_classes([*first, *second], dataset)
    one, two = _images(first, dataset), _images(second, dataset)
    paths = [path for path in one if path in two]
    for path in paths:
        _refuse_other_image(one[path] + two[path], dataset, path, first[0], second[0])
    return Shared(
        _means([[of_first(o) for o in one[path]] for path in paths]),
        _means([[of_second(o) for o in two[path]] for path in paths]),
        single=all(len(images[path]) == 1 for images in (one, two) for path in paths),
        only_one=len(one) + len(two) - 2 * len(paths),
    )


def compare(first: Sequence[Run], second: Sequence[Run], dataset: str) -> Comparison | None:
    """What `first` has over `second` on a dataset; None if they have no image in common.

    Args:
        first, second: the runs of two rows.
        dataset: whose images are meant.
    """
    return comparison(shared_images(first, second, dataset))


def comparison(shared: Shared) -> Comparison | None:
    """The difference of two sides' accuracies; None without images."""
    if not len(shared.first):
        return None
    return Comparison(
        difference_interval(shared.first - shared.second), p_value_of(shared), len(shared.first), shared.only_one
    )


def mean_comparison(datasets: Sequence[Comparison | None]) -> Comparison | None:
    """The mean over datasets, each counting once; None if one of them has no image in common."""
    known = [found for found in datasets if found is not None]
    if not known or len(known) < len(datasets):
        return None
    points = mean_of_intervals([found.points for found in known])
    return Comparison(points, None, sum(c.images for c in known), sum(c.only_one for c in known))


def p_value_of(shared: Shared) -> float | None:
    """Of the exact McNemar test, two-sided."""
    if not shared.single:
        return None
    won, lost = int((shared.first > shared.second).sum()), int((shared.first < shared.second).sum())
    return mcnemar(won, lost)


def gain_of_tuning(runs: Sequence[Run], dataset: str) -> Shared:
    """The answers after and before tuning of the same runs, image by image.

    An image that several seeds drew weighs as much more, so that the means are those of all answers.
    """
    found = list(_images(runs, dataset).values())
    weight = len(found) / max(1, sum(len(each) for each in found))
    return Shared(
        np.asarray([weight * sum(o.after for o in each) for each in found], dtype=np.float64),
        np.asarray([weight * sum(o.before for o in each) for each in found], dtype=np.float64),
        single=all(len(each) == 1 for each in found),
        only_one=0,
    )


def _images(runs: Iterable[Run], dataset: str) -> Mapping[str, list[ImageResult]]:
    found: dict[str, list[ImageResult]] = {}
    for run in runs:
        for path, outcome in run.outcomes(dataset).items():
            found.setdefault(path, []).append(outcome)
    return found


def _means(outcomes: Sequence[Sequence[bool]]) -> np.ndarray:
    return np.asarray([sum(each) / len(each) for each in outcomes], dtype=np.float64)


def _refuse_other_classes(runs: Sequence[Run], dataset: str) -> None:
    classes = {run.to_test[dataset]["classes"]: run for run in runs if dataset in run.to_test}
    if len(classes) > 1:
        (one, first), (two, second), *_ = classes.items()
        raise UserError(
            f"Expected the same classes of {dataset!r} in runs that are compared, got {one} in {first.path} and {two} "
            f"in {second.path}; compare runs on the same classes."
        )


def _refuse_other_image(outcomes: Sequence[ImageResult], dataset: str, path: str, first: Run, second: Run) -> None:
    if len({outcome.content for outcome in outcomes}) > 1:
        raise UserError(
            f"Expected the same images in {first.path} and {second.path}, but {path} of {dataset!r} is another picture "
            "in each; compare runs on the same data."
        )
    if len({outcome.label for outcome in outcomes}) > 1:
        raise UserError(
            f"Expected the same classes in {first.path} and {second.path}, but {path} of {dataset!r} has another one "
            "in each; compare runs with the same class names in the same order."
        )
