"""Several processes of one run: they share a directory, wait for each other, and do not outlive each other."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from tpt import stop
from tpt.errors import UserError

POLL_S = 0.2
GRACE_S = 20.0  # for a process to write its records and leave; then it is killed


class ProcessGuard(Callback):
    """Ends a run in order: other processes are told to write their records and leave.

    Of several processes on one machine, the first watches those it started and ends the run when one dies; each of
    these watches the first.  (Lightning would kill them all at once, with the records at hand.)  A SIGTERM ends the run
    as well; Lightning passes over it while testing.

    Args:
        folder: of the run; must be the same for all processes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._children: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self._handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins to watch; refuses processes that work in different directories."""
        launched: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        self._children = list(launched)
        launched.clear()  # takes them from Lightning's own watch
        self._stop.clear()
        if self._children:
            threading.Thread(target=self._watch_children, daemon=True).start()
        elif trainer.local_rank > 0:
            threading.Thread(target=self._watch_parent, args=(os.getppid(),), daemon=True).start()
        here = str(self.folder.resolve())
        first = trainer.strategy.broadcast(here)
        if not trainer.strategy.reduce_boolean_decision(here == first):  # all of them end, each with the sentence
            raise UserError(
                f"Expected all processes of a run to work in one directory, but not all of them work in {first}; give "
                "hydra.run.dir, where all machines see it."
            )
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes SIGTERM back from Lightning, whose handler, set after `setup`, waits for all other processes."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Waits for the other processes' records."""
        trainer.strategy.barrier("records")
        self._stop.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells the processes that were started here to leave, and waits for their records."""
        self._stop.set()
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()

    def _watch_children(self) -> None:
        while not self._stop.wait(POLL_S):
            for rank, child in enumerate(self._children, start=1):
                code = child.poll()
                if code:
                    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                    self._end(f"Expected process {rank} of the run to go on, but it ended with {how}")
                    return

    def _watch_parent(self, parent: int) -> None:
        while not self._stop.wait(POLL_S):
            if os.getppid() != parent:
                self._end("Expected the first process of the run to go on, but it is gone")
                return

    def _end(self, why: str) -> None:
        """Interrupts the main thread; where that hangs in a collective operation, leaves without it."""
        stop.end(why)
        if not self._stop.wait(GRACE_S):
            os._exit(1)
