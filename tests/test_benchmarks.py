"""Every benchmark runs in a short form."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SMALL = ["--backbone", "ViT-S-32"]
SHORT = {
    "episode": [*SMALL, "--classes", "5", "--images", "2", "--views", "24"],
    "gpu": ["--device", "cpu"],
    "methods": [*SMALL, "--classes", "5", "--images", "2", "--views", "24", "--repeats", "1"],
    "scale": ["--images", "200", "--classes", "10"],
    "streams": ["--classes", "5", "--images", "20", "--batch", "4", "--at", "10", "20"],
    "sweep": ["--images", "1"],
    "text_tower": [*SMALL, "--classes", "5", "--quick"],
}
LIBRARIES = {"measure", "plain", "plain_methods", "plain_streams"}  # of the benchmarks and the tests


def run(name: str, *settings: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *settings]
    done = subprocess.run(command, check=False, timeout=600, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_benchmark_has_a_short_form() -> None:
    assert {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")} - LIBRARIES == SHORT.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHORT.keys() - {"gpu"}))
def test_a_short_form_prints_its_table(name: str) -> None:
    rows = [line for line in run(name, *SHORT[name]).splitlines() if "│" in line]
    assert rows and any(figure.isdigit() for figure in rows[-1])


@pytest.mark.slow
def test_gpu_benchmark_runs_a_short_version_on_a_cpu(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    run("gpu", *SHORT["gpu"], "--output", str(table))
    rows = [line.strip("| ").split(" | ") for line in table.read_text().splitlines() if line.startswith("|")][2:]
    assert {row[0] for row in rows} == {"fp32", "fp16", "bf16"}
    assert all(row[-2] == "yes" for row in rows if row[0] == "fp32")
