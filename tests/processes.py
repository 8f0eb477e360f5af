"""Starts the scripts in processes of their own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT
from tpt.cli.programs.opening import LINE

# W&B sets these in a process that uses it, such as that of earlier tests; its own processes would then be shared.
OF_WANDB = ("WANDB_SERVICE", "WANDB_MODE", "WANDB_SHOW_INFO")
# One thread: rounding depends on the number of threads, and the tests share the cores.
QUICK = ("threads=1", "logger=none", "cache=off", "views.num_views=10")


def start(folder: Path, *arguments: str, script: str = "test_time.py", **env: str) -> subprocess.Popen[str]:
    """Starts a script of the project in a new process; `env` is added to the environment."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in OF_WANDB} | env,
    )


def told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Waits for a program, and returns its stdout, and its stderr without the status line at its start."""
    output, errors = process.communicate(timeout=280)
    first, errors = errors.split("\n", maxsplit=1)
    assert first == LINE, first
    return output, errors


def wait_until(true: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Returns when `true()` holds, the process has ended, or the time is up."""
    deadline = time.monotonic() + seconds
    while not true() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Returns the ids of a process's direct children."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]
