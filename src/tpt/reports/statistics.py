"""Uncertainty of paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


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


def paired_gain(
    before: Sequence[bool], after: Sequence[bool], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Gain:
    """Gain of `after` over `before`, image by image.

    Resampling n images with replacement draws the numbers of won, lost and unchanged images from a multinomial
    distribution, so the percentile bootstrap needs no resampling of images.

    Args:
        before, after: whether each image was classified correctly; the same images in the same order.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    first, second = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"Expected two equally long lists of outcomes, got shapes {first.shape} and {second.shape}.")
    n = len(first)
    won, lost = int((second & ~first).sum()), int((first & ~second).sum())
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n, [won / n, lost / n, (n - won - lost) / n], size=resamples)
    differences = 100 * (draws[:, 0] - draws[:, 1]) / n
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Gain(100 * (won - lost) / n, float(low), float(high), p_value, won, lost)
