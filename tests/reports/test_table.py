"""Runs side by side."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tpt.reports import comparison_table, results
from tpt.reports.__main__ import load, main

CELLS = {
    "imagenet": 66.73,
    "imagenet_a": 47.87,
    "imagenet_v2": 60.86,
    "imagenet_r": 73.98,
    "imagenet_sketch": 46.09,
}  # Table 1, ViT-B/16, CLIP


def run(method: str, **accuracies: float) -> dict[str, Any]:
    datasets = {name: {"acc": acc, "images": 10, "size": 10} for name, acc in accuracies.items()}
    return {"method": method, "backbone": {"name": "ViT-B-16"}, "datasets": datasets}


def text(runs: list[dict[str, Any]]) -> list[list[str]]:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparison_table(runs))
    return [line.replace("│", " ").split() for line in console.export_text().splitlines()]


def test_rows_columns_and_averages() -> None:
    """The paper's own cells: Table 1, ViT-B/16, CLIP."""
    lines = text([run("clip", **CELLS)])
    assert lines[-1] == ["clip", "ViT-B-16", "66.73", "47.87", "60.86", "73.98", "46.09", "59.11", "57.20"]


def test_averages_of_a_results_file() -> None:
    """The same row, as one run on all five writes it."""
    datasets = {name: {**dict.fromkeys(results.AVERAGED, 1.0), "acc": acc} for name, acc in CELLS.items()}
    found = results.averages(datasets)
    assert found["acc"] == pytest.approx(59.11, abs=0.005) and found["shifted"]["acc"] == pytest.approx(
        57.20, abs=0.005
    )
    assert "shifted" not in results.averages({"dtd": datasets["imagenet"]})  # nothing it was learned on
    assert "shifted" not in results.averages({"imagenet": datasets["imagenet"]})


def test_missing_and_partial_cells() -> None:
    part = run("tpt", a=50.0)
    part["datasets"]["a"]["images"] = 5
    lines = text([run("clip", a=40.0, b=60.0), part])
    assert lines[-1] == ["tpt", "ViT-B-16", "50.00*", "-", "-", "-"]


def test_reads_directories_and_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / "0" / "results.json").write_text(json.dumps(run("clip", a=40.0)))
    assert len(load(tmp_path)) == 1
    main([str(tmp_path)])
    assert "40.00" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="found no results.json"):
        main([str(tmp_path / "nowhere")])
    (tmp_path / "sweep" / "0" / "results.json").write_text("{")
    with pytest.raises(SystemExit, match="Expected JSON in"):
        main([str(tmp_path)])
