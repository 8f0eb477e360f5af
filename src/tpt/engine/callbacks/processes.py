"""Coordinates the processes of a run: they share a directory, wait for each other and end together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from tpt.engine import stop
from tpt.engine.printing import say
from tpt.errors import UserError

log = logging.getLogger(__name__)

POLL_S = 0.2
GRACE_S = 20.0  # seconds for a process to write its records and exit before it is killed
LOOK = 25  # polls between checks for suspended processes, and half of those until missing nodes are reported


def refuse_copies(trainer: Trainer) -> None:
    """Raises a UserError for a strategy that spawns or forks its processes, such as ddp_spawn."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            "Expected a strategy that starts processes with the run's command, got one that spawns or forks them; "
            "use trainer.strategy=ddp."
        )


class ProcessGuard(Callback):
    """Ends a run cleanly: the other processes write their records and exit.

    On each machine, the first process watches the processes that it starts and ends the run when one dies; each of them
    watches the first.  (Lightning would kill them all at once, before their records are written.)  A signal also ends
    the run (see `tpt.engine.stop`): its flag is checked before every batch and epoch, when earlier work is kept.
    Suspended processes and missing nodes are reported.

    Args:
        folder: the run's directory; must be the same for all processes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._children: list[subprocess.Popen[bytes]] = []
        self._joined = False  # whether all processes have joined
        self._stop = threading.Event()
        self._handler: Any = None

    def begin(self, trainer: Trainer, *_: Any) -> None:
        """Starts watching before the processes start: one may die during startup, while all others wait for it."""
        self._stop.clear()
        if trainer.local_rank == 0 and trainer.world_size > 1:
            os.environ[stop.PARENT] = str(os.getpid())
        threading.Thread(target=self._watch, args=(trainer,), daemon=True).start()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises a UserError if the processes work in different directories."""
        self._joined = True
        stop.joined.set()
        here = str(self.folder.resolve())
        first = trainer.strategy.broadcast(here)
        if not trainer.strategy.reduce_boolean_decision(here == first):  # all of them end, each with this message
            raise UserError(
                f"Not all processes of the run work in {first}. Set hydra.run.dir to a folder that all machines share."
            )
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores our SIGTERM handler; Lightning's, set after `setup`, would wait for all other processes."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
        stop.check()

    on_train_start = on_test_start  # Lightning's handler would also wait for the end of the batch

    def _check(self, *_: Any, **__: Any) -> None:
        stop.check()

    on_train_epoch_start = on_train_batch_start = on_validation_batch_start = on_test_batch_start = _check
    on_test_end = _check

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Waits for the other processes' records."""
        trainer.strategy.barrier("records")
        self._stop.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Signals the child processes to exit, and waits for their records."""
        self._stop.set()
        stop.heard()
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()

    def _watch(self, trainer: Trainer) -> None:
        launched: list[subprocess.Popen[bytes]] = []
        suspended: dict[int, int] = {}
        polls = 0
        while not self._stop.wait(POLL_S):
            polls += 1
            found = getattr(trainer.strategy.launcher, "procs", launched)
            if found is not launched and len(found) == trainer.num_devices - 1 and found:
                launched, self._children = found, list(found)
            elif launched:
                launched.clear()  # one poll later, when Lightning's own watch has started: an empty list ends it
            if why := self._end_of_others(trainer.local_rank):
                self._end(why, trainer.local_rank)
                return
            if polls == 2 * LOOK and not self._joined and trainer.num_nodes > 1:
                _name_nodes(trainer)
            if polls % LOOK == 0:
                suspended = _name_suspended(suspended, trainer.local_rank)

    def _end_of_others(self, rank: int) -> str:
        """Which other process of the run has ended, and how; "" if none."""
        for number, child in enumerate(self._children, start=1):
            if code := child.poll():
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                return f"Process {number} of the run ended with {how}"
        return "The first process of the run has ended" if rank > 0 and stop.orphaned() else ""

    def _end(self, why: str, rank: int) -> None:
        """Interrupts the main thread; exits the process if that thread hangs in a collective operation."""
        if not self._joined:  # it blocks on the others, ignores all signals, and has nothing to keep
            for child in self._children:
                child.kill()
            if rank == 0:
                say(f"Error: {why} during startup. Start again with resume={self.folder}.", error=True)
            os._exit(1)
        stop.end(why)
        if not self._stop.wait(GRACE_S):
            os._exit(1)


def _name_nodes(trainer: Trainer) -> None:
    """Warns that other nodes have not joined yet, and says how to start them."""
    log.warning(
        "Node %d has been waiting for the other nodes for 10 seconds. Start the same command on each with its number "
        "in NODE_RANK, and on every node set MASTER_ADDR and MASTER_PORT to the address of node 0 (here %s and %s). "
        "To run on this machine alone, use trainer.num_nodes=1.",
        trainer.node_rank, os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT"),
    )  # fmt: skip


def _name_suspended(before: dict[int, int], rank: int) -> dict[int, int]:
    """Warns about processes of a run that are suspended, by SIGSTOP or a debugger, because the others wait for them.

    Maps their ids to the number of successive looks at which they were suspended; the third is reported.
    """
    me, found = psutil.Process(), {}
    for process in [*me.children(recursive=True), *(me.parents()[:1] if rank > 0 else [])]:
        with suppress(psutil.Error):  # ended meanwhile
            if process.status() == psutil.STATUS_STOPPED:
                found[process.pid] = before.get(process.pid, 0) + 1
    for pid in (pid for pid, looks in found.items() if looks == 3):
        log.warning(
            "Process %d of the run is suspended, and the run is waiting for it. kill -CONT %d resumes it.", pid, pid
        )
    return found
