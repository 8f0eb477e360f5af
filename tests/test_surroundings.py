"""Unusual environments: no home folder, no file locks, stray process ranks, unsupported strategies."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from pathlib import Path

import pytest
from lightning import Trainer

from tpt.cli.programs.opening import RANKS, forget_stray_ranks
from tpt.engine.callbacks.processes import refuse_copies
from tpt.engine.tracking.guard import accepted
from tpt.errors import UserError
from tpt.files import at_home, why_no_lock
from tpt.results.runs import RunDirectory


def test_paths_of_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("no such user")

    assert at_home("~/a") == Path.home() / "a"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert at_home("~/a/b").parts[-2:] == ("a", "b") and at_home("~/a/b").is_absolute()
    assert at_home("a/b") == Path("a/b")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_gives_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunDirectory(tmp_path / "run") as directory:
        directory.take()
    assert os.strerror(number) in caplog.text


def test_a_locked_file_shows_that_locks_work(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert why_no_lock(tmp_path / "lock") is None


def test_stray_ranks_of_a_single_process_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANKS:
        monkeypatch.setenv(name, "1")
    forget_stray_ranks()
    assert not {*RANKS} & {*os.environ}
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    forget_stray_ranks()
    assert os.environ["LOCAL_RANK"] == "1"


def test_strategies_that_copy_the_process_are_refused() -> None:
    settings = {"accelerator": "cpu", "devices": 2, "logger": False, "enable_progress_bar": False}
    refuse_copies(Trainer(strategy="ddp", **settings))
    for strategy in ("ddp_spawn", "ddp_fork"):
        with pytest.raises(UserError, match=r"use trainer\.strategy=ddp"):
            refuse_copies(Trainer(strategy=strategy, **settings))


def test_tags_are_limited_to_valid_wandb_tags() -> None:
    assert accepted(["a" * 70, "a" * 80, " ", 3, "3", ""]) == ["a" * 64, "3"]
