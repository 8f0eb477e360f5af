"""Measures everything except the image encoder on a large dataset.

    python -m benchmarks.scale --images 100000 --classes 1000

Measures the time for listing the images, testing them, resuming a finished run and making a report, and whether memory
grows with the number of images.  A product of a few pixels with random numbers replaces the image encoder.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tpt
from tpt.cli.programs import opening, report
from tpt.data import image_folder
from tpt.results.runs.records import shard_files

SIDE = 16  # pixels
EACH = 500  # links per file; file systems allow about 65,000
SETTINGS = ("method=zero_shot", "views.num_views=1", "logger=none", "cache=off", "threads=1", "data.batch_size=64")
WITHOUT_ENCODER = "TPT_SCALE"  # environment variable, set for the measured processes
POLL_S = 0.25


@dataclass
class Measured:
    """Time and memory of one command.

    Args:
        seconds: run time.
        peak: peak memory in bytes.
        growth: pairs of the number of shards written so far and the bytes in memory.
    """

    seconds: float
    peak: int = 0
    growth: list[tuple[int, int]] = field(default_factory=list)


def main() -> int:
    """Measures the commands and prints the table; in a measured process, runs one command."""
    if os.environ.get(WITHOUT_ENCODER):
        return alone()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=0, help="loading processes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", args.images, args.classes)
        show(folder, args, measured_commands(folder, args.workers))
    return 0


def measured_commands(folder: Path, workers: int) -> dict[str, Measured]:
    """Runs and measures each command in its own process."""
    run = folder / "run"
    data = (f"data.root={folder / 'images'}", "data=folder", f"data.num_workers={workers}", f"hydra.run.dir={run}")
    shards: Callable[[], int] = lambda: len(shard_files(run))  # noqa: E731 -- called while the command runs
    return {
        "listing": measure("listing", str(folder / "images")),
        "test, all of it": measure("run", *SETTINGS, *data, count=shards),
        "resume of the finished run": measure("run", f"resume={run}"),
        "report": measure("report", str(run)),
    }


def measure(*command: str, count: Callable[[], int] | None = None) -> Measured:
    """Runs a command of `alone` and measures its time and memory."""
    env = {**os.environ, WITHOUT_ENCODER: "1", "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.scale", *command], env=env) as process:
        found, about = Measured(0.0), psutil.Process(process.pid)
        while process.poll() is None:
            try:
                resident = about.memory_info().rss + sum(c.memory_info().rss for c in about.children(recursive=True))
            except psutil.Error:  # the process has ended
                break
            found.peak = max(found.peak, resident)
            if count is not None and (done := count()) and (not found.growth or done > found.growth[-1][0]):
                found.growth.append((done, resident))
            time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    found.seconds = time.perf_counter() - began
    return found


def alone() -> int:
    """Runs one command, without the encoder."""
    what, *arguments = sys.argv[1:]
    leave_out_the_encoder()
    match what:
        case "listing":
            began = time.perf_counter()
            print(f"{len(image_folder(arguments[0])):,} images listed in {time.perf_counter() - began:.2f} s")
        case "run":
            sys.argv = ["test_time.py", *arguments]
            opening.test_time()
        case "report":
            return report.main(arguments) or 0
        case _:
            raise AssertionError(what)
    return 0


def leave_out_the_encoder() -> None:
    """Replaces the image encoder by one that takes almost no time and gives each image different features."""

    def encode(self: tpt.CLIP, images: Tensor) -> Tensor:
        few = images[:, :, :: images.shape[2] // 4, :: images.shape[3] // 4].float().flatten(1)
        generator = torch.Generator().manual_seed(0)
        return few @ torch.randn(few.shape[1], self.embed_dim, generator=generator)

    tpt.CLIP._encode = encode  # type: ignore[method-assign]


def make_images(root: Path, images: int, classes: int) -> None:
    """Makes small images, one folder per class; `EACH` images are hard links to the same file."""
    rng, source = np.random.default_rng(0), root.parent / "sources"
    source.mkdir()
    for number in range(-(-images // EACH)):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(source / f"{number}.png")
    for label in range(classes):
        (root / f"thing {label}").mkdir(parents=True)
    for number in range(images):
        os.link(source / f"{number // EACH}.png", root / f"thing {number % classes}" / f"{number:07d}.png")


def show(folder: Path, args: argparse.Namespace, found: dict[str, Measured]) -> None:
    """Prints the table, how memory grew, and the size of the records."""
    table = Table("command", "s", "peak MB", title=f"{args.images:,} images, {args.classes:,} classes")
    for name, measured in found.items():
        table.add_row(name, f"{measured.seconds:.1f}", f"{measured.peak / 1e6:,.0f}")
    console = Console(width=110)
    console.print(table)
    growth = found["test, all of it"].growth
    chosen = [growth[i * (len(growth) - 1) // 4] for i in range(5)] if growth else []
    console.print("MB by shards done: " + ", ".join(f"{shards}: {size / 1e6:,.0f}" for shards, size in chosen))
    files = [path for path in (folder / "run" / "records").iterdir() if path.is_file()]
    console.print(f"{len(files)} shards of {sum(path.stat().st_size for path in files) / 1e6:.1f} MB in all")
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")


if __name__ == "__main__":
    sys.exit(main())
