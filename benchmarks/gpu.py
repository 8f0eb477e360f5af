"""Runs all GPU measurements in under eight minutes.

    python -m benchmarks.gpu

First the GPU tests, then one episode per precision, number of classes and number of images (views made on the device;
the largest batch is compared with the plain algorithm).  Writes the table for benchmarks/README.md.  On a CPU it runs a
small version, which only shows that the command works.
"""

from __future__ import annotations

import argparse
import gc
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import open_clip
import torch
from rich.console import Console

import tpt
from benchmarks.episode import STAGES, class_names, differences, run_engine, run_plain
from benchmarks.measure import matmul_rate
from tpt.clip.model import DTYPES, Precision, is_out_of_memory
from tpt.clip.weights.pretrained import usable_device, wrap

TESTS_S = 120  # time limit of the GPU tests
CASES_S = 270  # no case starts later than this after the tests; the longest takes well under a minute
COLUMNS = ("precision", "classes", "images at once", *STAGES, "whole", "images per second", "peak GB")
BESIDE = ("of the matrix rate", "plain", "ratio", "same views", "logits differ by")
console = Console(width=150)


@dataclass(frozen=True)
class Form:
    """The cases to measure.

    Args:
        backbone: open_clip model; its weights are random, which takes as long as trained ones.
        classes: numbers of classes.
        images: batch sizes; for the last one, the plain algorithm runs one image for comparison.
        views: views per image.
    """

    backbone: str
    classes: tuple[int, ...]
    images: tuple[int, ...]
    views: int


FULL = Form("ViT-B-16-quickgelu", (100, 1000), (1, 16), 64)
SMALL = Form("ViT-S-32-alt", (3, 6), (2,), 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a GPU test fails or the engine's float32 answers differ from the plain algorithm's, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("gpu_table.md"), help="the table as Markdown")
    args = parser.parse_args(arguments)
    device = usable_device(args.device)
    form = FULL if device.type == "cuda" else SMALL
    sound = run_tests()
    agree = measured(form, device, args.output)
    console.print(f"written to {args.output}")
    return 0 if sound and agree else 1


def run_tests() -> bool:
    """Whether the GPU tests passed; without a GPU they are skipped."""
    tests = Path(__file__).parents[1] / "tests" / "test_gpu.py"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", "-q", str(tests)]
    done = subprocess.run(command, check=False, cwd=tests.parents[1], capture_output=True, text=True, timeout=TESTS_S)
    said = done.stdout.strip().splitlines()
    console.print(f"GPU tests: {said[-1] if said else done.stderr}", markup=False)
    if done.returncode:
        console.print(done.stdout, markup=False)
    return done.returncode == 0


def measured(form: Form, device: torch.device, output: Path) -> bool:
    """Writes the table in Markdown row by row; returns whether every float32 answer matched the plain algorithm's."""
    torch.manual_seed(0)
    model = open_clip.create_model(form.backbone, pretrained=None, load_weights=False, device=device).eval()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    columns = (*COLUMNS, *BESIDE)

    def write(*lines: str, mode: str = "a") -> None:
        console.print("\n".join(lines), markup=False, soft_wrap=True)
        with output.open(mode) as file:
            file.write("\n".join(lines) + "\n")

    settings = f"{form.views} views, one step, {where}, torch {torch.__version__}; seconds per image."
    write(f"{form.backbone}, {settings}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), mode="w")
    agree, began = True, time.monotonic()
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    for case in product(precisions, form.classes, form.images):
        if time.monotonic() - began > CASES_S:
            write("", f"No time was left for {', '.join(map(str, case))} and what would follow.")
            break
        cells, right = run_case(form, model, device, *case)
        agree &= right
        write(f"| {' | '.join([*cells, *[''] * (len(columns) - len(cells))])} |")
        gc.collect()
    return agree


def run_case(
    form: Form, model: Any, device: torch.device, precision: Precision, classes: int, images: int
) -> tuple[list[str], bool]:
    """Returns one row of the table, and whether the answers agree; only float32 answers can disagree."""
    args = argparse.Namespace(images=images, views=form.views, steps=1, precision=precision, views_on="device")
    names, head = class_names(classes), [precision, f"{classes:,}", str(images)]
    try:
        clip = wrap(model, form.backbone, precision).to(device)
        seconds, outs, views, peak, flops = run_engine(clip, names, args, device)
    except (RuntimeError, MemoryError) as error:
        return [*head, out_of_memory(error)], True
    whole = sum(seconds.values())
    row = [*head, *(f"{seconds.get(stage, 0.0):.2g}" for stage in STAGES), f"{whole:.3g}"]
    row += [f"{1 / (whole - seconds.get('first forward', 0.0)):.3g}", f"{peak / 1e9:.1f}"]
    on_gpu = device.type == "cuda"
    row.append(f"{flops / whole / matmul_rate(device, DTYPES[precision]):.0%}" if on_gpu else "")
    if images != form.images[-1]:
        return row, True
    beside, agree = run_beside(clip, model, names, args, device, outs, views, whole - seconds["views"])
    return [*row, *beside], agree


def run_beside(
    clip: tpt.CLIP,
    model: Any,
    names: list[str],
    args: Any,
    device: torch.device,
    outs: Any,
    views: Any,
    engine_s: float,
) -> tuple[list[str], bool]:
    """Returns the plain algorithm's cells of the row, and whether the answers agree; seconds exclude the views."""
    try:
        plain, results, _, _ = run_plain(clip, model, names, views[:1], args, device)
    except (RuntimeError, MemoryError) as error:
        return [out_of_memory(error)], True
    plain_s = sum(plain.values())
    same, worst = differences(outs, results)
    cells = [f"{plain_s:.3g}", f"{plain_s / engine_s:.1f}", "yes" if same else "no", f"{worst:.0e}"]
    return cells, args.precision != "fp32" or (same and worst < 1e-3)


def out_of_memory(error: BaseException) -> str:
    """Returns the cell for a case that ran out of memory; raises any other error again."""
    if not is_out_of_memory(error):
        raise error
    return "out of memory"


if __name__ == "__main__":
    sys.exit(main())
