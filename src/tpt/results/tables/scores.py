"""Scores of probabilities: likelihood, calibration, risk, images outside the classes; docs/calibration.md defines them.

Each function takes what is known of N answers and gives a `Score`: weights of the answers -> value.  Weights of 1 give
the value itself, those of a resample a bootstrap's.  Answers of equal confidence count with their mean, so that no
score depends on the order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tpt.results.tables.measures import BINS
from tpt.results.tables.statistics import PERCENT, Interval, Z, bin_of

Score = Callable[[np.ndarray], float]
ACCEPTED = 0.95  # share of the pictures of the classes at which FPR is taken
RESAMPLES = 500
SMALLEST = float(np.finfo(np.float32).eps)  # probability that the likelihood takes at least, as scikit-learn does


def likelihood(probs_NK: np.ndarray, label_N: np.ndarray) -> Score:
    """Mean negative log-likelihood of the labels, in nats; a probability counts as 1.2e-7 at least."""
    own = probs_NK[np.arange(len(label_N)), label_N]
    return _mean(-np.log(np.maximum(own, SMALLEST)))


def brier(probs_NK: np.ndarray, label_N: np.ndarray) -> Score:
    """Brier's score, the squared distance to the one-hot label, in [0, 2] (Monthly Weather Review 78, 1950)."""
    own = probs_NK[np.arange(len(label_N)), label_N]
    return _mean((probs_NK**2).sum(1) - 2 * own + 1)


def calibration(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = BINS) -> Score:
    """Expected calibration error over bins (low, high] of equal width, in % (Guo et al., ICML 2017, equation 3)."""
    place, gap = bin_of(confidence_N, bins), right_N - confidence_N.astype(np.float64)
    return lambda w: PERCENT * float(np.abs(np.bincount(place, w * gap, bins)).sum() / w.sum())


def adaptive_calibration(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = BINS) -> Score:
    """The same over bins of equally many answers, in % (Nguyen and O'Connor, EMNLP 2015)."""
    order, group = _ordered(confidence_N)
    sure, right = confidence_N[order].astype(np.float64), right_N[order].astype(np.float64)

    def score(w: np.ndarray) -> float:
        w = w[order]
        place = np.minimum((np.cumsum(w) - w) * bins // w.sum(), bins - 1).astype(int)
        gap = w * (_in_groups(right, group, w) - sure)
        return PERCENT * float(np.abs(np.bincount(place, gap, bins)).sum() / w.sum())

    return score


def class_calibration(probs_NK: np.ndarray, label_N: np.ndarray, bins: int = BINS) -> Score:
    """Mean over the classes of the calibration error of a class's probability, in % (Kull et al., NeurIPS 2019)."""
    classes = probs_NK.shape[1]
    rows, columns = np.nonzero(bin_of(probs_NK, bins))  # few: the probabilities of an image sum to 1
    likely = probs_NK[rows, columns].astype(np.float64)
    cell = columns * bins + bin_of(likely, bins)
    gap = (label_N[rows] == columns) - likely

    def score(w: np.ndarray) -> float:
        gaps = np.bincount(cell, w[rows] * gap, classes * bins).reshape(classes, bins)
        whole = np.bincount(label_N, w, classes) - w @ probs_NK
        gaps[:, 0] = whole - gaps.sum(1)  # the first bin holds the rest
        return PERCENT * float(np.abs(gaps).sum(1).mean() / w.sum())

    return score


def risk_curve(confidence_N: np.ndarray, right_N: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Weights -> coverage and risk, the share answered and the share of these that is wrong, the surest first."""
    order, group = _ordered(-confidence_N.astype(np.float64))
    wrong = 1 - right_N[order].astype(np.float64)

    def curve(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = w[order]
        answered = np.cumsum(w)
        errors = np.cumsum(w * _in_groups(wrong, group, w))
        return answered / answered[-1], errors / np.maximum(answered, SMALLEST)

    return curve


def risk_area(confidence_N: np.ndarray, right_N: np.ndarray) -> Score:
    """Area under the risk-coverage curve, in %: mean risk over all coverages (Geifman et al., ICLR 2019)."""
    curve = risk_curve(confidence_N, right_N)
    return lambda w: PERCENT * float((np.diff((c := curve(w))[0], prepend=0.0) * c[1]).sum())


def roc_area(inside_N: np.ndarray, outside_M: np.ndarray) -> Score:
    """Probability that a picture of the classes has more confidence than another, in % (AUROC; ties count half).

    Weights are those of the N pictures of the classes, then of the M others (Hendrycks and Gimpel, ICLR 2017).
    """

    def area(own: np.ndarray, other: np.ndarray) -> float:
        above = own.sum() - np.cumsum(own)
        return PERCENT * float((other * (above + own / 2)).sum() / (own.sum() * other.sum()))

    return _of_groups(inside_N, outside_M, area)


def false_positives(inside_N: np.ndarray, outside_M: np.ndarray) -> Score:
    """Share of other pictures that are as sure as the surest 95 % of those of the classes, in % (FPR at 95 % TPR).

    Weights as for `roc_area` (Liang et al., ICLR 2018).
    """

    def share(own: np.ndarray, other: np.ndarray) -> float:
        accepted, false = np.cumsum(own[::-1]), np.cumsum(other[::-1])
        first = int(np.argmax(accepted >= ACCEPTED * own.sum() - 1e-9))
        return PERCENT * float(false[first] / other.sum())

    return _of_groups(inside_N, outside_M, share)


def paired_difference(before: Score, after: Score, sizes: Sequence[int], resamples: int = RESAMPLES) -> Interval:
    """`after` minus `before` with its 95 % interval, from the deviation over a bootstrap that draws the same images.

    Not its percentiles: calibration errors of resamples are too large, the smaller ones the more, which moves these.

    Args:
        before, after: of the same images.
        sizes: of the groups that images are drawn from, each on its own.
        resamples: of the bootstrap.
    """
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        parts = [np.bincount(rng.integers(size, size=size), minlength=size) for size in sizes]
        return np.concatenate(parts).astype(np.float64)

    ones = np.ones(sum(sizes))
    change = after(ones) - before(ones)
    deviation = float(np.std([after(w) - before(w) for w in (draw() for _ in range(resamples))]))
    return Interval(change, change - Z * deviation, change + Z * deviation)


def _mean(values: np.ndarray) -> Score:
    return lambda w: float(w @ values / w.sum())


def _ordered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What sorts values, and the number of each sorted value's group of equals."""
    order = np.argsort(values, kind="stable")
    return order, np.concatenate([[0], np.cumsum(np.diff(values[order]) != 0)])


def _in_groups(values: np.ndarray, group: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Each value's weighted mean over its group."""
    weight = np.bincount(group, w)
    found: np.ndarray = (np.bincount(group, w * values) / np.maximum(weight, SMALLEST))[group]
    return found


def _of_groups(inside: np.ndarray, outside: np.ndarray, value: Callable[[np.ndarray, np.ndarray], float]) -> Score:
    """A score of the weights of both kinds by rising confidence, equals together."""
    order, group = _ordered(np.concatenate([inside, outside]))
    stranger = order >= len(inside)

    def score(w: np.ndarray) -> float:
        w = w[order]
        return value(np.bincount(group, w * ~stranger), np.bincount(group, w * stranger))

    return score
