"""Starts the programs: a signal while libraries load ends them, and the larger ones first say what they load."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from importlib import import_module

from tpt.engine import stop
from tpt.engine.printing import forgiving_streams, say

HYDRAS = ("test_time", "train_coop")  # programs with a Hydra command line
LARGE = (*HYDRAS, "demo")  # load PyTorch at once; tpt-predict does so after its checks
LINE = "Loading PyTorch and the other libraries"
QUIET = ("--help", "-h", "--cfg", "-c", "--shell-completion", "-sc")  # flags that print only what was asked for

# Lightning takes these for a launcher's, which would also set the number of processes.
RANKS = ("LOCAL_RANK", "RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")


def forget_stray_ranks() -> None:
    """Removes process ranks that a platform or notebook sets although there is only one process."""
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        for name in RANKS:
            os.environ.pop(name, None)


def _open(name: str) -> int | None:
    """Loads a program and calls it; further processes of a run print no status line.  Returns the exit code."""
    given = {*sys.argv[1:]}
    forgiving_streams()
    if given & {"--version", "-V"}:
        from tpt.results.runs.version import __version__  # noqa: PLC0415 -- the package around it takes time to load

        say(f"tpt {__version__}")
        return 0
    forget_stray_ranks()
    # Silences page-long C++ warnings about errors that the run reports itself; read when torch is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # On a busy machine, threads that spin while waiting take cores from threads that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with stop.leaving():
            if os.environ.get("LOCAL_RANK", "0") != "0":
                stop.leave_with_parent()
            elif name in LARGE and not given & {*QUIET}:
                say(LINE, error=True)
            if name in HYDRAS:
                from tpt.cli.program import Program  # noqa: PLC0415 -- takes time to load, in which signals must work

                main = Program(name).read(sys.argv[1:])
            else:
                main = import_module(f"tpt.cli.programs.{name}").main
        found: int | None = main()
        return found
    except KeyboardInterrupt:  # before the program handles it
        return 128 + signal.SIGINT


# Called by the console scripts.
test_time, train_coop = (partial(_open, name) for name in HYDRAS)
predict, demo, attack, report = (partial(_open, name) for name in ("predict", "demo", "attack", "report"))
views, words, data, cache = (partial(_open, name) for name in ("views", "words", "data", "cache"))
