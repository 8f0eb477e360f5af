"""`resume=DIRECTORY` gives the command line of the run that is continued."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tpt.cli.quoting import for_hydra, setting
from tpt.cli.resume import continued
from tpt.errors import UserError
from tpt.results.runs.start import Start, keep_start, read_start


def run(folder: Path, *settings: str, program: str = "test_time", sweep: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    keep_start(folder, Start(program, settings or ("seed=1",), sweep))
    return folder


@pytest.mark.parametrize("name", ["a", "a b", "it's", 'say "x"', "a=b,c", "données", "[x]", "back\\slash", "#1", "~"])
def test_a_run_is_continued_wherever_it_lies(name: str, tmp_path: Path) -> None:
    folder = run(tmp_path / name)
    for given_as in (str(folder), for_hydra(str(folder)), f"'{folder}'" if "'" not in name else str(folder)):
        first, added, where, resume = continued([f"resume={given_as}", "data.num_workers=2"], "test_time")
        assert (first, added, resume) == ("seed=1", "data.num_workers=2", "resume=auto")
        assert OverridesParser.create().parse_override(where).value() == str(folder)


def test_a_sweep_is_continued(tmp_path: Path) -> None:
    run(tmp_path, "seed=1,2", sweep=True)
    assert continued([f"resume={tmp_path}"], "test_time")[:2] == ["--multirun", "seed=1,2"]


@pytest.mark.parametrize("value", ["auto", "null", "a/last.ckpt"])
def test_what_is_no_directory_stays(value: str) -> None:
    assert continued([f"resume={value}", "seed=1"], "train_coop") == [f"resume={value}", "seed=1"]
    assert continued(["seed=1"], "test_time") == ["seed=1"]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"program": "test_time"}', '{"settings": [1]}', "\udce9", "[" * 10**5]
)
def test_a_damaged_start_is_a_sentence(damage: str, tmp_path: Path) -> None:
    (tmp_path / "start.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="but it is damaged"):
        continued([f"resume={tmp_path}"], "test_time")


@pytest.mark.parametrize("file", [".hydra/overrides.yaml", "multirun.yaml", ".hydra/hydra.yaml"])
def test_files_of_hydra_are_not_read(file: str, tmp_path: Path) -> None:
    """Every start writes them anew, one that is refused as well."""
    run(tmp_path)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / file).write_text("- seed=5\n- [")
    assert continued([f"resume={tmp_path}"], "test_time")[0] == "seed=1"


@pytest.mark.parametrize("manifest", ["run.json", "training_run.json"])
def test_a_run_that_lost_its_start(manifest: str, tmp_path: Path) -> None:
    (tmp_path / manifest).write_text("{}")
    with pytest.raises(
        UserError, match=rf"Expected start.json, .* beside {manifest} in .*; give the settings of the run"
    ):
        continued([f"resume={tmp_path}"], "test_time")


def test_a_start_stays_once_something_was_computed(tmp_path: Path) -> None:
    run(tmp_path, "seed=1")
    run(tmp_path, "seed=2", "resume=auto", "trust=true")  # the one before left nothing
    (tmp_path / "run.json").write_text("{}")
    run(tmp_path, "seed=3")
    assert read_start(tmp_path) == Start("test_time", ("seed=2",))


def test_another_programs_run_and_interpolations(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", program="train_coop")
    with pytest.raises(UserError, match=r"is one of train_coop.py; continue it by .*resume="):
        continued([f"resume={folder}"], "test_time")
    assert "resume=auto" in continued([f"resume={folder}"], "train_coop")
    with pytest.raises(UserError, match="Expected a directory without"):
        continued([f"resume={tmp_path}/${{x}}"], "test_time")
    with pytest.raises(UserError, match="found none at"):
        continued([f"resume={tmp_path}/nowhere"], "test_time")


ALPHABET = st.sampled_from(list("a1.-\\\"'${}() ,=[]~#é\n\t:/"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(ALPHABET, max_size=12))
@example("\\${a}")
@example('\\"')
@example("null")
def test_hydra_reads_back_what_is_quoted(text: str) -> None:
    value = OverridesParser.create().parse_override(f"a={for_hydra(text)}").value()
    assert OmegaConf.create({"a": value}).a == text


def test_a_plain_path_stays_plain() -> None:
    assert setting("data.root", "/a/b-c.zip") == "data.root=/a/b-c.zip"
    assert setting("data.root", "/a b") == """'data.root="/a b"'"""
