"""A run that is told to end: a signal raises an exception, so that records are written on the way out.

Python drops an exception that is raised where nobody can catch it: in an at-fork handler, in `__del__`, in a callback
of the garbage collector or of a weak reference.  Libraries drop others with a bare `except`.  So a signal leaves a flag
as well, and `check` raises again: the program looks after every batch and epoch, and at its end.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

STOPPING = tuple(getattr(signal, n) for n in ("SIGHUP", "SIGINT", "SIGUSR1", "SIGTERM") if hasattr(signal, n))
# Wakes the main thread for `end`.  Not one of those above: two equal signals become one, and these must not hide it.
WAKE = getattr(signal, "SIGURG", signal.SIGTERM)
PARENT = "TPT_PARENT"  # in the environment of a run's further processes: the process that started them
JOIN_S = 5.0  # seconds for a killed process to be gone
PATIENCE_S = 5.0  # seconds in which further signals change nothing: a terminal and a launcher may both send one
POLL_S = 0.5

_FIRST_PARENT = os.getppid()
_joined = threading.Event()  # whether the run itself looks after its processes


class StopRun(BaseException):
    """Ends the program from wherever it is; not an `Exception`, which libraries catch.

    Args:
        exit_code: of the program.
        said: in place of the usual sentence, by a program that has one of its own.
    """

    exit_code = 1
    said = ""


class Stopped(StopRun):
    """The program got a signal.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number  # as a shell has it

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return {"SIGINT": "Interrupted", "SIGTERM": "Terminated"}.get(name, f"Stopped by {name}")


class ProcessDied(StopRun):
    """Another process of the run is gone."""

    def __str__(self) -> str:
        return f"Error: {self.args[0]}"


class _Listener:
    """What a process does at a signal; its table of signals owns it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.why = ""  # of another process's end
        self.asked: Callable[[], StopRun] | None = None
        self.heard = False  # whether the exception has arrived where the program ends
        self.held = False
        self.active = True
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:
            _in_a_fork(number)
            return
        now = time.monotonic()
        if self.asked is None:
            if hasattr(signal, "SIGCHLD"):  # torch's handler would raise for loaders that the same signal ended
                signal.signal(signal.SIGCHLD, _nothing)
            self.asked = partial(ProcessDied, self.why) if number == WAKE else partial(Stopped, number)
        elif now - self._since < PATIENCE_S:
            return
        elif self.heard:
            os._exit(self.asked().exit_code)
        self._since = now
        if not self.held:
            raise self.asked()


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Within it, SIGINT, SIGTERM, SIGHUP and SIGUSR1 raise `Stopped`.

    A handler that something else has set stays, as that of a scheduler's launcher, and so does a signal that is
    ignored, as SIGHUP under nohup.  Further signals change nothing for some seconds; later, they end the program at
    once.  Within another such block this does nothing.
    """
    global _listener  # noqa: PLW0603 -- signals belong to the process
    if not _in_main_thread() or (_listener is not None and _listener.active and _listener.pid == os.getpid()):
        yield
        return
    _listener = listener = _Listener()
    atexit.register(_deafen)
    _quiet_what_is_dropped()
    before = _set(listener, (*STOPPING, WAKE))
    try:
        yield
    finally:
        listener.active = False
        if listener.asked is None:  # else the program is at its end, where Python would print a trace for a signal
            _listener = None
            _restore(before)


@contextmanager
def leaving() -> Iterator[None]:
    """Within it, the same signals end the program at once: while libraries load, which may drop exceptions."""
    before = _set(lambda number, _: os._exit(128 + number), STOPPING) if _in_main_thread() else {}
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def holding() -> Iterator[None]:
    """Within it a signal leaves its flag alone, so that what is being written is finished."""
    if (listener := _listener) is None:
        yield
        return
    listener.held = True
    try:
        yield
    finally:
        listener.held = False


def check() -> None:
    """Raises what a signal has raised before, in case that was dropped."""
    if _listener is not None and _listener.asked is not None:
        raise _listener.asked()


def heard() -> None:
    """Says that a signal's exception has arrived; from now on a further signal ends the program at once."""
    if _listener is not None:
        _listener.heard = True


def end(why: str) -> None:
    """From another thread: raises `ProcessDied` in the main one, if it listens."""
    if _listener is not None:
        _listener.why = why
    os.kill(os.getpid(), signal.SIGTERM if _listener is None else WAKE)


def tell_children() -> None:
    """Tells the processes that are started from now on which one started them."""
    os.environ[PARENT] = str(os.getpid())


def orphaned() -> bool:
    """Whether the process that started this one is gone; it may have gone before this one looked for the first time."""
    return os.getppid() != int(os.environ.get(PARENT, _FIRST_PARENT))


def leave_with_parent() -> None:
    """Ends this process when the one that it was told of is gone, until `joined`: it has nothing to keep until then."""
    if PARENT not in os.environ:  # something else, as torchrun, started it and ends it
        return

    def watch() -> None:
        while not _joined.wait(POLL_S):
            if orphaned():
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def joined() -> None:
    """Ends what `leave_with_parent` does: the run has begun, and ends in order."""
    _joined.set()


def end_loaders() -> None:
    """Kills the loading processes of this one, which may stand still: Python waits for them before it leaves."""
    if _in_main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, _nothing)  # torch's handler would raise for a loader that was killed
    for loader in multiprocessing.active_children():
        loader.kill()
        loader.join(JOIN_S)


def _quiet_what_is_dropped() -> None:
    """Leaves out what Python says of exceptions that it drops, where the run itself says it in a sentence.

    These are a signal's, and torch's of a loader that is gone while Python forgets it.
    """
    before = sys.unraisablehook

    def hook(left: sys.UnraisableHookArgs) -> None:
        of_loader = "DataLoaderIter" in getattr(left.object, "__qualname__", "")
        loader_gone = of_loader or str(left.exc_value).startswith("DataLoader worker (pid")
        if not loader_gone and not isinstance(left.exc_value, StopRun):
            before(left)

    if getattr(before, "__name__", "") != hook.__name__:
        sys.unraisablehook = hook


def _set(handler: Callable[[int, FrameType | None], object], numbers: tuple[int, ...]) -> dict[int, object]:
    """Sets the handler where there is none but Python's own or one of ours; gives those that were there."""
    before = {number: signal.getsignal(number) for number in numbers}
    plain = (signal.SIG_DFL, signal.default_int_handler)
    replaced = {n: old for n, old in before.items() if old in plain or isinstance(old, _Listener)}
    for number in replaced:
        signal.signal(number, handler)
    return dict(replaced)


def _restore(before: dict[int, object]) -> None:
    for number, old in before.items():
        signal.signal(number, old)  # type: ignore[arg-type]


def _in_a_fork(number: int) -> None:
    """A forked process, as one that loads images, leaves it to its parent when to end, unless it is told by SIGTERM."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _deafen() -> None:
    """At the very end of a program that was stopped, Python would give signals back their power to kill."""
    if _listener is not None and _listener.asked is not None and _listener.pid == os.getpid():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler.  With none at all, Python would complain of a signal that it was about to handle."""


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
