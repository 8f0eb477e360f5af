"""Compares the engine with the plain algorithm: whether they agree, and the time of each stage of an episode.

    python -m benchmarks.episode --backbone ViT-B-16 --classes 1000 --images 4

Both run in one process on the same random weights and views.  Random weights take as long as trained ones.
"""

from __future__ import annotations

import argparse
import platform
import sys
from functools import partial
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tpt
from benchmarks.measure import PeakMemory, Stages, count_flops, matmul_rate
from benchmarks.plain import plain_of
from tpt.clip.model import DTYPES
from tpt.clip.weights.pretrained import usable_device, wrap
from tpt.views import Views

TIE = 1e-5  # nats
STAGES = ("views", "image encoder", "first forward", "tune", "predict")
console = Console(width=110)


def main() -> int:
    args = arguments()
    torch.manual_seed(0)
    device = usable_device(args.device)
    model = open_clip.create_model(args.backbone, pretrained=None, load_weights=False, device=device).eval()
    clip = wrap(model, args.backbone, args.precision).to(device)
    names = class_names(args.classes)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    console.print(
        f"{args.backbone}, {len(names)} classes, {args.views} views, {args.steps} steps, {args.images} images, "
        f"{args.precision}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    if args.grow:
        grow(clip, args, device)
        return 0
    engine, outs, views, engine_peak, flops = run_engine(clip, names, args, device)
    rows = {"engine": (engine, engine_peak, flops)}
    agree = True
    if not args.engine_only:
        plain, results, plain_peak, flops = run_plain(clip, model, names, views[: args.plain_images], args, device)
        plain["views"] = engine["views"]  # the views are made once for both
        rows["plain"] = (plain, plain_peak, flops)
        agree = compare(outs, results, args.precision == "fp32")
    report(rows)
    if device.type == "cuda":
        rate = matmul_rate(device, DTYPES[args.precision])
        reached = rows["engine"][2] / sum(engine.values())
        console.print(f"matrix products reach {rate / 1e12:.0f} TFLOP/s here; the engine {reached / rate:.0%} of that")
    return 0 if agree else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="any open_clip model with a plain text tower")
    parser.add_argument("--classes", type=int, default=100, help="the first of ImageNet's class names")
    parser.add_argument("--images", type=int, default=4, help="number of images that the engine tunes at once")
    parser.add_argument("--plain-images", type=int, default=1, help="run by the plain algorithm, one by one")
    parser.add_argument("--views", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=sorted(DTYPES))
    parser.add_argument("--views-on", default="loader", choices=["loader", "device"], help="made by PIL, or of tensors")
    parser.add_argument("--engine-only", action="store_true", help="where the plain algorithm does not fit")
    parser.add_argument(
        "--grow", action="store_true", help="how the text side grows with classes, steps, views, images"
    )
    return parser.parse_args()


def class_names(number: int) -> list[str]:
    known: list[str] = list(open_clip.IMAGENET_CLASSNAMES)
    return [known[k % len(known)] + (f" {k // len(known)}" if k >= len(known) else "") for k in range(number)]


