"""The paired gain."""

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from tpt.reports import paired_gain
from tpt.reports.statistics import mcnemar


def outcomes(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.random(n) < 0.6
    return before, np.where(rng.random(n) < 0.2, rng.random(n) < 0.7, before)


def test_points_and_counts() -> None:
    gain = paired_gain([True, False, False, True], [True, True, True, False])
    assert (gain.points, gain.won, gain.lost) == (25.0, 2, 1)
    assert gain.p_value == 1.0


def test_interval_agrees_with_resampling_images() -> None:
    before, after = outcomes()
    gain = paired_gain(before, after)
    difference = 100.0 * (after.astype(int) - before)
    expected = bootstrap((difference,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert gain.points == pytest.approx(difference.mean())
    assert gain.low == pytest.approx(expected.low, abs=0.5)
    assert gain.high == pytest.approx(expected.high, abs=0.5)
    assert gain.low < gain.points < gain.high


def test_interval_covers_the_truth() -> None:
    """Of 200 samples some 95 % of the intervals hold the true gain of 0.2 * (0.7 - 0.6) = 2 points."""
    gains = [paired_gain(*outcomes(400, seed), resamples=2000) for seed in range(200)]
    covered = np.mean([g.low <= 2.0 <= g.high for g in gains])
    assert 0.89 <= covered <= 0.99


def test_no_change_and_bad_input() -> None:
    gain = paired_gain([True, False], [True, False])
    assert (gain.points, gain.low, gain.high, gain.p_value) == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="two equally long lists"):
        paired_gain([True], [True, False])
    with pytest.raises(ValueError, match="two equally long lists"):
        paired_gain([], [])


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (3, 3), (5, 12), (200, 251), (4000, 4211)])
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, int]) -> None:
    won, lost = counts
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9) == mcnemar(lost, won)
