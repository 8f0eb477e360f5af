"""The transfer matrix."""

import json
from pathlib import Path

import pytest

from tests.results.tables.made_runs import make_run, rows_of, share
from tpt.results.tables.published import content
from tpt.results.tables.runs import load_runs
from tpt.results.tables.transfer import relative_improvement, transfer_matrices

RN50 = "RN50-quickgelu/openai"


def learned(folder: Path, source: str, target: str, accuracy: float, n: int = 2463, training: bool = True) -> Path:
    """A run of a context learned on `source`, tested on `target`."""
    context = folder / "learned" / source
    context.mkdir(parents=True, exist_ok=True)
    if training:
        shots = {"k": 16, "key": source}
        (context / "training.json").write_text(json.dumps({"config": {"seed": 1, "shots": shots, "learner": {}}}))
    rows = rows_of(target, share(accuracy, n), share(accuracy, n))
    settings = {"context": {"path": str(context / "prompt_learner" / "model.pth.tar-50")}}
    return make_run(folder / f"{source}_{target}", {target: rows}, "coop", RN50, settings)


def test_worked_example(tmp_path: Path) -> None:
    """Shu et al., the example under Figure 2: 33.41 % against 61.75 % is -0.46."""
    example = content()["transfer_matrix"]["worked_example"]
    assert round(relative_improvement(example["accuracy"], example["zero_shot"]), 2) == example["cell"]
    source, target = example["source"], example["target"]
    learned(tmp_path, source, target, example["accuracy"])
    clip = rows_of(target, share(example["zero_shot"], 2463), share(example["zero_shot"], 2463))
    make_run(tmp_path / "clip", {target: clip}, "clip", RN50)
    (matrix,) = transfer_matrices(load_runs([tmp_path]))
    assert (matrix.sources, matrix.targets) == ((source,), (target,))
    cell = matrix.cells[source, target]
    assert cell.improvement == pytest.approx(example["cell"], abs=0.005) and cell.only_one == 0
    assert cell.difference.low < cell.difference.mean < cell.difference.high < 0


def test_cells_by_source_and_target(tmp_path: Path) -> None:
    """Only images that both runs have count; what was not tested is missing."""
    learned(tmp_path, "dtd", "dtd", 60, 100)
    learned(tmp_path, "dtd", "eurosat", 20, 100)
    learned(tmp_path, "eurosat", "eurosat", 80, 100)
    half = {name: rows_of(name, share(40, 100), share(40, 100))[:50] for name in ("dtd", "eurosat")}
    make_run(tmp_path / "clip", half, "clip", RN50)
    (matrix,) = transfer_matrices(load_runs([tmp_path]))
    assert (matrix.sources, matrix.targets) == (("dtd", "eurosat"), ("dtd", "eurosat"))
    assert ("eurosat", "dtd") not in matrix.cells
    cell = matrix.cells["dtd", "eurosat"]
    assert (cell.accuracy, cell.zero_shot, cell.images, cell.only_one) == (40, 80, 50, 50)
    assert cell.improvement == pytest.approx(-0.5)


def test_a_source_that_is_not_known(tmp_path: Path) -> None:
    run = learned(tmp_path, "dtd", "eurosat", 20, 10, training=False)
    make_run(tmp_path / "clip", {"eurosat": rows_of("eurosat", share(40, 10), share(40, 10))}, "clip", RN50)
    runs = load_runs([tmp_path])
    with pytest.raises(
        ValueError, match=r"names the dataset it was learned on, found none; pass --learned-on .*=DATASET"
    ):
        transfer_matrices(runs)
    (matrix,) = transfer_matrices(runs, {str(run): "dtd"})
    assert matrix.sources == ("dtd",)


def test_what_a_matrix_needs(tmp_path: Path) -> None:
    rows = {"a": rows_of("a", share(40, 10), share(40, 10))}
    clip = load_runs([make_run(tmp_path / "clip", rows, "clip")])
    with pytest.raises(ValueError, match="Expected runs with a learned context, got none"):
        transfer_matrices(clip)
    with pytest.raises(ValueError, match="Expected runs of row=clip for the zero-shot accuracy, got none"):
        transfer_matrices(load_runs([make_run(tmp_path / "coop", rows, "coop")]))
