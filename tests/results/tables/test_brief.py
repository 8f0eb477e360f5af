"""The brief table: one line per row."""

from pathlib import Path

import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.cli.programs.report import main
from tpt.results.tables.brief import brief_grids, brief_text
from tpt.results.tables.grid import Grid
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import load_runs

ACCURACIES = {"zero_shot": (50, 40), "zero": (70, 60), "mta": (60, 80), "tpt": (50, 40)}


def sweep(folder: Path) -> Path:
    """Makes runs of four methods on two datasets of 50 images; method n takes n + 0.5 seconds per image."""
    for number, (method, accuracies) in enumerate(ACCURACIES.items()):
        rows = {}
        for dataset, accuracy, before in zip("ab", accuracies, (50, 40), strict=True):
            made = answers(dataset, before, accuracy, 50)
            rows[dataset] = [{**row, "seconds": 0.5 + number} for row in made]
        label = "clip" if method == "zero_shot" else method
        make_run(folder / str(number), rows, label, option=method, settings={"method._target_": method})
    return folder


def grid_of(folder: Path, sort: str = "accuracy") -> Grid:
    (grid,), _ = brief_grids(make_report(load_runs([folder])), sort)
    return grid


def test_one_line_per_row_with_the_best_first(tmp_path: Path) -> None:
    grid = grid_of(sweep(tmp_path))
    assert grid.header == ("method", "backbone", "a", "b", "average", "gain [95 %]", "ECE", "s/image")
    assert [line.label for line in grid.lines] == ["mta", "zero", "clip", "tpt"]
    cells = {line.label: [text.text for text in line.cells] for line in grid.lines}
    assert cells["mta"][:3] == ["60.00", "80.00", "70.00"] and cells["mta"][-1] == "2.500"
    assert cells["zero"][3].startswith("+20.0 [+") and cells["clip"][3] == ""
    assert cells["tpt"][3].startswith("0.0 [-")
    best = [[line.label for line in grid.lines if line.cells[column].best] for column in range(6)]
    assert best[0] == ["zero"] and best[1] == ["mta"] and best[2] == best[3] == ["mta"] and best[5] == ["clip"]


@pytest.mark.parametrize(
    ("sort", "first"), [("accuracy", "mta"), ("gain", "mta"), ("seconds", "clip"), ("order", "clip"), ("ece", None)]
)
def test_sort_orders(tmp_path: Path, sort: str, first: str | None) -> None:
    lines = grid_of(sweep(tmp_path), sort).lines
    assert first is None or lines[0].label == first
    column = {"accuracy": 2, "ece": 4, "seconds": 5}.get(sort)
    if column is not None:
        values = [float(line.cells[column].text) for line in lines]
        assert values == sorted(values, reverse=sort == "accuracy")


def test_ties_have_no_best_and_unfinished_rows_come_last(tmp_path: Path) -> None:
    for number, size in enumerate((10, 0, 10)):
        rows = {"a": answers("a", 50, 50, size)} if size else {"a": []}
        make_run(tmp_path / str(number), rows, settings={"method.steps": number})
    lines = grid_of(tmp_path).lines
    assert [line.label for line in lines] == ["tpt (steps=0)", "tpt (steps=2)", "tpt (steps=1)"]
    assert not any(line.cells[0].best for line in lines)


def test_on_a_terminal_and_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path)
    lines = brief_text(load_runs([tmp_path])).splitlines()
    assert next(line for line in lines if line.startswith("mta")).split()[2:5] == ["60.00", "80.00*", "70.00*"]
    assert all(len(line) <= 60 for line in brief_text(load_runs([tmp_path]), 60).splitlines())
    main([str(tmp_path), "--brief", "--sort", "seconds", "--format", "csv"])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("method,backbone,a,b,average,gain") and second.startswith("clip,emoji-mini,50.00,40.00")


def test_csv_explains_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, rows in enumerate((answers("a", 50, 50, 10), [])):
        make_run(tmp_path / str(number), {"a": rows}, settings={"method.steps": number})
    main([str(tmp_path), "--brief", "--format", "csv"])
    header, whole, marked = capsys.readouterr().out.splitlines()
    assert header.endswith(",marks") and whole.endswith(",") and "other images or classes" in marked
