"""CoCoOp's base-to-new table and the transfer matrix."""

import json
from pathlib import Path

import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.cli.programs.report import main
from tpt.results.tables.grid import MISSING
from tpt.results.tables.pivots import base_to_new_grids, harmonic_mean, transfer_matrices
from tpt.results.tables.published import content
from tpt.results.tables.report import Comparison, make_report
from tpt.results.tables.runs import load_runs
from tpt.results.tables.statistics import Interval

VIT, RN50 = "ViT-B-16-quickgelu/openai", "RN50-quickgelu/openai"


def run_of(folder: Path, half: str, accuracies: dict[str, int], method: str = "cocoop") -> None:
    rows = {name: answers(name, accuracy, accuracy, 50) for name, accuracy in accuracies.items()}
    make_run(folder / f"{method}_{half}", rows, method, VIT, settings={"data.classes": half})


def base_to_new(folder: Path) -> dict[str, list[str]]:
    """The cells of the only row of the table, by label of the line, and its header."""
    (grid,), _ = base_to_new_grids(load_runs([folder]))
    lines = {line.label: [text.text for text in line.cells] for line in grid.lines}
    return {"columns": list(grid.header[2:]), "row": [line.label for line in grid.lines if line.main], **lines}


def test_harmonic_means(tmp_path: Path) -> None:
    run_of(tmp_path, "base", {"dtd": 80, "eurosat": 60})
    run_of(tmp_path, "new", {"dtd": 40, "eurosat": 60})
    run_of(tmp_path, "base", {"dtd": 90}, "clip")  # the other half is missing
    found = base_to_new(tmp_path)
    assert found["row"] == ["cocoop"] and found["columns"] == ["dtd", "eurosat", "average"]
    assert found["cocoop"] == [f"{harmonic_mean(*both):.2f}" for both in ((80, 40), (60, 60), (70, 50))]
    assert (found["base"], found["new"]) == (["80.00", "60.00", "70.00"], ["40.00", "60.00", "50.00"])
    assert found["published"] == [MISSING, MISSING, "75.83 (80.47, 71.69)"]
    assert harmonic_mean(80, 40) == pytest.approx(2 * 80 * 40 / 120) and harmonic_mean(0, 50) == 0


def test_one_context_per_dataset_makes_one_row(tmp_path: Path) -> None:
    """Each dataset has a context that was learned and tested on it, as in `experiment=base_to_new`."""
    for name, base, new in (("dtd", 80, 40), ("eurosat", 60, 60)):
        learned = tmp_path / "learned" / name
        learned.mkdir(parents=True)
        shots = {"k": 16, "key": name, "draw": {"train": {"key": name}}}
        (learned / "training.json").write_text(json.dumps({"config": {"shots": shots, "learner": {"epochs": None}}}))
        for half, accuracy in (("base", base), ("new", new)):
            settings = {"data.classes": half, "context.path": str(learned)}
            rows = {name: answers(name, accuracy, accuracy, 50)}
            make_run(tmp_path / f"{name}_{half}", rows, "coop", VIT, settings=settings)
    found = base_to_new(tmp_path)
    assert found["row"] == ["coop"] and found["columns"] == ["dtd", "eurosat", "average"]
    assert (found["base"], found["new"]) == (["80.00", "60.00", "70.00"], ["40.00", "60.00", "50.00"])


def test_published_means_are_harmonic() -> None:
    """They agree with CoCoOp's Table 1a to the two printed decimals."""
    printed = {row["method"]: row for row in content()["base_to_new"]["rows"]}
    for method, expected in (("clip", 71.70), ("coop", 71.66), ("cocoop", 75.83)):
        row = printed[method]
        assert row["harmonic_mean"] == expected
        assert harmonic_mean(row["base"], row["new"]) == pytest.approx(expected, abs=0.006)


