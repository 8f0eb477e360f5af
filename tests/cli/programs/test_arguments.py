"""Errors in the command line, for every program."""

import importlib

import pytest

PROGRAMS = ("attack", "cache", "data", "demo", "predict", "report", "views", "words")


@pytest.mark.parametrize("wrong", ["--no-such-option", "--no\nsuch"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrong_option_gives_a_one_line_error(name: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"tpt.cli.programs.{name}").main([wrong])
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and said.count("\n") == 1 and "--help" in said
