"""Coordinates the processes of a run: they share a directory, wait for each other and end together."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import threading
import time
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
LOOK_S = 5.0  # seconds between checks for suspended processes
STANDS_STILL_S = 10.0  # seconds after which a suspended process is reported


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

    def launch(self, trainer: Trainer) -> None:
        """Starts watching before the processes start: one may die during startup, while all others wait for it."""
        self._stop.clear()
        if trainer.local_rank == 0 and trainer.world_size > 1:
            stop.tell_children()
        threading.Thread(target=self._watch, args=(trainer,), daemon=True).start()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises a UserError if the processes work in different directories."""
        self._joined = True
        stop.joined()
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
        still, began, said = _StandingStill(), time.monotonic(), trainer.num_nodes == 1
        while not self._stop.wait(POLL_S):
            found = getattr(trainer.strategy.launcher, "procs", launched)
            if found is not launched and len(found) == trainer.num_devices - 1 and found:
                launched, self._children = found, list(found)
            elif launched:
                launched.clear()  # one poll later, when Lightning's own watch has started: an empty list ends it
            if self._end_of_others(trainer.local_rank):
                return
            if not said and not self._joined and time.monotonic() - began > STANDS_STILL_S:
                said = True
                _name_nodes(trainer)
            still.look()

    def _end_of_others(self, rank: int) -> bool:
        """Ends the run if another process has ended."""
        for number, child in enumerate(self._children, start=1):
            if code := child.poll():
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                self._end(f"Process {number} of the run ended with {how}")
                return True
        if rank > 0 and stop.orphaned():
            self._end("The first process of the run has ended")
            return True
        return False

    def _end(self, why: str) -> None:
        """Interrupts the main thread; exits the process if that thread hangs in a collective operation."""
        if not self._joined:  # it blocks on the others, ignores all signals, and has nothing to keep
            for child in self._children:
                child.kill()
            if os.environ.get("LOCAL_RANK", "0") == "0":
                say(f"Error: {why} during startup. Start again with resume={self.folder}.", error=True)
            os._exit(1)
        stop.end(why)
        if not self._stop.wait(GRACE_S):
            os._exit(1)


def _name_nodes(trainer: Trainer) -> None:
    """Warns which nodes may not have joined yet, and says how to start them."""
    here, get = trainer.node_rank, os.environ.get
    others = [str(node) for node in range(trainer.num_nodes) if node != here]
    log.warning(
        "Node %d has been waiting for %s for %d seconds. Start the same command there with its number in NODE_RANK, "
        "and on every node set MASTER_ADDR and MASTER_PORT to the address of node 0 (here %s and %s). To run on this "
        "machine alone, use trainer.num_nodes=1.",
        here, f"node {others[0]}" if len(others) == 1 else f"at least one of the nodes {', '.join(others)}",
        STANDS_STILL_S, get("MASTER_ADDR"), get("MASTER_PORT"),
    )  # fmt: skip


class _StandingStill:
    """Warns about processes of a run that are suspended, by SIGSTOP or a debugger: the others wait for them."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}  # infinite once it was said
        self._looked = time.monotonic()

    def look(self) -> None:
        """Checks again, if the last check was at least `LOOK_S` seconds ago."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        me = psutil.Process()
        others = me.children(recursive=True)
        if os.environ.get("LOCAL_RANK", "0") != "0" and (parent := me.parent()) is not None:
            others.append(parent)
        stopped = []
        for process in others:
            with suppress(psutil.Error):  # ended meanwhile
                if process.status() == psutil.STATUS_STOPPED:
                    stopped.append(process.pid)
        self._since = {pid: self._since.get(pid, now) for pid in stopped}
        for pid in [pid for pid, since in self._since.items() if now - since >= STANDS_STILL_S]:
            self._since[pid] = math.inf
            log.warning(
                "Process %d of the run is suspended, and the run is waiting for it. kill -CONT %d resumes it.", pid, pid
            )
