"""A signal ends the run and keeps its records, even if the exception that it raises is dropped."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tpt
from tests.conftest import ROOT
from tests.processes import start, told, wait_until
from tpt.engine import stop
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.engine.tasks.coop import ContextTask
from tpt.results.runs import read_records


@pytest.fixture(autouse=True)
def signals_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets the signal handlers of a newly started program, and restores them after the test."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(stop, "_listener", None)
    before = {number: signal.getsignal(number) for number in (*stop.STOPPING, stop.WAKE, signal.SIGCHLD)}
    for number in stop.STOPPING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_errors_that_follow_from_a_dropped_exception_are_silent() -> None:
    """A library's handler after a fork fails if a signal interrupted its handler before the fork."""
    shown: list[Any] = []
    killed = RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    def resume_after_fork() -> None: ...

    def drop(error: Exception, where: object) -> None:
        sys.unraisablehook(SimpleNamespace(exc_value=error, object=where))  # type: ignore[arg-type]

    sys.unraisablehook = shown.append
    with stop.listening():
        drop(KeyError("before"), resume_after_fork)
        drop(killed, print)
        drop(KeyError("after"), resume_after_fork)
        drop(KeyError("elsewhere"), print)
    assert [left.exc_value.args[0] for left in shown] == ["before", "elsewhere"]


def in_del(send: Callable[[], None]) -> None:
    class Dying:
        def __del__(self) -> None:
            send()

    Dying()


def in_a_garbage_callback(send: Callable[[], None]) -> None:
    def callback(*_: Any) -> None:
        gc.callbacks.remove(callback)
        send()

    gc.callbacks.append(callback)
    gc.collect()


def in_a_weak_reference(send: Callable[[], None]) -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: send())
    del thing
    assert reference() is None


def at_a_fork(send: Callable[[], None]) -> None:
    sent: list[int] = []

    def once() -> None:
        if not sent:
            sent.append(1)
            send()

    os.register_at_fork(after_in_parent=once)
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def in_a_bare_except(send: Callable[[], None]) -> None:
    with contextlib.suppress(BaseException):  # as some libraries do
        send()


def while_a_file_is_written(send: Callable[[], None]) -> None:
    with stop.holding():
        send()


PLACES = [in_del, in_a_garbage_callback, in_a_weak_reference, at_a_fork, in_a_bare_except, while_a_file_is_written]


@pytest.mark.parametrize("number", stop.STOPPING)
@pytest.mark.parametrize("place", PLACES)
def test_a_dropped_exception_is_raised_again(place: Any, number: int, capfd: pytest.CaptureFixture[str]) -> None:
    def send() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0)  # here Python checks for signals

    with pytest.raises(stop.StopRun) as caught, stop.listening():
        place(send)
        with stop.listening():  # nested: a job within the program
            stop.check()
    name = signal.Signals(number).name
    said = {"SIGTERM": "Terminated", "SIGINT": "Interrupted"}.get(name, f"Stopped by {name}")
    assert (caught.value.exit_code, str(caught.value)) == (128 + number, said)
    assert capfd.readouterr().err == ""


def test_signals_just_after_the_first_are_ignored() -> None:
    with pytest.raises(stop.StopRun, match="Terminated"), stop.listening():
        in_a_bare_except(lambda: os.kill(os.getpid(), signal.SIGTERM))
        stop.heard()
        for number in stop.STOPPING:
            os.kill(os.getpid(), number)
        stop.check()


def test_foreign_handlers_and_ignored_signals_are_kept() -> None:
    def launcher(*_: Any) -> None:
        pass

    signal.signal(signal.SIGTERM, launcher)
    signal.signal(signal.SIGUSR1, launcher)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with stop.listening():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(os.getpid(), number)
        stop.check()
        assert signal.getsignal(signal.SIGTERM) is launcher and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_end_of_another_process_does_not_hide_a_signal() -> None:
    """Both are pending when the main thread checks for signals."""
    with pytest.raises(stop.StopRun, match="Terminated"), stop.listening():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, stop.WAKE])
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # os.kill may choose another thread
        stop.end("a process is gone")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, stop.WAKE])
        time.sleep(1)


