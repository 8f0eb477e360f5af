"""Facts about a start of a run: time, platform, and versions."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tpt.results.runs.version import __version__

PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "open_clip_torch", "torchmetrics", "pillow")


def session(processes: int = 1) -> dict[str, Any]:
    """Facts about this start for the manifest, including the number of processes that share the run."""
    return {"started": datetime.now(UTC).isoformat(timespec="seconds"), "processes": processes, **environment()}


@cache
def environment() -> dict[str, Any]:
    """The library versions, the commit and the platform, as of the first call: a process keeps what it loaded."""
    versions = {"python": platform.python_version(), "tpt": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"versions": versions, "commit": _commit(), "platform": platform.platform()}


def _commit() -> str | None:
    """The checkout's commit, with the suffix `-dirty` if files differ; None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        said = subprocess.check_output(command, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.decode().strip() or None
