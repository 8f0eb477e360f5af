"""Entropies against SciPy and against their definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from tpt.methods.functional import entropy, marginal_entropy


def logits(views: int, classes: int, scale: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(views, classes)) * scale


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(2, 40), st.floats(0, 50), st.integers(0, 10**6))
def test_agrees_with_scipy(views: int, classes: int, scale: float, seed: int) -> None:
    x = logits(views, classes, scale, seed)
    probs = softmax(x, axis=-1)
    np.testing.assert_allclose(entropy(torch.from_numpy(x)).numpy(), scipy_entropy(probs, axis=-1), atol=1e-9)
    expected = scipy_entropy(probs.mean(0))
    np.testing.assert_allclose(float(marginal_entropy(torch.from_numpy(x))), expected, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(2, 40), st.floats(0, 500), st.integers(0, 10**6))
def test_bounds_and_concavity(views: int, classes: int, scale: float, seed: int) -> None:
    x = torch.from_numpy(logits(views, classes, scale, seed))
    marginal = float(marginal_entropy(x))
    assert -1e-9 <= marginal <= math.log(classes) + 1e-9
    assert marginal >= float(entropy(x).mean()) - 1e-9  # entropy is concave


def test_marginal_entropy_is_not_the_mean_of_entropies() -> None:
    sure_but_split = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    assert float(marginal_entropy(sure_but_split)) == pytest.approx(math.log(2))
    assert float(entropy(sure_but_split).mean()) == pytest.approx(0, abs=1e-6)


def test_batches_of_confident_views_have_finite_gradients() -> None:
    x = (torch.randn(2, 3, 4, 10, generator=torch.Generator().manual_seed(0)) * 1e4).requires_grad_()
    value = marginal_entropy(x)
    assert value.shape == (2, 3)
    value.sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