def picture(seed: int) -> Image.Image:
    """A random image of the size of a small photo, with smooth colour changes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)


def make_method(clip: tpt.CLIP, names: list[str], steps: int, **settings: Any) -> tpt.TPT:
    return tpt.TPT(clip, names, steps=steps, selection_p=0.1, lr=5e-3, **settings)


def run_engine(
    clip: tpt.CLIP, names: list[str], args: argparse.Namespace, device: torch.device
) -> tuple[dict[str, float], Any, Tensor, int, float]:
    """Returns seconds per image by stage, the answers, the views, peak bytes and operations per image.

    The text tower's first forward pass runs once per dataset, so the images share its time.
    """
    stages = Stages(device)
    with stages("views"):
        maker = Views(clip.image_size, args.views)
        views = make_views(maker, args, device)
    if device.type == "cuda":  # warm up
        stages.seconds.clear()
        with stages("views"):
            views = make_views(maker, args, device)
        make_method(clip, names, args.steps)(clip.encode_views(views.to(device)))
    method = make_method(clip, names, args.steps)
    method.tuner._start = stages.time("first forward", method.tuner._start)  # type: ignore[method-assign]
    method.tuner.products = stages.time("predict", method.tuner.products)  # type: ignore[method-assign]
    with PeakMemory(device) as peak:
        with stages("image encoder"):
            features = clip.encode_views(views.to(device))
        with stages("tune"):
            outs = method(features)
    encoder = args.views * count_flops(lambda: clip.encode_views(views[0, :1].to(device)))
    fresh = make_method(clip, names, args.steps)
    flops = encoder + count_flops(lambda: fresh(features)) / args.images
    return {k: v / args.images for k, v in stages.seconds.items()}, outs, views, peak.bytes, flops


def make_views(maker: Views, args: argparse.Namespace, device: torch.device) -> Tensor:
    pictures = [picture(i) for i in range(args.images)]
    if args.views_on == "loader":
        return torch.stack([maker.make(p, str(i)) for i, p in enumerate(pictures)])
    return maker.render([maker.plan(p, str(i)).to(device) for i, p in enumerate(pictures)])


def run_plain(
    clip: tpt.CLIP, model: Any, names: list[str], views: Tensor, args: argparse.Namespace, device: torch.device
) -> tuple[dict[str, float], list[Any], int, float]:
    stages = Stages(device)
    plain = plain_of(model, make_method(clip, names, args.steps))
    autocast = partial(torch.autocast, device.type, DTYPES[args.precision], enabled=args.precision != "fp32")
    encode, text = plain.image_features, plain.text_features
    plain.image_features = stages.time("image encoder", encode)  # type: ignore[method-assign]

    def timed_text(context: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return text(context)
        with stages("predict"):
            return text(context)

    plain.text_features = timed_text  # type: ignore[method-assign]
    pixels = [clip._normalise(v.to(device)) for v in views]
    with PeakMemory(device) as peak, autocast():
        if device.type == "cuda":
            plain(pixels[0], args.steps, 0.1, 5e-3)
            stages.seconds.clear()
        results = []
        for v in pixels:
            with stages("tune"):
                results.append(plain(v, args.steps, 0.1, 5e-3))
    one = plain_of(model, make_method(clip, names[:1], args.steps))

    def text_of_one_class() -> None:
        context = one.context0.clone().requires_grad_()
        for _ in range(args.steps):
            one.text_features(context).sum().backward()
        with torch.no_grad():
            one.text_features(context)

    encoder = (args.views * args.steps + 1) * count_flops(lambda: encode(pixels[0][:1]))
    flops = encoder + len(names) * count_flops(text_of_one_class)
    return {k: s / len(views) for k, s in stages.seconds.items()}, results, peak.bytes, flops


def differences(outs: Any, results: list[Any]) -> tuple[bool, float]:
    """Whether engine and plain algorithm selected the same views, and the largest difference between their logits.

    Views of equal entropy, up to rounding, count as the same: some image encoders with random weights, such as that of
    MobileCLIP2-S0, give all views of an image nearly the same features.
    """
    same = True
    for selected, result in zip(outs.selected, results, strict=False):
        entropies = torch.distributions.Categorical(logits=result.initial_logits.float()).entropy()
        same &= torch.allclose(entropies[selected], entropies[result.selected], rtol=0, atol=TIE)
    return same, max(float((outs.logits[i] - r.logits.float()).abs().max()) for i, r in enumerate(results))


def compare(outs: Any, results: list[Any], strict: bool) -> bool:
    same, worst = differences(outs, results)
    console.print(f"same views selected: {'yes' if same else 'no'}; logits differ by at most {worst:.1e}")
    return (same and worst < 1e-3) or not strict


def report(rows: dict[str, tuple[dict[str, float], int, float]]) -> None:
    """Prints seconds per image by stage, their totals, peak memory, operations per image, and the ratios."""
    table = Table()
    for column in ("per image", *STAGES, "text side", "whole", "peak GB", "TFLOP"):
        table.add_column(column, justify="right")
    numbers = {}
    for name, (seconds, peak, flops) in rows.items():
        own = [seconds.get(s, 0.0) for s in STAGES]
        numbers[name] = [*own, sum(own[2:]), sum(own), peak / 1e9, flops / 1e12]
        table.add_row(name, *(f"{x:.3g}" for x in numbers[name]))
    if len(rows) == 2:
        ratios = [p / e if e and p else None for p, e in zip(numbers["plain"], numbers["engine"], strict=True)]
        table.add_row("ratio", *("" if r is None else f"{r:.1f}x" for r in ratios))
    console.print(table)


def grow(clip: tpt.CLIP, args: argparse.Namespace, device: torch.device) -> None:
    """Prints seconds per image for the engine's text side, varying one setting at a time."""
    table = Table("setting", "value", "seconds per image")
    base = {"classes": args.classes, "steps": args.steps, "views": args.views, "images": args.images}
    for key, values in {
        "classes": (100, 200, 400, 1000),
        "steps": (1, 2, 4),
        "views": (16, 64, 128),
        "images": (1, 4, 16),
    }.items():
        for value in values:
            case = {**base, key: value}
            features = F.normalize(torch.randn(case["images"], case["views"], clip.embed_dim, device=device), dim=-1)
            method = make_method(clip, class_names(case["classes"]), case["steps"])
            method.tuner._start()  # once per dataset
            stages = Stages(device)
            with stages("adapt"):
                method(features)
            table.add_row(key, str(value), f"{stages.seconds['adapt'] / case['images']:.3g}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
