"""Uncertainty of means and of paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tpt.errors import UserError

LEVEL = 0.95
RESAMPLES = 10_000
MOST_COUNTS = 10**7  # drawn at a time, which bounds memory


@dataclass(frozen=True)
class Interval:
    """A mean with the 95 % interval of a bootstrap over images, in the unit of what was averaged."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """Difference of two accuracies on the same images, in percentage points.

    Args:
        points: after minus before.
        low, high: 95 % interval of a paired bootstrap.
        p_value: of the exact McNemar test of no difference, two-sided.
        won, lost: images that only the one, or only the other, got right.
    """

    points: float
    low: float
    high: float
    p_value: float
    won: int
    lost: int


def bootstrap_means(values: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
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


def mean_interval(
    *groups: Sequence[float], level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of the groups' means, each group counting once, with a percentile bootstrap within every group.

    Args:
        groups: one or more, none empty: the datasets of an average, say.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: there is no group, or an empty one.
    """
    if not groups or not all(len(group) for group in groups):
        raise UserError("Expected at least one value in every group, got none; leave empty groups out.")
    means = np.mean([bootstrap_means(group, resamples, seed + k) for k, group in enumerate(groups)], axis=0)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean([np.mean(group) for group in groups])), float(low), float(high))


def paired_gain(
    before: Sequence[bool], after: Sequence[bool], level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Gain:
    """Gain of `after` over `before`, image by image.

    Args:
        before, after: whether each image was classified correctly; the same images in the same order.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    first, second = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UserError(f"Expected two equally long lists of outcomes, got shapes {first.shape} and {second.shape}.")
    won, lost = int((second & ~first).sum()), int((first & ~second).sum())
    found = mean_interval(100.0 * (second.astype(int) - first), level=level, resamples=resamples, seed=seed)
    return Gain(100 * (won - lost) / len(first), found.low, found.high, mcnemar(won, lost), won, lost)


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: of so unequal a split of the images that only one side has right, or more.

    Args:
        won, lost: images that only the one, or only the other, got right.
    """
    from scipy.special import bdtr  # noqa: PLC0415 -- takes time to load

    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0
