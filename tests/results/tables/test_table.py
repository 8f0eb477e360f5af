"""The table that a run prints."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.data.catalog.entries import NATURAL_SHIFT
from tpt.results.tables import results
from tpt.results.tables.brief import results_text

# Table 1, ViT-B/16, CLIP
CELLS = dict(zip(NATURAL_SHIFT, (66.73, 47.87, 60.86, 73.98, 46.09), strict=True))


def test_averages_of_a_results_file() -> None:
    """Averages of the paper's five accuracies agree with its printed averages."""
    datasets = {name: {**dict.fromkeys(results.AVERAGED, 1.0), "acc": acc} for name, acc in CELLS.items()}
    found = results.averages(datasets)
    assert found["acc"] == pytest.approx(59.11, abs=0.005)
    assert found["shifted"]["acc"] == pytest.approx(57.20, abs=0.005)
    assert "shifted" not in results.averages({"dtd": datasets["imagenet"]})  # no source dataset
    assert "shifted" not in results.averages({"imagenet": datasets["imagenet"]})


def results_of_a_run(folder: Path, method: str = "tpt+cocoop") -> dict[str, Any]:
    """Results on three datasets of 40 images: a gain of 10 points on the first, none on the others."""
    after = {"source_val": 60, "photos [final]": 50, "[red]\\x": 50}
    make_run(folder, {name: answers(name, 50, to, 40) for name, to in after.items()}, method)
    return results.results_of(folder)


@pytest.mark.parametrize("width", [40, 60, 80, 200, None])
def test_numbers_and_names_are_never_cut(tmp_path: Path, width: int | None) -> None:
    """This holds at any width; in a log file (no width), lines are not wrapped."""
    text = results_text(results_of_a_run(tmp_path), width)
    assert "…" not in text and "..." not in text
    for name in ("source_val", "photos [final]", "[red]\\x"):
        assert name in text
    assert "+10.0 [" in text and text.count("60.00") == 1 and text.count("50.00") == 8
    assert width is None or max(map(len, text.splitlines())) <= width
    if width is None:
        assert len(next(line for line in text.splitlines() if line.startswith("source_val")).split()) == 9


def test_the_table_of_a_run(tmp_path: Path) -> None:
    """A gain of 0 and the averages have intervals too; computed by hand from the counts."""
    found = results_of_a_run(tmp_path)
    lines = results_text(found, 120).splitlines()
    row = next(line for line in lines if line.startswith("photos"))
    low, high = map(float, re.findall(r"0\.0 \[(-[\d.]+),\+([\d.]+)\]", row)[0])
    assert low == -high and high == pytest.approx(100 * 1.96 * (2 / 42 / 42) ** 0.5, abs=0.06)
    average = next(line for line in lines if line.startswith("average"))
    gains = [d["gain"] for d in found["datasets"].values()]
    low = 10 / 3 - sum((g["points"] - g["low"]) ** 2 for g in gains) ** 0.5 / 3
    high = 10 / 3 + sum((g["high"] - g["points"]) ** 2 for g in gains) ** 0.5 / 3
    assert f"+3.3 [{low:+.1f},{high:+.1f}]" in average
    assert found["averages"]["gain"]["points"] == pytest.approx(10 / 3)
    assert found["averages"]["shifted"]["gain"]["points"] == 0
