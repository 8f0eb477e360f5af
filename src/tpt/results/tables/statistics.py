"""Uncertainty of means and of paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tpt.errors import UserError

LEVEL = 0.95
PERCENT = 100.0
RESAMPLES = 10_000
MOST_COUNTS = 10**7  # drawn at a time, which bounds memory


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


def bootstrap_means(values: Sequence[float] | np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of resamples of `values` with replacement, (resamples,).

    Resampling n values draws how often each distinct one comes from a multinomial distribution, so the cost follows
    the number of distinct values, of which outcomes of images have two or three.

    Args:
        values: at least one.
        resamples: number of means.
        seed: of the draws.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    rng, n, means = np.random.default_rng(seed), int(counts.sum()), []
    at_a_time = max(1, MOST_COUNTS // len(distinct))
    for first in range(0, resamples, at_a_time):
        draws = rng.multinomial(n, counts / n, size=min(at_a_time, resamples - first))
        means.append(draws @ distinct / n)
    return np.concatenate(means)


def mean_interval(values: Sequence[float], level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """A mean with the interval of a percentile bootstrap: of seconds, say, which have no distribution to speak of.

    For accuracies take `accuracy_interval` and `difference_interval`, which hold if all values are equal.

    Args:
        values: at least one.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: there are no values.
    """
    (checked,) = _checked([values])
    low, high = np.quantile(bootstrap_means(checked, resamples, seed), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(checked.mean()), float(low), float(high))


def difference_interval(*groups: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Mean of paired differences of accuracy, in percentage points, with an interval that is never a point.

    The interval of one group is Bonett and Price's for paired proportions (J. Educ. Behav. Stat. 37, 2012): Wald's with
    an image won and an image lost added.  So no change on 150 images is 0.0 with about 1.8 points to either side, where
    a bootstrap would give none.  Intervals of several groups are combined as in Zou and Donner (Stat. Med. 27, 2008).

    Args:
        groups: one or more, none empty, each counting once (the datasets of an average): by image, right after minus
            right before, or shares of several runs that were right.
        level: of the interval.

    Raises:
        UserError: there is no group, or an empty one.
    """
    return mean_of_intervals([_bonett_price(g.sum(), (g**2).sum(), len(g), level) for g in _checked(groups)])


def _bonett_price(total: float, squares: float, n: int, level: float) -> Interval:
    """The interval for n differences, from their sum and sum of squares."""
    centre = total / (n + 2)
    wide = _two_sided(level) * float(np.sqrt(((squares + 2) / (n + 2) - centre**2) / (n + 2)))
    return _percent(total / n, max(-1.0, centre - wide), min(1.0, centre + wide))


def accuracy_interval(*groups: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Mean accuracy in %, with Wilson's interval (J. Am. Stat. Assoc. 22, 1927), combined as in `difference_interval`.

    Args:
        groups: one or more, none empty, each counting once: by image 1 for right and 0 for wrong, or the share of
            several runs that were right, which count as one.
        level: of the interval.

    Raises:
        UserError: there is no group, or an empty one.
    """
    return mean_of_intervals([_wilson(float(group.mean()), len(group), level) for group in _checked(groups)])


def _wilson(mean: float, n: int, level: float) -> Interval:
    z = _two_sided(level)
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    wide = z / (1 + z**2 / n) * float(np.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2)))
    return _percent(mean, min(mean, max(0.0, centre - wide)), max(mean, min(1.0, centre + wide)))


def mean_of_intervals(intervals: Sequence[Interval]) -> Interval:
    """The mean of independent means, such as those of several datasets, from their intervals.

    Zou and Donner (Stat. Med. 27, 2008): the distances to the limits are added as squares.

    Args:
        intervals: at least one.
    """
    mean, low, high = np.asarray([(i.mean, i.low, i.high) for i in intervals]).T
    below, above = (float(np.sqrt(((mean - end) ** 2).sum())) / len(intervals) for end in (low, high))
    middle = float(mean.mean())
    return Interval(middle, middle - below, middle + above)


def _percent(mean: float, low: float, high: float) -> Interval:
    return Interval(PERCENT * float(mean), PERCENT * float(low), PERCENT * float(high))


def _two_sided(level: float) -> float:
    """The number of standard deviations around the mean that hold the share `level` of a normal distribution."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _checked(groups: Sequence[Sequence[float] | np.ndarray]) -> list[np.ndarray]:
    if not groups or not all(len(group) for group in groups):
        raise UserError("Expected at least one value in every group, got none; leave empty groups out.")
    return [np.asarray(group, dtype=np.float64) for group in groups]


def paired_gain(before: Sequence[bool], after: Sequence[bool], level: float = LEVEL) -> Gain:
    """Gain of `after` over `before`, image by image.

    Args:
        before, after: whether each image was classified correctly; the same images in the same order.
        level: of the interval.
    """
    first, second = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(f"Expected two equally long lists of outcomes, got shapes {first.shape} and {second.shape}.")
    won, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return gain_of_counts(won, lost, len(first), level)


def gain_of_counts(won: int, lost: int, images: int, level: float = LEVEL) -> Gain:
    """`paired_gain`, from how many of some images were won and lost.

    Args:
        won, lost: images that only the answer after, or only the one before, got right.
        images: all of them, at least one.
        level: of the interval.
    """
    found = _bonett_price(won - lost, won + lost, images, level)
    return Gain(found.mean, found.low, found.high, mcnemar(won, lost), won, lost)


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: of at least so unequal a split of what one side alone has right.

    Args:
        won, lost: images that only the one, or only the other, got right.
    """
    from scipy.special import bdtr  # noqa: PLC0415 -- takes time to load

    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0
