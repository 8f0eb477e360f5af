"""Measures the time and peak memory of every method on features of ViT-B/16's size.

    python -m benchmarks.methods --classes 100 1000 --images 2

Seconds per image in a batch are compared with TPT, with encoding the views, with the same images one by one, and with
the method's plain form (`benchmarks.plain_methods`), which must give the same answers.  Random weights take as long as
trained ones.  Each measurement starts a new stream; `--images 200` shows the time of a stream method with a filled
state.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tpt
from benchmarks.episode import class_names
from benchmarks.measure import PeakMemory, give_back
from benchmarks.plain_methods import FROM_TEXT, plain_form
from benchmarks.plain_streams import STREAMS
from tpt.clip.weights.pretrained import wrap

BACKBONE = "ViT-B-16-quickgelu"
ENCODED = 8  # views encoded to time the image encoder
TEXTS = 51  # AWT's descriptions per class; their features are random, as encoding takes the same for every method
PLAIN_IMAGES = 1  # images that the plain forms run
PLAIN_CLASSES = 400  # limit for plain prompt tuning, whose graph covers all padded prompts: at 1,000 about 35 GB
METHODS: dict[str, Callable[..., tpt.Method]] = {
    "zero_shot": tpt.ZeroShot,
    "view_ensemble": tpt.ViewEnsemble,
    "zero": tpt.ZERO,
    "mta": tpt.MTA,
    "se": tpt.SE,
    "awt": tpt.AWT,
    "tps": tpt.TPS,
    "tpt": tpt.TPT,
    "ctpt": tpt.CTPT,
    "otpt": tpt.OTPT,
    "atpt": tpt.ATPT,
    "rtpt": tpt.RTPT,
    "use": tpt.USE,
    "rlcf": tpt.RLCF,
    "tda": tpt.TDA,
    "boostadapter": tpt.BoostAdapter,
    "onzeta": tpt.OnZeta,
    "pta": tpt.PTA,
    "dota": tpt.DOTA,
    "ecalp": tpt.ECALP,
}
console = Console(width=110)


@dataclass
class Cost:
    """The cost of one method.

    Args:
        batch, alone: seconds per image, in a batch and one by one.
        peak: peak memory in bytes.
        apart: largest difference of logits between batch and one by one, or of probabilities from the plain form.
        plain: seconds per image of the plain form; None if it was not run because it would not fit into memory.
    """

    batch: float
    alone: float
    peak: int
    apart: float
    plain: float | None = None


def made(name: str, clip: tpt.CLIP, names: list[str]) -> tpt.Method:
    """The method at its defaults with one step; RLCF's reward model is the backbone, AWT's text features are random."""
    more: dict[str, Any] = {"steps": 1} if METHODS[name] in (tpt.TPS, tpt.RLCF) or name.endswith("tpt") else {}
    if name == "rlcf":
        more["reward"] = clip
    if name == "awt":
        more["templates"] = ["{}"]
    method = METHODS[name](clip, names, **more)
    if name == "awt":
        method.bank._sets = views(len(names), TEXTS, clip.embed_dim)
    return method


def begin(method: tpt.Method, images: int) -> tpt.Method:
    """Returns the method at the start of a new stream, if it is a stream method."""
    method.begin_dataset(images)
    return method


def cost(method: tpt.Method, features: Tensor, repeats: int) -> tuple[Cost, Tensor]:
    """Returns the cost of a method, and its logits for the batch."""
    extras = dict.fromkeys(method.needs, features)  # the backbone's features also serve as another encoder's
    begin(method, len(features))(features[:1], **{key: value[:1] for key, value in extras.items()})  # encodes the text
    batch, alone = [], []
    with PeakMemory(features.device) as peak:
        for _ in range(repeats):
            began = time.perf_counter()
            together = begin(method, len(features))(features, **extras)
            batch.append(time.perf_counter() - began)
    for _ in range(repeats):
        began = time.perf_counter()
        begin(method, len(features))
        each = [method(x, **{key: value[i] for key, value in extras.items()}) for i, x in enumerate(features)]
        alone.append(time.perf_counter() - began)
    apart = float((together.logits - torch.stack([out.logits for out in each])).abs().max())
    return Cost(min(batch) / len(features), min(alone) / len(features), peak.bytes, apart), together.logits


def add_plain(name: str, method: Any, model: nn.Module, features: Tensor, logits: Tensor, found: Cost) -> None:
    """Runs the plain form of a method and adds its time, and its largest difference from the batch, to `found`."""
    begin(method, len(logits))
    rewards = method.reward.encode_text(method._prompts) if name == "rlcf" else None
    plain = plain_form(name, model, method, rewards)
    began = time.perf_counter()
    answers = torch.stack([plain(x) for x in features[:PLAIN_IMAGES]])
    found.plain = (time.perf_counter() - began) / len(answers)
    apart = (logits[:PLAIN_IMAGES].softmax(-1) - answers.softmax(-1)).abs().max()
    found.apart = max(found.apart, float(apart))


def compared(args: argparse.Namespace, clip: tpt.CLIP, model: nn.Module, classes: int) -> dict[str, Cost]:
    """Measures all methods; the plain forms come last, because they take the most memory."""
    features = views(args.images, args.views, clip.embed_dim)
    costs, logits = {}, {}
    for name in args.methods:
        give_back()
        costs[name], logits[name] = cost(made(name, clip, class_names(classes)), features, args.repeats)
    for name, found in costs.items():
        if name in FROM_TEXT or name in STREAMS or classes <= PLAIN_CLASSES:
            add_plain(name, made(name, clip, class_names(classes)), model, features, logits[name], found)
    return costs


def views(images: int, num_views: int, width: int) -> Tensor:
    """(B, V, E) random unit vectors; the views of one image are similar."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(images, 1, width, generator=generator)
    return torch.nn.functional.normalize(base + torch.randn(images, num_views, width, generator=generator), dim=-1)


def report(classes: int, costs: dict[str, Cost], encoder: float) -> None:
    table = Table("method", "s per image", "of TPT", "of encoding %", "one by one", "plain form", "peak GB", "apart")
    for name, found in costs.items():
        of_tpt = f"{found.batch / costs['tpt'].batch:.2f}" if "tpt" in costs else ""
        table.add_row(
            name,
            f"{found.batch:.4f}",
            of_tpt,
            f"{100 * found.batch / encoder:.2f}",
            f"{found.alone / found.batch:.2f} x",
            "" if found.plain is None else f"{found.plain / found.batch:.3g} x",
            f"{found.peak / 1e9:.1f}",
            f"{found.apart:.0e}",
        )
    console.print(f"{classes} classes")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--views", type=int, default=64)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    parser.add_argument("--backbone", default=BACKBONE)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    model = open_clip.create_model(args.backbone, pretrained=None, load_weights=False).eval()
    clip = wrap(model, args.backbone)
    pictures = torch.randn(ENCODED, 3, clip.image_size, clip.image_size)
    clip.encode_views(pictures)
    began = time.perf_counter()
    clip.encode_views(pictures)
    encoder = (time.perf_counter() - began) * args.views / ENCODED
    console.print(
        f"{args.backbone}, {args.views} views, {args.images} images, {platform.machine()}, {torch.get_num_threads()} "
        f"threads, torch {torch.__version__}; encoding the views {encoder:.1f} s per image, from {ENCODED} of them"
    )
    agree = True
    for classes in args.classes:
        costs = compared(args, clip, model, classes)
        report(classes, costs, encoder)
        agree &= all(found.apart < 1e-3 for found in costs.values())
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
