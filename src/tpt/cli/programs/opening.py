"""Starts the larger programs with a status line, because loading the libraries takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

from tpt.cli.errors import NO_SKIPPING, told
from tpt.cli.places import config_dir
from tpt.engine import stop
from tpt.engine.printing import forgiving_streams, say

HYDRAS = ("test_time", "train_coop")  # programs with a Hydra command line
# What settings are called in a program, for error messages of the data readers, which both programs share.
WORDS = {
    "train_coop": (
        NO_SKIPPING,
        (r"(pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "remove it"),
        (r"\bdata\.(root|class_names|num_workers|classes|path|split|limit)\b", r"shots.\1"),
    )
}
LINE = "Loading PyTorch and the other libraries"
QUIET = ("--help", "-h", "--cfg", "-c")  # flags that print only what was asked for

# Lightning takes these for a launcher's, which would also set the number of processes.
RANKS = ("LOCAL_RANK", "RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")


def forget_stray_ranks() -> None:
    """Removes process ranks that a platform or notebook sets although there is only one process."""
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        for name in RANKS:
            os.environ.pop(name, None)


def _complete(name: str) -> None:
    """Runs Hydra's shell completion, which needs only the configuration."""
    import hydra  # noqa: PLC0415 -- takes time to load

    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)(lambda _: None)()


def _open(name: str) -> None:
    """Loads a program and calls it; further processes of a run print no status line."""
    forgiving_streams()
    if sys.argv[1:] in (["--version"], ["-V"]):
        from tpt.results.runs.version import __version__  # noqa: PLC0415 -- the package around it takes time to load

        say(f"tpt {__version__}")
        return
    if name in HYDRAS and {"-sc", "--shell-completion"} & {*sys.argv[1:]}:
        _complete(name)
        return
    forget_stray_ranks()
    # Silences page-long C++ warnings about errors that the run reports itself; read when torch is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # On a busy machine, threads that spin while waiting take cores from threads that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with stop.leaving():
        if os.environ.get("LOCAL_RANK", "0") != "0":
            stop.leave_with_parent()
        elif name != "predict" and not {*QUIET} & {*sys.argv[1:]}:  # tpt-predict says so after its checks
            say(LINE, error=True)
        main = _read(name) if name in HYDRAS else import_module(f"tpt.cli.programs.{name}").main
    main()


# `tpt-test`, `tpt-train`, `tpt-predict` and `tpt-demo`.
test_time, train_coop, predict, demo = (partial(_open, name) for name in (*HYDRAS, "predict", "demo"))


def _read(name: str) -> Callable[[], None]:
    """Reads a Hydra program's command line; the program loads PyTorch when it has composed.  `--help` exits here."""
    from tpt.cli import mistakes  # noqa: PLC0415 -- takes time to load
    from tpt.cli.program import Program  # noqa: PLC0415 -- likewise
    from tpt.cli.settings.help import show_help  # noqa: PLC0415 -- likewise

    words = WORDS.get(name, ())
    with told(words):
        line = mistakes.read(name, sys.argv[1:])
        if line.help:
            show_help(name, line)
            sys.exit(0)
    return partial(Program(name, words=words).main, line)
