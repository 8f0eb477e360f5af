"""Log output is safe to print, and a failed write does not end a run."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tpt.cli.logs import Console, LogFile


@pytest.fixture
def logger() -> logging.Logger:
    made = logging.Logger("made")
    made.setLevel(logging.INFO)
    return made


def test_a_log_file_is_utf_8_with_control_characters_escaped(logger: logging.Logger, tmp_path: Path) -> None:
    logger.addHandler(LogFile(str(tmp_path / "a.log")))
    logger.info("%s", "é \x1b[31m \udce9")
    assert (tmp_path / "a.log").read_bytes() == "é \\x1b[31m \\udce9\n".encode()


def test_a_full_disk_is_reported_once(
    logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = LogFile("/dev/full") if Path("/dev/full").exists() else LogFile(str(tmp_path / "a.log"))
    if not Path("/dev/full").exists():
        monkeypatch.setattr(handler.stream, "flush", lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    logger.addHandler(handler)
    for _ in range(3):
        logger.info("a line")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Note: cannot log to ") and os.strerror(errno.ENOSPC) in line


def test_a_wrong_format_shows_a_trace(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.addHandler(Console())
    logger.info("%d", "x")
    assert "Logging error" in capsys.readouterr().err


def test_both_programs_use_these_handlers() -> None:
    for program in ("test_time", "train_coop"):
        text = (ROOT / "conf" / f"{program}.yaml").read_text("utf-8")
        assert "tpt.Console" in text and "tpt.LogFile" in text
