"""Comparisons between runs."""

from pathlib import Path

import numpy as np
import pytest

from tests.results.tables.made_runs import answers, make_run, rows_of
from tpt.results.tables.published import AVERAGE
from tpt.results.tables.report import compare, make_report
from tpt.results.tables.runs import load_run, load_runs
from tpt.results.tables.statistics import mean_interval, paired_gain


def outcomes(seed: int, n: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < 0.6


def test_images_are_joined_by_path(tmp_path: Path) -> None:
    """The second run has half of the images, in a different order: only these count, matched by path."""
    first, second = outcomes(0), outcomes(1)
    order = np.random.default_rng(2).permutation(200)[:100]
    make_run(tmp_path / "0", {"a": rows_of("a", first, first)})
    rows = rows_of("a", second, second)
    make_run(tmp_path / "1", {"a": [{**rows[i], "index": k} for k, i in enumerate(order.tolist())]})
    found = compare([load_run(tmp_path / "0")], [load_run(tmp_path / "1")], "a")
    expected = paired_gain(second[order], first[order])
    assert found is not None and (found.images, found.only_one) == (100, 100)
    assert found.points.mean == pytest.approx(expected.points) and found.p_value == pytest.approx(expected.p_value)
    assert (found.points.low, found.points.high) == pytest.approx((expected.low, expected.high))


def test_different_images_or_classes_are_refused(tmp_path: Path) -> None:
    good = rows_of("a", outcomes(0, 5), outcomes(0, 5))
    make_run(tmp_path / "0", {"a": good})
    make_run(tmp_path / "1", {"a": [{**good[0], "content": "f" * 16}, *good[1:]]})
    make_run(tmp_path / "2", {"a": [{**good[0], "label": 1}, *good[1:]]})
    make_run(tmp_path / "3", {"a": good}, about={"a": {"classes": 7}})
    runs = load_runs([tmp_path])
    same = "not the same picture of the same class in"
    for other, sentence in ((1, same), (2, same), (3, "Expected the same .*got 2 in .* and 7 in")):
        with pytest.raises(ValueError, match=sentence):
            compare([runs[0]], [runs[other]], "a")


def test_against_a_row_or_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "clip", {"a": rows_of("a", outcomes(0), outcomes(0))}, "clip")
    make_run(tmp_path / "tpt", {"a": rows_of("a", outcomes(0), outcomes(1))})
    runs = load_runs([tmp_path])
    for against in ("clip", load_runs([tmp_path / "clip"])):
        report = make_report(runs, against=against)
        (_, clip), (_, tpt) = report.tables[0].rows
        assert report.against == "clip" and clip["a"].against is None
        assert tpt["a"].against is not None and tpt["a"].gain is not None
        assert tpt["a"].against.points == tpt["a"].gain  # the same images before tuning
        assert tpt["a"].against.p_value == tpt["a"].p_value


def test_a_row_name_selects_the_row_of_the_same_backbone(tmp_path: Path) -> None:
    for number, backbone in enumerate(("one", "two")):
        make_run(tmp_path / f"clip{number}", {"a": rows_of("a", outcomes(number), outcomes(number))}, "clip", backbone)
        make_run(tmp_path / f"tpt{number}", {"a": rows_of("a", outcomes(number), outcomes(number))}, "tpt", backbone)
    report = make_report(load_runs([tmp_path]), against="clip")
    points = [c["a"].against.points.mean for _, c in report.tables[0].rows if c["a"].against is not None]
    assert points == [0.0, 0.0]


def test_impossible_comparisons_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "clip", {"a": rows_of("a", outcomes(0), outcomes(0))}, "clip")
    other = rows_of("a", outcomes(0), outcomes(1), paths=[f"other{i}" for i in range(200)])
    make_run(tmp_path / "tpt", {"a": other})
    runs = load_runs([tmp_path])
    with pytest.raises(ValueError, match="have no images in common"):
        make_report(runs, against="clip")
    with pytest.raises(ValueError, match="got 0 for 'nothing'; name one of: clip, tpt"):
        make_report(runs, against="nothing")
    with pytest.raises(ValueError, match="Expected one row to compare with, got 2"):
        make_report(runs, against=runs)


def test_interval_of_a_mean() -> None:
    """About 95 % of the intervals from 300 samples of 40 values contain the true mean."""
    draws = np.random.default_rng(0).normal(3, 2, size=(300, 40))
    covered = np.mean([found.low <= 3 <= found.high for found in map(mean_interval, draws)])
    assert 0.91 <= covered <= 0.98 and mean_interval(draws[0]).mean == pytest.approx(draws[0].mean())
    assert mean_interval([2.0]).low == 2.0


def test_averages_are_compared_too(tmp_path: Path) -> None:
    """Two datasets of 40 images, 10 and 20 points above the other row: the average's interval combines both."""
    for number, (one, two) in enumerate(((60, 50), (70, 70))):
        rows = {"a": answers("a", 50, one, 40), "b": answers("b", 50, two, 40)}
        make_run(tmp_path / str(number), rows, settings={"method.steps": number + 1})
    found = make_report(load_runs([tmp_path]), against="tpt (steps=1)")
    cells = {row.label: cells for row, cells in found.tables[0].rows}["tpt (steps=2)"]
    against = [cells[name].against for name in ("a", "b", AVERAGE)]
    first, second, average = (a for a in against if a is not None)
    assert [a.points.mean for a in (first, second, average)] == pytest.approx([10, 20, 15])
    assert average.p_value is None and average.images == 80
    wide = np.hypot(*(a.points.high - a.points.mean for a in (first, second))) / 2
    assert average.points.high - 15 == pytest.approx(wide)
