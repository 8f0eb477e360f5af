"""How the larger programs begin: with a line on what is happening, since loading the libraries takes seconds."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from tpt.engine import stop
from tpt.engine.printing import forgiving_streams, say

LINE = "Loading PyTorch and the other libraries"
QUIET = ("--help", "-h", "--cfg", "-c")  # what is asked for is printed and nothing else


def test_time() -> None:
    """`tpt-test`."""
    _open("test_time")


def train_coop() -> None:
    """`tpt-train`."""
    _open("train_coop")


def predict() -> None:
    """`tpt-predict`."""
    _open("predict")


def demo() -> None:
    """`tpt-demo`."""
    _open("demo")


def _open(name: str) -> None:
    """Loads a program and calls it; the processes that a run starts for itself say nothing."""
    forgiving_streams()
    # Warnings of its C++ parts, a page each, on what the run says in a sentence; read when torch is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # On a busy machine, threads that spin while they wait for one another take the cores from those that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with stop.leaving():
        if os.environ.get("LOCAL_RANK", "0") != "0":
            stop.leave_with_parent()
        elif not {*QUIET} & {*sys.argv[1:]}:
            say(LINE, error=True)
        program = import_module(f"tpt.cli.programs.{name}")
    program.main()
