"""Every CSV marks the lines of runs that left images out."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.cli.programs.report import main

NOT_ALL = {"unfinished": ({"to_test": 12, "size": 12}, "10 of 12"), "on part": ({"size": 99}, "10 of 99")}


def records(name: str = "a") -> list[dict[str, Any]]:
    return answers(name, 40, 60, 10)


def made(folder: Path, option: str, about: dict[str, Any] | None) -> None:
    """Makes the runs that an option of `tpt-report` needs; `about` makes the last one incomplete."""
    learned = folder / "learned"
    learned.mkdir()
    (learned / "training.json").write_text(json.dumps({"config": {"shots": {"k": 16, "key": "a"}, "learner": {}}}))
    context = {"context.path": str(learned)}
    settings = {
        "--base-to-new": [context | {"data.classes": "base"}, context | {"data.classes": "new"}],
        "--transfer": [context],
    }.get(option, [{}])
    make_run(folder / "clip", {"a": records()}, "clip")
    for number, each in enumerate(settings):
        last = each is settings[-1] and about
        make_run(folder / f"run{number}", {"a": records()}, "coop", settings=each, about={"a": about} if last else {})


def lines_of(folder: Path, option: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    main([str(folder), "--format", "csv", *filter(None, [option])])
    tables = capsys.readouterr().out.split("\n\n")
    return [row for table in tables for row in csv.DictReader(io.StringIO(table))]


OPTIONS = ("", "--brief", "--per-class", "--trust", "--base-to-new", "--transfer")


@pytest.mark.parametrize("why", NOT_ALL)
@pytest.mark.parametrize("option", OPTIONS)
def test_lines_with_left_out_images_are_marked(
    option: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about, count = NOT_ALL[why]
    made(tmp_path, option, about)
    lines = lines_of(tmp_path, option, capsys)
    whole = [row for row in lines if any("clip" in text for text in row.values())]
    assert bool(whole) == (option not in ("--base-to-new", "--transfer"))  # each of their lines combines two runs
    for row in lines:
        said = row.get("marks", row.get("a marks", ""))
        assert not said if row in whole else why in said and count in said


@pytest.mark.parametrize("option", OPTIONS)
def test_whole_runs_have_no_marks(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, option, None)
    assert not any("marks" in name for row in lines_of(tmp_path, option, capsys) for name in row)


def test_lines_of_several_tables_name_their_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "0", {name: records(name) for name in ("a", "b")}, about={"b": {"size": 99}})
    lines = lines_of(tmp_path, "--trust", capsys)
    assert {row["table"].rpartition(" ")[2]: bool(row.get("marks")) for row in lines} == {
        "a": False, "b": True, "average": True
    }  # fmt: skip
    assert all(
        "a, tpt" in row["table"] or "b, tpt" in row["table"] for row in lines_of(tmp_path, "--per-class", capsys)
    )
