"""The GPU benchmark runs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_gpu_benchmark_runs_a_short_version_on_a_cpu(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--output", str(table)]
    subprocess.run(command, check=True, timeout=400, cwd=Path(__file__).parents[1])
    rows = [line.strip("| ").split(" | ") for line in table.read_text().splitlines() if line.startswith("|")][2:]
    assert {row[0] for row in rows} == {"fp32", "fp16", "bf16"}
    assert all(row[-2] == "yes" for row in rows if row[0] == "fp32")
