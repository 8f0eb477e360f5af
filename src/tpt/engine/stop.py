"""A run that is told to end: signals become exceptions, so that records are written on the way out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from types import FrameType

JOIN_S = 5.0  # seconds for a killed process to be gone


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


class Listener:
    """What a process does at a SIGTERM; the process's table of signals owns it.

    It raises `Terminated`, or `ProcessDied` if the program told itself to end.
    """

    def __init__(self) -> None:
        self.why: str | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Raises; a second signal ends the program at once."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated("SIGTERM") if self.why is None else ProcessDied(self.why)


def listen() -> None:
    """Raises `Terminated` at a SIGTERM, unless something else, such as a scheduler's launcher, listens already."""
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, Listener())


def ignore() -> None:
    """Takes back what `listen` did."""
    if _in_main_thread() and isinstance(signal.getsignal(signal.SIGTERM), Listener):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end(why: str) -> None:
    """From another thread: raises `ProcessDied` in the main one, if it listens."""
    if isinstance(listener := signal.getsignal(signal.SIGTERM), Listener):
        listener.why = why
    os.kill(os.getpid(), signal.SIGTERM)


def end_loaders() -> None:
    """Kills the loading processes of this one, which may stand still: Python waits for them before it leaves."""
    if _in_main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise for a loader that was killed
    for loader in multiprocessing.active_children():
        loader.kill()
        loader.join(JOIN_S)


def quiet_loaders() -> None:
    """Leaves out what torch says of a loader that is gone while Python forgets it; the run's own sentence says it.

    Its signal handler may also raise within a function whose errors Python passes over.
    """
    before = sys.unraisablehook

    def hook(left: sys.UnraisableHookArgs) -> None:
        of_loader = "DataLoaderIter" in getattr(left.object, "__qualname__", "")
        if not of_loader and not str(left.exc_value).startswith("DataLoader worker (pid"):
            before(left)

    if getattr(before, "__name__", "") != hook.__name__:
        sys.unraisablehook = hook


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
