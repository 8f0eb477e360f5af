"""Metrics against plain computations."""

import numpy as np
import pytest
import torch

from tpt.callbacks.metrics import ExpectedCalibrationError


def plain_ece(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Guo et al., ICML 2017, equation 3, with bins [lo, hi) and 1 in the last one."""
    confidence, right = probs.max(-1), probs.argmax(-1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (index == b).sum() * abs(right[index == b].mean() - confidence[index == b].mean())
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps) / len(labels))


@pytest.mark.parametrize("scale", [0.5, 3.0, 100.0])
def test_calibration_error(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    probs = (torch.randn(400, 7, generator=generator) * scale).softmax(-1)
    labels = torch.randint(0, 7, (400,), generator=generator)
    metric = ExpectedCalibrationError(7, n_bins=15)
    for part, target in zip(probs.split(90), labels.split(90), strict=True):
        metric.update(part, target)
    assert float(metric.compute()) == pytest.approx(plain_ece(probs.numpy(), labels.numpy()), abs=1e-5)


def test_confidence_one_has_no_bin_of_its_own() -> None:
    """Two sure answers, one wrong, and one of 0.98: one bin of mean 0.9933 and accuracy 2/3."""
    probs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.98, 0.02]])
    labels = torch.tensor([0, 1, 0])
    metric = ExpectedCalibrationError(2, n_bins=15)
    metric.update(probs, labels)
    assert float(metric.compute()) == pytest.approx(abs(2 / 3 - 2.98 / 3), abs=1e-5)