def test_another_thread_ends_the_run() -> None:
    with pytest.raises(stop.StopRun, match="a process is gone"), stop.listening():
        threading.Timer(0.1, stop.end, ["a process is gone"]).start()
        time.sleep(10)


def dropped(step: Callable[..., Any], batches: int, number: int) -> Callable[..., Any]:
    """Wraps `step` so that a signal arrives in its `batches`-th call, and the exception is dropped."""
    left = [batches]

    def changed(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), number)
                time.sleep(0.2)  # another thread may have received it
        return step(*args, **kwargs)

    return changed


def test_a_test_run_ends_after_the_batch(
    run_script: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdaptationTask, "test_step", dropped(AdaptationTask.test_step, 2, signal.SIGTERM))
    assert run_script("test_time.py", *small, "data.num_workers=1", ok=False).returncode == 143
    assert read_records(tmp_path / "run").num_rows == 4  # two batches


@pytest.mark.parametrize(
    ("step", "calls"), [("training_step", 5), pytest.param("validation_step", 2, marks=pytest.mark.slow)]
)
def test_training_ends_and_is_resumed(
    step: str,
    calls: int,
    run_script: Any,
    small: list[str],
    image_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training writes a checkpoint when it is stopped, and resuming ends with an uninterrupted run's context."""
    shots = ["shots=folder", f"shots.root={image_tree}", "shots.k=2", "shots.num_workers=1", "batch_size=2"]
    model = [setting for setting in small if setting.startswith(("backbone", "logger"))]
    settings = [*model, *shots, "learner=coop", "learner.n_ctx=2", "learner.epochs=3"]
    run_script("train_coop.py", *settings, "hydra.run.dir=whole", "shots.num_workers=0")
    with monkeypatch.context() as patch:
        patch.setattr(ContextTask, step, dropped(getattr(ContextTask, step), calls, signal.SIGINT))
        assert run_script("train_coop.py", *settings, "hydra.run.dir=part", ok=False).returncode == 130
    assert (tmp_path / "part" / "last.ckpt").is_file() and not (tmp_path / "part" / "training.json").exists()
    run_script("train_coop.py", "resume=part")
    whole, part = (tpt.load_context(tmp_path / run) for run in ("whole", "part"))
    assert whole.fingerprint() == part.fingerprint()


def test_a_starting_process_ends_when_its_parent_has_died() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, str(ROOT / "test_time.py"), "no.such.setting=1"]
    env = {**os.environ, "LOCAL_RANK": "1", "WORLD_SIZE": "2", stop.PARENT: str(gone.pid)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stdout + done.stderr == ""


SENDS = """
import os, signal, sys

class Sends:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Sends())
from tpt.cli.programs import opening
sys.exit(opening.{program}())
"""


IMPORTS = {"report": "pydantic", "data": "rich.table", "cache": "numpy", "test_time": "hydra", "words": "argparse"}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
EACH = [(*one, number) for one in IMPORTS.items() for number in SIGNALS]
QUICK = [(*one, SIGNALS[place % 2]) for place, one in enumerate(IMPORTS.items())]


@pytest.mark.parametrize(
    ("program", "module", "number"),
    [one if one in QUICK else pytest.param(*one, marks=pytest.mark.slow) for one in EACH],
)
def test_a_signal_within_an_import_prints_no_traceback(program: str, module: str, number: int) -> None:
    command = [sys.executable, "-c", SENDS.format(program=program, module=module, number=int(number))]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (128 + number, "")


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("number", stop.STOPPING)
def test_a_signal_while_libraries_load_ends_the_program(tmp_path: Path, number: int, after: float) -> None:
    process = start(tmp_path, "data.limit=2", "logger=none")
    assert process.stderr is not None
    process.stderr.readline()  # the status line: the program has started
    time.sleep(after)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_a_missing_node_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, "logger=none", "data.limit=2", "trainer.num_nodes=2", "hydra.run.dir=run")
    log = tmp_path / "run" / "test_time.log"
    wait_until(lambda: log.exists() and "waiting for the other nodes" in log.read_text(), process, 60)
    process.kill()
    assert "Node 0 has been waiting for the other nodes for 10 seconds" in told(process)[0]
