"""Confidence intervals and tests of means and of paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tpt.errors import UserError

LEVEL = 0.95
PERCENT = 100.0
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # standard deviations on either side of a mean


class Interval(NamedTuple):
    """A mean with its 95 % interval, in the unit of the averaged values."""

    mean: float
    low: float
    high: float


class Gain(NamedTuple):
    """Difference of two accuracies on the same images, in percentage points."""

    points: float  # after minus before
    low: float  # of the 95 % interval for paired proportions, see `difference_interval`
    high: float
    p_value: float  # of the exact McNemar test of no difference, two-sided
    won: int  # images that were right only after
    lost: int  # images that were right only before


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with a 95 % interval of the normal distribution, for example of seconds; accuracies have `wilson`."""
    mean, wide = float(np.mean(values)), Z * float(np.std(values) / np.sqrt(max(1, len(values) - 1)))
    return Interval(mean, mean - wide, mean + wide)


def difference_interval(differences: np.ndarray) -> Interval:
    """Mean of paired differences of accuracy, in percentage points, with an interval that never has zero width.

    The interval is Bonett and Price's for paired proportions (J. Educ. Behav. Stat. 37, 2012): Wald's interval after
    adding one image won and one image lost.  For example, no change on 150 images gives 0.0 ± 1.8 points, where a
    bootstrap gives 0.0 ± 0.

    Each difference is an image's right after minus right before: 0, 1, -1, or a difference of shares of several runs.
    """
    n = len(differences)
    centre = differences.sum() / (n + 2)
    wide = Z * float(np.sqrt((((differences**2).sum() + 2) / (n + 2) - centre**2) / (n + 2)))
    return _percent(differences.sum() / n, max(-1.0, centre - wide), min(1.0, centre + wide))


def wilson(mean: float, n: int) -> Interval:
    """A share of n images, in %, with Wilson's interval (J. Am. Stat. Assoc. 22, 1927).

    Shares of several runs that were right count as one run.
    """
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    wide = Z / (1 + Z**2 / n) * float(np.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2)))
    return _percent(mean, min(mean, max(0.0, centre - wide)), max(mean, min(1.0, centre + wide)))


def mean_of_intervals(intervals: Sequence[Interval]) -> Interval:
    """The mean of independent means, for example of several datasets, with an interval from their intervals.

    As in Zou and Donner (Stat. Med. 27, 2008), distances to the limits are added in quadrature.
    """
    mean, low, high = np.asarray(intervals).T
    below, above = (float(np.sqrt(((mean - end) ** 2).sum())) / len(intervals) for end in (low, high))
    middle = float(mean.mean())
    return Interval(middle, middle - below, middle + above)


def _percent(mean: float, low: float, high: float) -> Interval:
    return Interval(PERCENT * float(mean), PERCENT * float(low), PERCENT * float(high))


def paired_gain(before: Sequence[bool], after: Sequence[bool]) -> Gain:
    """Gain of `after` over `before`, which say for each image, in the same order, whether it was right."""
    first, second = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(f"Expected two equally long lists of outcomes, got shapes {first.shape} and {second.shape}.")
    return gain_of_counts(int((second & ~first).sum()), int((first & ~second).sum()), len(first))


def gain_of_counts(won: int, lost: int, images: int) -> Gain:
    """`paired_gain` from counts: images right only after, right only before, and all (at least one)."""
    found = difference_interval(np.repeat([1, -1, 0], [won, lost, images - won - lost]))
    return Gain(found.mean, found.low, found.high, mcnemar(won, lost), won, lost)


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test, from the numbers of images that only one side has right."""
    from scipy.special import bdtr  # noqa: PLC0415 -- takes time to load

    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0


def bin_of(values: np.ndarray, bins: int) -> np.ndarray:
    """Indices of the bins (low, high] of equal width for values in [0, 1], compared in float32, as recorded."""
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)[1:-1]
    return np.asarray(np.searchsorted(edges, values.astype(np.float32), side="left"))
