"""Uncertainty of means and of paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import final

import numpy as np

from tpt.errors import UserError

LEVEL = 0.95
PERCENT = 100.0
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # standard deviations to either side of a mean


@final
@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, in the unit of what was averaged."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """Difference of two accuracies on the same images, in percentage points.

    Args:
        points: after minus before.
        low, high: 95 % interval for paired proportions, see `difference_interval`.
        p_value: of the exact McNemar test of no difference, two-sided.
        won, lost: images that only the one, or only the other, got right.
    """

    points: float
    low: float
    high: float
    p_value: float
    won: int
    lost: int

    @property
    def interval(self) -> Interval:
        """The points with their interval."""
        return Interval(self.points, self.low, self.high)


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with the interval of the normal distribution: of seconds, say.

    Use `accuracy_interval` or `difference_interval` for accuracies: they hold even if all values are equal.
    """
    (checked,) = _checked([values])
    mean, wide = float(checked.mean()), Z * float(checked.std() / np.sqrt(max(1, len(checked) - 1)))
    return Interval(mean, mean - wide, mean + wide)


def difference_interval(*groups: Sequence[float] | np.ndarray) -> Interval:
    """Mean of paired differences of accuracy, in percentage points, with an interval that is never a point.

    The interval of one group is Bonett and Price's for paired proportions (J. Educ. Behav. Stat. 37, 2012): Wald's with
    an image won and an image lost added.  So no change on 150 images is 0.0 with about 1.8 points to either side, where
    a bootstrap would give none.  Intervals of several groups are combined as in Zou and Donner (Stat. Med. 27, 2008).

    Args:
        groups: one or more, none empty, each counting once (the datasets of an average): by image, right after minus
            right before, or shares of several runs that were right.
    """
    return mean_of_intervals([_bonett_price(g.sum(), (g**2).sum(), len(g)) for g in _checked(groups)])


def _bonett_price(total: float, squares: float, n: int) -> Interval:
    """The interval for n differences, from their sum and sum of squares."""
    centre = total / (n + 2)
    wide = Z * float(np.sqrt(((squares + 2) / (n + 2) - centre**2) / (n + 2)))
    return _percent(total / n, max(-1.0, centre - wide), min(1.0, centre + wide))


def accuracy_interval(*groups: Sequence[float] | np.ndarray) -> Interval:
    """Mean accuracy in %, with Wilson's interval (J. Am. Stat. Assoc. 22, 1927), combined as in `difference_interval`.

    Args:
        groups: one or more, none empty, each counting once: by image 1 for right and 0 for wrong, or the share of
            several runs that were right, which count as one.
    """
    return mean_of_intervals([wilson(float(group.mean()), len(group)) for group in _checked(groups)])


def wilson(mean: float, n: int) -> Interval:
    """Wilson's interval of a share of n, in %."""
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    wide = Z / (1 + Z**2 / n) * float(np.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2)))
    return _percent(mean, min(mean, max(0.0, centre - wide)), max(mean, min(1.0, centre + wide)))


def mean_of_intervals(intervals: Sequence[Interval]) -> Interval:
    """The mean of independent means, such as those of several datasets, from their intervals.

    Zou and Donner (Stat. Med. 27, 2008): the distances to the limits are added as squares.
    """
    mean, low, high = np.asarray([(i.mean, i.low, i.high) for i in intervals]).T
    below, above = (float(np.sqrt(((mean - end) ** 2).sum())) / len(intervals) for end in (low, high))
    middle = float(mean.mean())
    return Interval(middle, middle - below, middle + above)


def _percent(mean: float, low: float, high: float) -> Interval:
    return Interval(PERCENT * float(mean), PERCENT * float(low), PERCENT * float(high))


def _checked(groups: Sequence[Sequence[float] | np.ndarray]) -> list[np.ndarray]:
    if not groups or not all(len(group) for group in groups):
        raise UserError("Expected at least one value in every group, got none; leave empty groups out.")
    return [np.asarray(group, dtype=np.float64) for group in groups]


def paired_gain(before: Sequence[bool], after: Sequence[bool]) -> Gain:
    """Gain of `after` over `before`: whether each image was classified correctly, in the same order."""
    first, second = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(f"Expected two equally long lists of outcomes, got shapes {first.shape} and {second.shape}.")
    return gain_of_counts(int((second & ~first).sum()), int((first & ~second).sum()), len(first))


def gain_of_counts(won: int, lost: int, images: int) -> Gain:
    """`paired_gain`, from how many of some images, at least one, only the answer after or only the one before got."""
    found = _bonett_price(won - lost, won + lost, images)
    return Gain(found.mean, found.low, found.high, mcnemar(won, lost), won, lost)


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: of at least so unequal a split of what one side alone has right."""
    from scipy.special import bdtr  # noqa: PLC0415 -- takes time to load

    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0


def bin_of(values: np.ndarray, bins: int) -> np.ndarray:
    """The bins (low, high] of equal width of values in [0, 1], compared in float32, in which they are recorded."""
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)[1:-1]
    return np.asarray(np.searchsorted(edges, values.astype(np.float32), side="left"))
