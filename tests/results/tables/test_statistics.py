"""Intervals and tests of accuracies and paired gains."""

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from tpt.results.tables.statistics import (
    difference_interval,
    gain_of_counts,
    mcnemar,
    mean_of_intervals,
    paired_gain,
    wilson,
)


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


def test_interval_covers_the_true_gain() -> None:
    """About 95 % of the intervals from 200 samples contain the true gain, 0.2 * (0.7 - 0.6) = 2 points."""
    gains = [paired_gain(*outcomes(400, seed)) for seed in range(200)]
    covered = np.mean([g.low <= 2.0 <= g.high for g in gains])
    assert 0.89 <= covered <= 0.99


@pytest.mark.parametrize(
    ("won", "lost", "images", "expected"),
    [
        # documentation of ci.prop.ps(.05, 12, 4, 26, 6) in Bonett's package statpsych 1.7.0
        (26, 4, 48, (25.48067, 62.51933)),
        # documentation of se.prop.ps(16, 64, 5, 15) in package vcmeta: estimate and standard error
        (64, 5, 100, tuple(100 * (0.5784314 + z * 1.959964 * 0.05953213) for z in (-1, 1))),
    ],
)
def test_published_intervals(won: int, lost: int, images: int, expected: tuple[float, float]) -> None:
    gain = gain_of_counts(won, lost, images)
    assert (gain.low, gain.high) == pytest.approx(expected, abs=2e-4)
    differences = np.r_[np.ones(won), -np.ones(lost), np.zeros(images - won - lost)]
    found = difference_interval(differences)
    assert (found.mean, found.low, found.high) == pytest.approx((gain.points, gain.low, gain.high))


def test_an_unchanged_accuracy_still_has_an_interval() -> None:
    """The interval reaches about 2 points for 150 images (rule of three), and is very wide for two images."""
    gain = paired_gain([True] * 90 + [False] * 60, [True] * 90 + [False] * 60)
    assert gain.points == 0 and gain.low == pytest.approx(-gain.high) and 1.5 < gain.high < 2.5
    assert paired_gain([True, False], [True, False]).high > 50
    assert difference_interval(np.zeros(5)).low < -20


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (0, 9), (9, 0), (3, 6), (1, 0)])
def test_a_gain_lies_in_its_interval(won: int, lost: int) -> None:
    gain = gain_of_counts(won, lost, 9)
    assert -100 <= gain.low <= gain.points <= gain.high <= 100 and gain.low < gain.high
    other = gain_of_counts(lost, won, 9)
    assert (other.points, other.low, other.high) == pytest.approx((-gain.points, -gain.high, -gain.low))


def test_accuracy_intervals_are_wilsons() -> None:
    """The interval also has a width if all images are right or all are wrong."""
    for right, images in ((0, 7), (3, 10), (81, 263), (20, 20)):
        found = wilson(right / images, images)
        low, high = binomtest(right, images).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((100 * low, 100 * high))
        assert found.mean == pytest.approx(100 * right / images) and found.low < found.high
    printed = wilson(81 / 263, 263)  # Newcombe's example (Stat. Med. 17, 1998, pages 857 to 872)
    assert (printed.low, printed.high) == pytest.approx((25.53, 36.62), abs=0.005)


def test_an_average_of_independent_datasets() -> None:
    """Four equal datasets halve the interval; for different ones, about 95 % of the intervals contain the true mean."""
    one = difference_interval(np.array([1.0, 0, 0, -1] * 25))
    four = mean_of_intervals([one] * 4)
    assert four.mean == one.mean and four.high - four.mean == pytest.approx((one.high - one.mean) / 2)
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        draws = [rng.choice([1.0, 0, -1], size=n, p=[0.1, 0.86, 0.04]) for n in (40, 150, 600)]
        found = mean_of_intervals([difference_interval(draw) for draw in draws])
        covered += found.low <= 6 <= found.high
    assert 0.92 <= covered / 300 <= 0.99


def test_bad_input() -> None:
    gain = paired_gain([True, False], [True, False])
    assert (gain.points, gain.p_value) == (0.0, 1.0)
    with pytest.raises(ValueError, match="two equally long lists"):
        paired_gain([True], [True, False])
    with pytest.raises(ValueError, match="two equally long lists"):
        paired_gain([], [])


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (3, 3), (5, 12), (200, 251), (4000, 4211)])
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, int]) -> None:
    won, lost = counts
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9) == mcnemar(lost, won)
