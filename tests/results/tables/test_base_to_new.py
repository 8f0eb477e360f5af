"""CoCoOp's base-to-new table."""

import json
from pathlib import Path

import pytest

from tests.results.tables.made_runs import make_run, rows_of, share
from tpt.cli.programs.report import main
from tpt.results.tables.base_to_new import Halves, base_to_new
from tpt.results.tables.grid import MISSING
from tpt.results.tables.published import content
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import load_runs

VIT = "ViT-B-16-quickgelu/openai"


def run_of(folder: Path, half: str, accuracies: dict[str, int], method: str = "cocoop") -> None:
    rows = {name: rows_of(name, share(accuracy, 50), share(accuracy, 50)) for name, accuracy in accuracies.items()}
    make_run(folder / f"{method}_{half}", rows, method, VIT, settings={"data.classes": half})


def test_harmonic_means(tmp_path: Path) -> None:
    run_of(tmp_path, "base", {"dtd": 80, "eurosat": 60})
    run_of(tmp_path, "new", {"dtd": 40, "eurosat": 60})
    run_of(tmp_path, "base", {"dtd": 90}, "clip")  # whose other half is missing
    (found,) = base_to_new(load_runs([tmp_path]))
    assert found.row.first.method == "cocoop" and found.cells == {"dtd": Halves(80, 40), "eurosat": Halves(60, 60)}
    assert found.cells["dtd"].harmonic_mean == pytest.approx(2 * 80 * 40 / 120)
    assert found.average == Halves(70, 50) and found.average.harmonic_mean == pytest.approx(2 * 70 * 50 / 120)
    assert found.printed == Halves(80.47, 71.69)
    assert Halves(0, 50).harmonic_mean == 0


def test_contexts_of_their_own_datasets_make_one_row(tmp_path: Path) -> None:
    """A context for each dataset, learned and tested there, as `experiment=base_to_new` has it."""
    for name, base, new in (("dtd", 80, 40), ("eurosat", 60, 60)):
        learned = tmp_path / "learned" / name
        learned.mkdir(parents=True)
        shots = {"k": 16, "key": name, "draw": {"train": {"key": name}}}
        (learned / "training.json").write_text(json.dumps({"config": {"shots": shots, "learner": {"epochs": None}}}))
        for half, accuracy in (("base", base), ("new", new)):
            settings = {"data.classes": half, "context.path": str(learned)}
            rows = {name: rows_of(name, share(accuracy, 50), share(accuracy, 50))}
            make_run(tmp_path / f"{name}_{half}", rows, "coop", VIT, settings=settings)
    (found,) = base_to_new(load_runs([tmp_path]))
    assert found.cells == {"dtd": Halves(80, 40), "eurosat": Halves(60, 60)}


def test_published_means_are_harmonic() -> None:
    """As printed in CoCoOp's Table 1a, to two digits."""
    printed = {row["method"]: row for row in content()["base_to_new"]["rows"]}
    for method, expected in (("clip", 71.70), ("coop", 71.66), ("cocoop", 75.83)):
        row = printed[method]
        assert row["harmonic_mean"] == expected
        assert Halves(row["base"], row["new"]).harmonic_mean == pytest.approx(expected, abs=0.006)


def test_the_halves_are_rows_of_their_own(tmp_path: Path) -> None:
    run_of(tmp_path, "base", {"dtd": 80})
    run_of(tmp_path, "new", {"dtd": 40})
    (table,) = make_report(load_runs([tmp_path])).tables
    assert [row.label for row, _ in table.rows] == ["cocoop (classes=base)", "cocoop (classes=new)"]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path, "base", {"dtd": 80})
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--base-to-new"])
    assert "found none; test with data.classes=base" in capsys.readouterr().err
    run_of(tmp_path, "new", {"dtd": 40})
    main([str(tmp_path), "--base-to-new"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cocoop", VIT, "53.33", "53.33"] in lines and ["new", "40.00", "40.00"] in lines
    assert ["published", MISSING, "75.83", "(80.47,", "71.69)"] in lines
