"""Scores against torchmetrics, torch and plain loops, on random confidences with and without ties."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryAUROC, BinaryCalibrationError, BinaryROC

from tpt.results.tables import scores
from tpt.results.tables.results import binned, calibration_error

N, K = 400, 7
ONES = np.ones(N)


def made(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (N, K), labels, confidences and correctness; `ties` rounds confidences to one decimal."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, K)) * rng.choice([0.5, 1.0, 2.0])  # no probability is 1 in float32
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = np.where(rng.random(N) < 0.4, probs.argmax(1), rng.integers(0, K, N))
    confidence = probs.max(1).astype(np.float32)
    if ties:
        confidence = np.round(confidence, 1)
    return probs, label, confidence, probs.argmax(1) == label


@pytest.mark.parametrize("seed", range(4))
def test_likelihood_brier_and_class_calibration(seed: int) -> None:
    probs, label, _, _ = made(seed)
    tensor, labels = torch.tensor(probs), torch.tensor(label)
    assert scores.likelihood(probs, label)(ONES) == pytest.approx(
        float(torch.nn.functional.nll_loss(tensor.log(), labels))
    )
    one_hot = torch.nn.functional.one_hot(labels, K)
    assert scores.brier(probs, label)(ONES) == pytest.approx(float(((tensor - one_hot) ** 2).sum(1).mean()))
    each = [float(BinaryCalibrationError(n_bins=15)(tensor[:, k].float(), (labels == k).long())) for k in range(K)]
    assert scores.class_calibration(probs, label)(ONES) == pytest.approx(100 * np.mean(each), abs=1e-4)


def test_likelihood_of_a_zero_probability_is_finite() -> None:
    assert scores.likelihood(np.array([[1.0, 0.0]]), np.array([1]))(np.ones(1)) == pytest.approx(-np.log(2.0**-23))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_calibration_of_confidences(seed: int, ties: bool) -> None:
    """ECE is `ece` of results.json; with bins of equally many answers, tied answers count with their mean."""
    _, _, confidence, right = made(seed, ties)
    expected = 100 * calibration_error(binned(confidence, right))
    assert scores.calibration(confidence, right)(ONES) == pytest.approx(expected, abs=1e-6)
    hits = np.array([right[confidence == value].mean() for value in confidence])
    order = np.argsort(confidence)
    bins = [[order[i] for i in range(N) if i * 15 // N == b] for b in range(15)]
    gaps = [abs(float(sum(hits[i] - float(confidence[i]) for i in some))) for some in bins]
    assert scores.adaptive_calibration(confidence, right)(ONES) == pytest.approx(100 * sum(gaps) / N, abs=1e-4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_images_outside_the_classes(seed: int, ties: bool) -> None:
    """Scores agree with torchmetrics' areas and curves."""
    inside, outside = made(seed, ties)[2], np.clip(made(seed + 50, ties)[2][:150] - 0.1, 0, 1)
    outside = np.round(outside, 1) if ties else outside
    both = torch.tensor(np.concatenate([inside, outside]))
    target = torch.tensor([1] * len(inside) + [0] * len(outside))
    ones = np.ones(len(both))
    assert scores.roc_area(inside, outside)(ones) == pytest.approx(100 * float(BinaryAUROC()(both, target)), abs=1e-3)
    fpr, tpr, _ = BinaryROC()(both, target)
    expected = 100 * float(fpr[tpr >= 0.95 - 1e-6].min())
    assert scores.false_positives(inside, outside)(ones) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_risk_coverage(seed: int) -> None:
    """The mean risk of the 1, 2, ..., N most confident answers; ties count as the average over their orders."""
    _, _, confidence, right = made(seed)
    wrong = 1.0 - right[np.argsort(-confidence)]
    expected = np.mean([wrong[: n + 1].mean() for n in range(N)])
    assert scores.risk_area(confidence, right)(ONES) == pytest.approx(100 * expected)
    _, _, tied, right = made(seed, ties=True)
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        some = rng.permutation(N)
        wrong = 1.0 - right[some][np.argsort(-tied[some], kind="stable")]
        found.append(np.mean(np.cumsum(wrong) / np.arange(1, N + 1)))
    assert scores.risk_area(tied, right)(ONES) == pytest.approx(100 * np.mean(found), abs=0.3)


Make = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], scores.Score]
EACH: dict[str, Make] = {
    "nll": lambda p, y, c, r: scores.likelihood(p, y),
    "brier": lambda p, y, c, r: scores.brier(p, y),
    "ece": lambda p, y, c, r: scores.calibration(c, r),
    "class": lambda p, y, c, r: scores.class_calibration(p, y),
    "adaptive": lambda p, y, c, r: scores.adaptive_calibration(c, r),
}


@pytest.mark.parametrize("what", EACH)
def test_weights_act_as_copies(what: str) -> None:
    """An image of weight 2 counts twice, one of weight 0 not at all, and the order does not matter."""
    data = made(9, ties=True)
    w = np.random.default_rng(1).integers(0, 3, N)
    copies = np.repeat(np.arange(N), w)[::-1]
    expected = EACH[what](*(part[copies] for part in data))(np.ones(len(copies)))
    assert EACH[what](*data)(w.astype(float)) == pytest.approx(expected, rel=1e-6)


def test_the_bootstrap_is_paired() -> None:
    """For a mean, the interval is close to the normal one of the differences; for equal scores it has no width."""
    rng = np.random.default_rng(3)
    before, gain = rng.normal(size=N) * 10, rng.normal(0.5, 1.0, N)
    one, two = (lambda w, v=values: float(w @ v / w.sum()) for values in (before, before + gain))
    found = scores.paired_difference(one, two, [N])
    wide = 1.96 * gain.std() / np.sqrt(N)
    assert found.mean == pytest.approx(gain.mean())
    assert (found.low, found.high) == pytest.approx((gain.mean() - wide, gain.mean() + wide), abs=0.03)
    same = scores.paired_difference(one, one, [N])
    assert (same.mean, same.low, same.high) == (0, 0, 0)
