"""Measures TPT on drawings of seen vendors that were held out from training, to choose a model or settings.

    python tools/tune_emoji_tpt.py                          # a grid of settings for the bundled model
    python tools/tune_emoji_tpt.py --weights new.safetensors --steps 1 --lr 0.005 --selection-p 0.1

Encodes the views of `source_val` once and tries every setting on the features.  The shifted domains are not used.
In addition to accuracy, it reports the entropy of the selected views, the change of the logits (its standard deviation
over the classes), and the norm of the first gradient per context vector.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tpt
from tpt.data import emoji_shift
from tpt.results.tables.statistics import paired_gain


def view_features(clip: tpt.CLIP, limit: int | None, num_views: int) -> tuple[Tensor, Tensor, list[str]]:
    """Returns the features (N, V, E) of N images' views, the labels (N,), and the class names."""
    dataset = emoji_shift("source_val").subset(limit)
    make_views = tpt.Views(clip.image_size, num_views)
    features = [
        clip.encode_views(make_views(dataset.image(i), f"source_val/{s.path}")) for i, s in enumerate(dataset.samples)
    ]
    return torch.stack(features), torch.tensor([s.label for s in dataset.samples]), dataset.class_names


def answers(method: tpt.TPT, features: Tensor) -> Iterator[tpt.Adaptation]:
    """Adapts to the images in batches of 16."""
    return map(method, features.split(16))


def row(method: tpt.TPT, features: Tensor, labels: Tensor) -> tuple[str, ...]:
    """Returns the cells: zero-shot and TPT accuracy, gain, entropy before and after, change of the logits."""
    parts = list(answers(method, features))
    first, last = torch.cat([p.initial_logits for p in parts]), torch.cat([p.logits for p in parts])
    before, after = first.argmax(-1) == labels, last.argmax(-1) == labels
    low, high = torch.cat([p.entropy for p in parts]).mean(), torch.cat([p.initial_entropy for p in parts]).mean()
    gain = paired_gain(before.tolist(), after.tolist())
    change = (last - first).std(-1, correction=0).mean()
    return (
        f"{100 * before.float().mean():.2f}",
        f"{100 * after.float().mean():.2f}",
        f"{gain.points:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]",
        f"{high:.3f} → {low:.3f} ({100 * (low / high - 1):+.0f} %)",
        f"{change:.3f}",
    )


def gradient_norms(clip: tpt.CLIP, names: list[str], features: Tensor) -> list[float]:
    """Mean norm of the loss gradient per context vector, from one SGD step with learning rate 1."""
    method = tpt.TPT(clip, names, lr=1.0, optimizer=torch.optim.SGD)
    start = tpt.TPT(clip, names, steps=0)(features[:1]).context[0]
    moved = torch.cat([part.context for part in answers(method, features)])
    return [float(norm) for norm in (start - moved).norm(dim=-1).mean(0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a file in place of the bundled one")
    parser.add_argument("--limit", type=int, default=None, help="images; all by default")
    parser.add_argument("--views", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.0025, 0.005, 0.01])
    parser.add_argument("--selection-p", type=float, nargs="+", default=[0.1, 0.3])
    args = parser.parse_args()
    clip = tpt.load_clip(pretrained=args.weights) if args.weights else tpt.load_clip("emoji-mini")
    features, labels, names = view_features(clip, args.limit, args.views)
    norms = gradient_norms(clip, names, features)
    print("gradient's norm by context vector:", " ".join(f"{n:.3g}" for n in norms), flush=True)
    table = Table("steps", "lr", "selection_p", "zero-shot", "tpt", "gain [95 % interval]", "entropy", "logits move")
    for steps, lr, p in itertools.product(args.steps, args.lr, args.selection_p):
        cells = row(tpt.TPT(clip, names, steps=steps, lr=lr, selection_p=p), features, labels)
        table.add_row(f"{steps}", f"{lr:g}", f"{p:g}", *cells)
        print(f"steps {steps}  lr {lr:g}  p {p:g}  {'  '.join(cells)}", flush=True)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
