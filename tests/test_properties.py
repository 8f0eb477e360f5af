"""Tests the properties on new random examples; otherwise they use the same ones in every run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROUNDS = 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_on_new_examples(seed: int, tmp_path: Path) -> None:
    """On failure, add the printed example to its property."""
    chosen = int.from_bytes(os.urandom(4), "little") + seed
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-m", "hypothesis", f"--hypothesis-seed={chosen}"]
    random = {**os.environ, "HYPOTHESIS_PROFILE": "random", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=random, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