def test_base_and_new_classes_are_separate_rows(tmp_path: Path) -> None:
    run_of(tmp_path, "base", {"dtd": 80})
    run_of(tmp_path, "new", {"dtd": 40})
    (table,) = make_report(load_runs([tmp_path])).tables
    assert [row.label for row, _ in table.rows] == ["cocoop (classes=base)", "cocoop (classes=new)"]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path, "base", {"dtd": 80})
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--base-to-new"])
    assert "No method has runs on both halves" in capsys.readouterr().err
    run_of(tmp_path, "new", {"dtd": 40})
    main([str(tmp_path), "--base-to-new"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cocoop", VIT, "53.33", "53.33"] in lines and ["new", "40.00", "40.00"] in lines
    assert ["published", MISSING, "75.83", "(80.47,", "71.69)"] in lines


def learned(folder: Path, source: str, target: str, accuracy: float, n: int = 2463, training: bool = True) -> Path:
    """Makes a run on `target` with a context learned on `source`."""
    context = folder / "learned" / source
    context.mkdir(parents=True, exist_ok=True)
    if training:
        shots = {"k": 16, "key": source}
        (context / "training.json").write_text(json.dumps({"config": {"seed": 1, "shots": shots, "learner": {}}}))
    rows = answers(target, accuracy, accuracy, n)
    settings = {"context": {"path": str(context / "prompt_learner" / "model.pth.tar-50")}}
    return make_run(folder / f"{source}_{target}", {target: rows}, "coop", RN50, settings)


def test_worked_example(tmp_path: Path) -> None:
    """The example below Figure 2 of Shu et al.: 33.41 % against 61.75 % gives -0.46."""
    example = content()["transfer_matrix"]["worked_example"]
    printed = Comparison(example["accuracy"], example["zero_shot"], Interval(0, 0, 0), None, 2463, 0)
    assert round(printed.improvement or 0, 2) == example["cell"]
    source, target = example["source"], example["target"]
    learned(tmp_path, source, target, example["accuracy"])
    clip = answers(target, example["zero_shot"], example["zero_shot"], 2463)
    make_run(tmp_path / "clip", {target: clip}, "clip", RN50)
    (matrix,) = transfer_matrices(load_runs([tmp_path]))
    assert (matrix.sources, matrix.targets) == ((source,), (target,))
    cell = matrix.cells[source, target]
    assert cell.improvement == pytest.approx(example["cell"], abs=0.005) and cell.only_one == 0
    assert cell.points.low < cell.points.mean < cell.points.high < 0


def test_cells_by_source_and_target(tmp_path: Path) -> None:
    """Only images in both runs count; pairs that were not tested have no cell."""
    learned(tmp_path, "dtd", "dtd", 60, 100)
    learned(tmp_path, "dtd", "eurosat", 20, 100)
    learned(tmp_path, "eurosat", "eurosat", 80, 100)
    half = {name: answers(name, 40, 40, 100)[:50] for name in ("dtd", "eurosat")}
    make_run(tmp_path / "clip", half, "clip", RN50)
    (matrix,) = transfer_matrices(load_runs([tmp_path]))
    assert (matrix.sources, matrix.targets) == (("dtd", "eurosat"), ("dtd", "eurosat"))
    assert ("eurosat", "dtd") not in matrix.cells
    cell = matrix.cells["dtd", "eurosat"]
    assert (cell.first, cell.second, cell.images, cell.only_one) == (40, 80, 50, 50)
    assert cell.improvement == pytest.approx(-0.5)


def test_an_unknown_source_must_be_given(tmp_path: Path) -> None:
    run = learned(tmp_path, "dtd", "eurosat", 20, 10, training=False)
    make_run(tmp_path / "clip", {"eurosat": answers("eurosat", 40, 40, 10)}, "clip", RN50)
    runs = load_runs([tmp_path])
    with pytest.raises(ValueError, match=r"names the dataset it was learned on\. Pass --learned-on .*=DATASET"):
        transfer_matrices(runs)
    (matrix,) = transfer_matrices(runs, {str(run): "dtd"})
    assert matrix.sources == ("dtd",)


def test_a_matrix_needs_learned_and_zero_shot_runs(tmp_path: Path) -> None:
    rows = {"a": answers("a", 40, 40, 10)}
    clip = load_runs([make_run(tmp_path / "clip", rows, "clip")])
    with pytest.raises(ValueError, match="None of the runs has a learned context"):
        transfer_matrices(clip)
    with pytest.raises(ValueError, match="None of the runs is of row=clip"):
        transfer_matrices(load_runs([make_run(tmp_path / "coop", rows, "coop")]))
