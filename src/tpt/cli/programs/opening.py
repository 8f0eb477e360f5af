"""How the larger programs begin: with a line on what is happening, since loading the libraries takes seconds."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from tpt.cli.errors import told
from tpt.cli.places import config_dir
from tpt.engine import stop
from tpt.engine.printing import forgiving_streams, say

if TYPE_CHECKING:
    from tpt.cli.command_line import CommandLine

HYDRAS = ("test_time", "train_coop")  # programs whose command line is Hydra's
LINE = "Loading PyTorch and the other libraries"
QUIET = ("--help", "-h", "--cfg", "-c")  # what is asked for is printed and nothing else

# Lightning takes them for the work of a launcher, which gives the number of processes as well.
RANKS = ("LOCAL_RANK", "RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")


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


def forget_stray_ranks() -> None:
    """Leaves out what a platform or a notebook says of this process's place among others where there are none."""
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        for name in RANKS:
            os.environ.pop(name, None)


def _complete(name: str) -> None:
    """Hydra's completion of the words of a command line, which needs the configuration alone."""
    import hydra  # noqa: PLC0415 -- takes time to load

    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)(lambda _: None)()


def _open(name: str) -> None:
    """Loads a program and calls it; the processes that a run starts for itself say nothing."""
    forgiving_streams()
    if sys.argv[1:] in (["--version"], ["-V"]):
        from tpt.results.runs.version import __version__  # noqa: PLC0415 -- the package around it takes time to load

        say(f"tpt {__version__}")
        return
    if name in HYDRAS and {"-sc", "--shell-completion"} & {*sys.argv[1:]}:
        _complete(name)
        return
    forget_stray_ranks()
    # Warnings of its C++ parts, a page each, on what the run says in a sentence; read when torch is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # On a busy machine, threads that spin while they wait for one another take the cores from those that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    read: list[CommandLine] = []
    with stop.leaving():
        if os.environ.get("LOCAL_RANK", "0") != "0":
            stop.leave_with_parent()
        elif name != "predict" and not {*QUIET} & {*sys.argv[1:]}:  # which says so when it has looked at its words
            say(LINE, error=True)
        if name in HYDRAS:
            read.append(_read(name))
        program = import_module(f"tpt.cli.programs.{name}")
    program.main(*read)


def _read(name: str) -> CommandLine:
    """The command line of one of Hydra's programs, before anything heavy is loaded; `--help` ends there."""
    from tpt.cli import mistakes  # noqa: PLC0415 -- takes time to load
    from tpt.cli.settings.help import show_help  # noqa: PLC0415 -- likewise

    with told():
        line = mistakes.read(name, sys.argv[1:])
        if line.asks_for_help:
            show_help(name, line)
            sys.exit(0)
    return line
