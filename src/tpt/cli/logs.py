"""Logging to the terminal and to the run's file: text is safe to print, and a failed log never ends a run."""

from __future__ import annotations

import logging
import os
import sys

from tpt.engine.printing import printable, say

log = logging.getLogger(__name__)


class _Careful(logging.Handler):
    """Escapes characters that would control a terminal; if it cannot write, says so once and stops logging."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drops open_clip's messages about each step of building a model."""
        chatter = record.levelno <= logging.INFO and "open_clip" in record.pathname
        return not chatter and bool(super().filter(record))

    def format(self, record: logging.LogRecord) -> str:
        """The line, safe to print."""
        return printable(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Reports a failed write in one line; a bug, such as a wrong format, keeps its trace."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError | ValueError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        place = getattr(self, "baseFilename", "the terminal")
        say(f"Note: cannot log to {place} ({error}). The run continues without this log.", error=True)


class LogFile(_Careful, logging.FileHandler):
    """The log file of a run, which is appended to, in UTF-8 whatever the locale."""

    def __init__(self, filename: str) -> None:
        super().__init__(filename, encoding="utf-8", delay=True, errors="backslashreplace")


class Console(_Careful, logging.StreamHandler):  # type: ignore[type-arg]
    """The log on the terminal."""


def stage(what: str) -> None:
    """Reports what a run is doing now; first process only."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        log.info("%s", what)
