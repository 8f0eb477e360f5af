"""Scores of probabilities: likelihood, calibration, risk, images outside the classes; docs/calibration.md defines them.

Each function takes N answers and returns a `Score`, which maps weights of the answers to a value: weights of 1 to the
value itself, the counts of a resample to its bootstrap value.  Answers of equal confidence count with their mean, so
that no score depends on the order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tpt.results.tables.results import BINS
from tpt.results.tables.statistics import PERCENT, Interval, Z, bin_of

Score = Callable[[np.ndarray], float]
ACCEPTED = 0.95  # share of images of the classes that are accepted (TPR) when FPR is measured
RESAMPLES = 500
SMALLEST = float(np.finfo(np.float32).eps)  # lower limit of probabilities in the likelihood, as in scikit-learn


def likelihood(probs_NK: np.ndarray, label_N: np.ndarray) -> Score:
    """Mean negative log-likelihood of the labels, in nats; probabilities below 1.2e-7 count as 1.2e-7."""
    own = probs_NK[np.arange(len(label_N)), label_N]
    return _mean(-np.log(np.maximum(own, SMALLEST)))


def brier(probs_NK: np.ndarray, label_N: np.ndarray) -> Score:
    """Brier score: mean squared distance to the one-hot label, in [0, 2] (Monthly Weather Review 78, 1950)."""
    own = probs_NK[np.arange(len(label_N)), label_N]
    return _mean((probs_NK**2).sum(1) - 2 * own + 1)


def calibration(confidence_N: np.ndarray, right_N: np.ndarray) -> Score:
    """Expected calibration error over bins (low, high] of equal width, in % (Guo et al., ICML 2017, equation 3)."""
    place, gap = bin_of(confidence_N, BINS), right_N - confidence_N.astype(np.float64)
    return lambda w: PERCENT * float(np.abs(np.bincount(place, w * gap, BINS)).sum() / w.sum())


def adaptive_calibration(confidence_N: np.ndarray, right_N: np.ndarray) -> Score:
    """Expected calibration error over bins with equally many answers, in % (Nguyen and O'Connor, EMNLP 2015)."""
    tied, sure = _tied(confidence_N, right_N), np.sort(confidence_N).astype(np.float64)

    def score(w: np.ndarray) -> float:
        w, right = tied(w)
        place = np.minimum((np.cumsum(w) - w) * BINS // w.sum(), BINS - 1).astype(int)
        return PERCENT * float(np.abs(np.bincount(place, w * (right - sure), BINS)).sum() / w.sum())

    return score


def class_calibration(probs_NK: np.ndarray, label_N: np.ndarray) -> Score:
    """Calibration error of each class's probability, averaged over the classes, in % (Kull et al., NeurIPS 2019)."""
    classes = probs_NK.shape[1]
    rows, columns = np.nonzero(bin_of(probs_NK, BINS))  # few, because the probabilities of an image sum to 1
    likely = probs_NK[rows, columns].astype(np.float64)
    cell = columns * BINS + bin_of(likely, BINS)
    gap = (label_N[rows] == columns) - likely

    def score(w: np.ndarray) -> float:
        gaps = np.bincount(cell, w[rows] * gap, classes * BINS).reshape(classes, BINS)
        whole = np.bincount(label_N, w, classes) - w @ probs_NK
        gaps[:, 0] = whole - gaps.sum(1)  # the first bin holds the rest
        return PERCENT * float(np.abs(gaps).sum(1).mean() / w.sum())

    return score


def risk_curve(confidence_N: np.ndarray, right_N: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Weights -> coverage (share answered, most confident first) and risk (share of these answers that is wrong)."""
    tied = _tied(-confidence_N, ~right_N)

    def curve(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, wrong = tied(w)
        answered = np.cumsum(w)
        return answered / answered[-1], np.cumsum(w * wrong) / np.maximum(answered, SMALLEST)

    return curve


def risk_area(confidence_N: np.ndarray, right_N: np.ndarray) -> Score:
    """Area under the risk-coverage curve, in %: mean risk over all coverages (Geifman et al., ICLR 2019)."""
    curve = risk_curve(confidence_N, right_N)
    return lambda w: PERCENT * float((np.diff((c := curve(w))[0], prepend=0.0) * c[1]).sum())


def roc_area(inside_N: np.ndarray, outside_M: np.ndarray) -> Score:
    """Probability that confidence is higher inside the classes than outside, in % (AUROC; ties count half).

    The N images of the classes come first in the weights (Hendrycks and Gimpel, ICLR 2017).
    """

    def area(own: np.ndarray, other: np.ndarray) -> float:
        above = own.sum() - np.cumsum(own)
        return PERCENT * float((other * (above + own / 2)).sum() / (own.sum() * other.sum()))

    return _of_groups(inside_N, outside_M, area)


def false_positives(inside_N: np.ndarray, outside_M: np.ndarray) -> Score:
    """Share of images outside that pass a threshold that 95 % of those inside pass, in % (Liang et al., ICLR 2018)."""

    def share(own: np.ndarray, other: np.ndarray) -> float:
        accepted, false = np.cumsum(own[::-1]), np.cumsum(other[::-1])
        first = int(np.argmax(accepted >= ACCEPTED * own.sum() - 1e-9))
        return PERCENT * float(false[first] / other.sum())

    return _of_groups(inside_N, outside_M, share)


def paired_difference(before: Score, after: Score, sizes: Sequence[int]) -> Interval:
    """`after` minus `before` with a 95 % interval from the standard deviation of a paired bootstrap.

    Percentiles would be biased, because resampling enlarges calibration errors, small ones the most.  The images are
    resampled within groups of these sizes.
    """
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return np.concatenate([np.bincount(rng.integers(size, size=size), minlength=size) for size in sizes])

    ones = np.ones(sum(sizes))
    change = after(ones) - before(ones)
    deviation = float(np.std([after(w) - before(w) for w in (draw() for _ in range(RESAMPLES))]))
    return Interval(change, change - Z * deviation, change + Z * deviation)


def _mean(values: np.ndarray) -> Score:
    return lambda w: float(w @ values / w.sum())


def _ordered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices that sort values, and for each sorted value the number of its group of equal values."""
    order = np.argsort(values, kind="stable")
    return order, np.concatenate([[0], np.cumsum(np.diff(values[order]) != 0)])


def _tied(keys: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Weights -> weights and values in ascending order of the keys; values of equal keys are replaced by their mean."""
    order, group = _ordered(keys)
    values = values[order].astype(np.float64)

    def tied(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = w[order]
        return w, (np.bincount(group, w * values) / np.maximum(np.bincount(group, w), SMALLEST))[group]

    return tied


def _of_groups(inside: np.ndarray, outside: np.ndarray, value: Callable[[np.ndarray, np.ndarray], float]) -> Score:
    """A score from the weights of both kinds, summed over equal confidences, in ascending order of confidence."""
    order, group = _ordered(np.concatenate([inside, outside]))
    stranger = order >= len(inside)

    def score(w: np.ndarray) -> float:
        w = w[order]
        return value(np.bincount(group, w * ~stranger), np.bincount(group, w * stranger))

    return score
