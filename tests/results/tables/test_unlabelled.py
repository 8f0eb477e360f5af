"""Images without labels: results, tables, figures and progress show nothing that needs a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.results.tables.made_runs import make_run, rows_of
from tpt.engine.callbacks.progress import Pace, summary
from tpt.engine.contact_sheet import texts_of
from tpt.results.figures import draw_all
from tpt.results.tables.brief import print_table, results_text
from tpt.results.tables.classes import CHANGED, flips_of
from tpt.results.tables.formats import FORMATS, render
from tpt.results.tables.report import make_report
from tpt.results.tables.results import averages, results_of
from tpt.results.tables.runs import load_run
from tpt.results.tables.statistics import paired_gain

NOTHING = dict.fromkeys(("label", "class_name", "rank", "rank_zero_shot"))
BEFORE, AFTER = np.arange(20) < 8, np.arange(20) % 5 > 0


def unlabelled(name: str = "pictures") -> list[dict[str, Any]]:
    return [row | NOTHING for row in rows_of(name, BEFORE, AFTER)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"pictures": unlabelled()})


def test_results_and_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = results_of(folder)
    found = results["datasets"]["pictures"]
    changed = 100 * float((BEFORE != AFTER).mean())
    assert found["changed"] == pytest.approx(changed) and found["gain"] is None and found["images"] == 20
    assert (
        not {"acc", "acc5", "ece"} & (found.keys() | results["averages"].keys()) and "gain" not in results["averages"]
    )
    rows = unlabelled()
    assert found["confidence"] == pytest.approx(100 * np.mean([row["confidence"] for row in rows]), abs=1e-4)
    shown = results_text(results)
    assert f"{changed:.1f} %" in shown and "gain" not in shown and "zero-shot" not in shown
    print_table(results)
    assert "accuracy" not in capsys.readouterr().out


def test_datasets_with_and_without_labels(tmp_path: Path) -> None:
    """The labelled dataset has an accuracy, but there is no average accuracy."""
    folder = make_run(tmp_path / "run", {"a": rows_of("a", BEFORE, AFTER), "pictures": unlabelled()})
    results = results_of(folder)
    assert results["datasets"]["a"]["acc"] == pytest.approx(100 * AFTER.mean())
    assert results["datasets"]["a"]["gain"]["points"] == pytest.approx(paired_gain(BEFORE, AFTER).points)
    assert "acc" not in results["averages"] and "changed" in results["averages"]
    shown = results_text(results)
    assert "gain" in shown and "pictures" in shown
    report = render(make_report([load_run(folder)]), "markdown")
    assert f"{100 * AFTER.mean():.2f}" in report and "pictures without labels have no accuracy" in report


@pytest.mark.parametrize("format", FORMATS)
def test_report(format: str, folder: Path) -> None:
    run = load_run(folder)
    assert run.outcomes == {}
    text = render(make_report([run]), format)
    assert "pictures without labels have no accuracy" in text and "nan" not in text.lower()


def test_a_report_cannot_compare_without_labels(folder: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", {"pictures": unlabelled()}, method="clip")
    with pytest.raises(ValueError, match="have no images in common"):
        make_report([load_run(folder), load_run(other)], against="clip")


def test_figures(folder: Path, tmp_path: Path) -> None:
    drawn = {path.name for path in draw_all([load_run(folder)], tmp_path / "figures")}
    assert drawn == {"entropy_tpt.png", "entropy_tpt.svg"}
    svg = (tmp_path / "figures" / "entropy_tpt.svg").read_text()
    assert "changed" in svg and "became right" not in svg


def test_flips_are_neither_fixed_nor_broken() -> None:
    kinds = [kind for kind, _ in flips_of(unlabelled(), 100)]
    assert kinds == [CHANGED] * int((BEFORE != AFTER).sum())


def test_sheet_texts() -> None:
    lines = texts_of(unlabelled()[0], ["cat", "dog"])
    assert not any("right" in line or "wrong" in line or "class" in line for line in lines)


def test_progress_shows_the_share_of_changed_predictions() -> None:
    pace = Pace({"pictures": 40}, clock=iter(range(100)).__next__)
    pace.add("pictures", unlabelled())
    assert f"{100 * (BEFORE != AFTER).mean():.1f} % changed" in summary(pace, "pictures")
    assert "acc" not in summary(pace, "pictures")


def test_no_averages_without_common_measures() -> None:
    assert averages({"a": {"acc": 50.0}, "b": {"changed": 1.0}}) == {}
