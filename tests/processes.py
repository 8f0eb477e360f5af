"""Real processes, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT
from tpt.cli.programs.opening import LINE

# Bits depend on the number of threads, and these tests share their cores.
QUICK = ("threads=1", "logger=none", "cache=off", "views.num_views=10")


def start(folder: Path, *arguments: str, script: str = "test_time.py", **env: str) -> subprocess.Popen[str]:
    """A script of the project in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


def told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a program printed on stdout, and on stderr behind its first line."""
    output, errors = process.communicate(timeout=280)
    first, errors = errors.split("\n", maxsplit=1)
    assert first == LINE, first
    return output, errors


def wait_until(true: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Returns when `true()`, or when the process has ended."""
    deadline = time.monotonic() + seconds
    while not true() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]
