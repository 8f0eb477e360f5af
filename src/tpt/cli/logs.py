"""What a run logs, to the terminal and to its file: safe to read, and no reason for a run to end."""

from __future__ import annotations

import logging
import os
import sys

from tpt.engine.printing import printable, say

log = logging.getLogger(__name__)


class _Careful(logging.Handler):
    """Writes codes for characters that would steer a terminal; if it cannot write, says so once and is silent."""

    _silent = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Leaves out how open_clip makes a model, step by step."""
        chatter = record.levelno <= logging.INFO and "open_clip" in record.pathname
        return not chatter and bool(super().filter(record))

    def format(self, record: logging.LogRecord) -> str:
        """The line, safe to print."""
        return printable(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line, unless that has failed before."""
        if not self._silent:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """One line instead of a trace for every record; a bug, such as a wrong format, keeps its trace."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError | ValueError):
            super().handleError(record)
            return
        self._silent = True
        say(f"Note: nothing more is logged to {self.place()} ({error}); the run goes on.", error=True)

    def place(self) -> str:
        """Where it writes to."""
        return "the terminal"


class LogFile(_Careful, logging.FileHandler):
    """The log file of a run, in UTF-8 whatever the locale.

    Args:
        filename: of the file, which is appended to.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename, encoding="utf-8", delay=True, errors="backslashreplace")

    def place(self) -> str:
        """Where it writes to."""
        return self.baseFilename


class Console(_Careful, logging.StreamHandler):  # type: ignore[type-arg]
    """The log on the terminal."""


def stage(what: str) -> None:
    """Says what a run is doing now; of several processes, the first alone."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        log.info("%s", what)
