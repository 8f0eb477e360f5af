"""Ends a run on a signal by raising an exception, so that records are still written.

Python drops exceptions that are raised where nothing can catch them: in an at-fork handler, in `__del__`, or in a
callback of the garbage collector or of a weak reference.  Libraries drop others with a bare `except`.  So a signal also
sets a flag, and `check`, which the program calls after every batch and epoch and at its end, raises again.
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
from types import FrameType

STOPPING = tuple(getattr(signal, n) for n in ("SIGHUP", "SIGINT", "SIGUSR1", "SIGTERM") if hasattr(signal, n))
# Wakes the main thread for `end`.  Not one of the signals above, because two equal pending signals merge into one.
WAKE = getattr(signal, "SIGURG", signal.SIGTERM)
PARENT = "TPT_PARENT"  # environment variable in a run's further processes: id of the process that started them
JOIN_S = 5.0  # seconds to wait for a killed process to end
PATIENCE_S = 5.0  # seconds in which further signals are ignored: a terminal and a launcher may both send one
POLL_S = 0.5

_FIRST_PARENT = os.getppid()
joined = threading.Event()  # set once a run has started; from then on it watches its processes itself


class StopRun(BaseException):
    """Ends the program from anywhere, because of a signal or the end of another process; the text says why.

    Not an `Exception`, because libraries catch those.
    """

    def __init__(self, why: str, exit_code: int = 1) -> None:
        super().__init__(why)
        self.exit_code = exit_code
        self.said = ""  # the whole message, if not the usual one


class _Listener:
    """The signal handler of a process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.why = ""  # message about another process's end
        self.asked: tuple[str, int] | None = None  # why the program is to end, and its exit code
        self.heard = False  # whether the exception has reached the end of the program
        self.held = False
        self.active = True
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:
            _in_a_fork(number)
            return
        now = time.monotonic()
        if self.asked is None:
            _ignore_workers()  # the same signal ends them
            name = signal.Signals(number).name
            why = {"SIGINT": "Interrupted", "SIGTERM": "Terminated"}.get(name, f"Stopped by {name}")
            self.asked = (self.why, 1) if number == WAKE else (why, 128 + number)  # as in a shell
        elif now - self._since < PATIENCE_S:
            return
        elif self.heard:
            os._exit(self.asked[1])
        self._since = now
        if not self.held:
            raise StopRun(*self.asked)


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Context manager in which SIGINT, SIGTERM, SIGHUP and SIGUSR1 raise `StopRun`.

    Handlers set by something else, such as a launcher, stay, and so do ignored signals, such as SIGHUP under nohup.
    Further signals are ignored for some seconds; later ones end the program at once.  Nested use does nothing.
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
        if listener.asked is None:  # otherwise the program is ending, where Python would print a trace for a signal
            _listener = None
            _restore(before)


@contextmanager
def leaving() -> Iterator[None]:
    """Context manager in which these signals end the program at once: loading libraries may drop exceptions."""
    before = _set(lambda number, _: os._exit(128 + number), STOPPING) if _in_main_thread() else {}
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def holding() -> Iterator[None]:
    """Context manager in which a signal only sets its flag, so that writing is finished first."""
    listener = _listener or _Listener()  # a new one has no effect
    listener.held = True
    try:
        yield
    finally:
        listener.held = False


def check() -> None:
    """Raises a signal's exception again, in case it was dropped."""
    if _listener is not None and _listener.asked is not None:
        raise StopRun(*_listener.asked)


def heard() -> None:
    """Records that the exception was caught; from now on a signal ends the program at once."""
    if _listener is not None:
        _listener.heard = True


def end(why: str) -> None:
    """Called from another thread: raises `StopRun` in the main thread, if it is listening."""
    if _listener is None:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    _listener.why = f"Error: {why}"
    signal.pthread_kill(threading.main_thread().ident or 0, WAKE)  # wakes that thread if it waits in a system call


def orphaned() -> bool:
    """Whether the process that started this one has ended, possibly before the first check."""
    return os.getppid() != int(os.environ.get(PARENT, _FIRST_PARENT))


def leave_with_parent() -> None:
    """Until `joined`, ends this process if its parent ends, because there is nothing to save yet."""
    if PARENT not in os.environ:  # started, and ended, by something else, such as torchrun
        return

    def watch() -> None:
        while not joined.wait(POLL_S):
            if orphaned():
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_loaders() -> None:
    """Kills this process's data-loading workers, which may be suspended: Python waits for them at exit."""
    _ignore_workers()
    for loader in multiprocessing.active_children():
        loader.kill()
        loader.join(JOIN_S)


def _quiet_what_is_dropped() -> None:
    """Silences Python's report of dropped exceptions that the run itself reports.

    These are the exceptions of signals, and torch's about a worker that ended while Python deletes it.  If one of them
    interrupts a library's handler before a fork, the handler after the fork fails too.
    """
    before, dropped = sys.unraisablehook, False

    def hook(left: sys.UnraisableHookArgs) -> None:
        nonlocal dropped
        own = (
            isinstance(left.exc_value, StopRun)
            or str(left.exc_value).startswith("DataLoader worker (pid")
            or "DataLoaderIter" in getattr(left.object, "__qualname__", "")
        )
        follows = dropped and "_fork" in getattr(left.object, "__name__", "")
        dropped = dropped or own
        if not (own or follows):
            before(left)

    if getattr(before, "__name__", "") != hook.__name__:
        sys.unraisablehook = hook


def _set(handler: Callable[[int, FrameType | None], object], numbers: tuple[int, ...]) -> dict[int, object]:
    """Sets the handler of signals that have Python's default or one of ours; returns the previous handlers."""
    plain = (signal.SIG_DFL, signal.default_int_handler)
    before: dict[int, object] = {}
    for number in numbers:
        if (old := signal.getsignal(number)) in plain or isinstance(old, _Listener):
            before[number] = signal.signal(number, handler)
    return before


def _restore(before: dict[int, object]) -> None:
    for number, old in before.items():
        signal.signal(number, old)  # type: ignore[arg-type]


def _in_a_fork(number: int) -> None:
    """Ignores signals except SIGTERM in a forked process, such as a data-loading worker: its parent ends it."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _deafen() -> None:
    """Keeps signals ignored at the very end of a stopped program, where Python restores their defaults."""
    if _listener is not None and _listener.asked is not None and _listener.pid == os.getpid():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


def _ignore_workers() -> None:
    """Lets data-loading workers end: torch's handler would raise; without any, Python complains about a pending one."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, lambda *_: None)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
