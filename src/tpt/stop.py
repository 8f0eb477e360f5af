"""A run that is told to end: signals become exceptions, so that records are written on the way out."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


class StopRun(BaseException):
    """Ends the program from wherever it is; not an `Exception`, which libraries catch.

    Args:
        exit_code: of the program.
    """

    exit_code = 1


class Terminated(StopRun):
    """The program got a SIGTERM."""

    exit_code = 143  # 128 + SIGTERM, as a shell has it


class ProcessDied(StopRun):
    """Another process of the run is gone."""


_died: list[str] = []  # why `end` was called


def listen() -> None:
    """Raises `Terminated` at a SIGTERM, unless something else, such as a scheduler's launcher, listens already."""
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def ignore() -> None:
    """Takes back what `listen` did."""
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _died.clear()


def end(why: str) -> None:
    """From another thread: raises `ProcessDied` in the main one."""
    _died.append(why)
    os.kill(os.getpid(), signal.SIGTERM)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the program at once
    raise ProcessDied(_died[0]) if _died else Terminated("SIGTERM")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
