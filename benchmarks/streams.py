"""Measures stream methods over a long stream of simulated features.

    python -m benchmarks.streams --images 50000 --methods tda boostadapter onzeta pta dota

Prints CPU milliseconds per image at several points of the stream and on average, and the size of the state.  An image
is the text feature of its class plus noise; classes come in random order.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from typing import cast

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tpt
from benchmarks.episode import class_names
from benchmarks.methods import BACKBONE, METHODS
from benchmarks.plain_streams import STREAMS
from tpt.clip.weights.pretrained import wrap

NOISE = 0.9  # length of the noise relative to the text feature; about half of the images are then recognised
console = Console(width=110)


def stream(text_KE: Tensor, images: int, batch: int, num_views: int) -> Iterator[Tensor]:
    """Yields batches of (B, V, E) features, with classes in random order."""
    generator = torch.Generator().manual_seed(0)
    width = text_KE.shape[1]
    for first in range(0, images, batch):
        size = min(batch, images - first)
        labels = torch.randint(len(text_KE), (size,), generator=generator)
        noise = torch.randn(size, num_views, width, generator=generator) * NOISE / width**0.5
        yield torch.nn.functional.normalize(text_KE[labels][:, None] + noise, dim=-1)


class Texts(nn.Module):
    """Random text features about as far apart as a trained model's; replaces a method's `bank`.

    Args:
        classes: K.
        width: E.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        shared = torch.randn(1, width, generator=generator)
        own = torch.randn(classes, width, generator=generator)
        self.text_KE = torch.nn.functional.normalize(shared + own / 2, dim=-1)

    def forward(self, *_: Tensor) -> Tensor:
        """Returns the same (K, E) text features for every image."""
        return self.text_KE


def timed(method: tpt.StreamMethod, images: int, batch: int, num_views: int, limit_s: float) -> list[tuple[int, float]]:
    """Returns, per batch, the images seen so far and the CPU seconds per image; stops after `limit_s` CPU seconds."""
    texts = Texts(len(method.class_names), method.clip.embed_dim)
    method.bank = texts  # type: ignore[assignment]
    method.begin_dataset(images)
    found, seen, spent = [], 0, 0.0
    for features in stream(texts.text_KE, images, batch, num_views):
        began = time.process_time()
        method(features)
        took = time.process_time() - began
        seen, spent = seen + len(features), spent + took
        found.append((seen, took / len(features)))
        if spent > limit_s:
            break
    return found


def around(found: list[tuple[int, float]], images: int, batches: int = 5) -> float:
    """Median CPU milliseconds per image over the batches closest to this position in the stream."""
    nearest = sorted(found, key=lambda step: abs(step[0] - images))[:batches]
    return 1e3 * float(torch.tensor([took for _, took in nearest]).median())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--at", type=int, nargs="+", default=[1_000, 5_000, 10_000, 50_000])
    parser.add_argument("--methods", nargs="+", default=list(STREAMS), choices=list(STREAMS))
    parser.add_argument("--limit-s", type=float, default=1800, help="seconds per method")
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    clip = wrap(open_clip.create_model(BACKBONE, pretrained=None, load_weights=False).eval(), BACKBONE)
    names = class_names(args.classes)
    table = Table("method", "images", *(f"ms at {at:,}" for at in args.at), "average", "state MB")
    for name in args.methods:
        method = cast(tpt.StreamMethod, METHODS[name](clip, names))
        found = timed(method, args.images, args.batch, args.views, args.limit_s)
        seen, rest = found[-1][0], found[1:] or found  # the first batch also encodes the text
        average = 1e3 * sum(took for _, took in rest) / len(rest)
        size = sum(value.nbytes for value in method.state().values()) / 1e6
        at = ("" if at > seen else f"{around(found, at):.1f}" for at in args.at)
        table.add_row(name, f"{seen:,}", *at, f"{average:.1f}", f"{size:.1f}")
    console.print(
        f"{args.classes:,} classes, batches of {args.batch}, {args.views} views, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
