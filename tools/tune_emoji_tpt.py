"""Choose TPT's settings for `emoji-mini` on drawings of seen vendors that were held back from its training.

    python tools/tune_emoji_tpt.py

Encodes the views of `source_val` once and tries a grid on the features.  The shifted domains are not looked at.
The chosen row stands in `conf/experiment/emoji_tuned.yaml`.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from rich.console import Console
from rich.table import Table

import tpt
from tpt.data import emoji_shift
from tpt.reports import paired_gain
from tpt.views import Views


def view_features(clip: tpt.CLIP, limit: int | None, num_views: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    dataset = emoji_shift("source_val", limit)
    make_views = Views(clip.image_size, num_views)
    features = [
        clip.encode_views(make_views(dataset.image(i), f"source_val/{s.path}")) for i, s in enumerate(dataset.samples)
    ]
    return torch.stack(features), torch.tensor([s.label for s in dataset.samples]), dataset.class_names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=None, help="images; all by default")
    parser.add_argument("--views", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.005, 0.02, 0.05])
    parser.add_argument("--selection-p", type=float, nargs="+", default=[0.1, 0.3])
    args = parser.parse_args()
    clip = tpt.load_clip("emoji-mini")
    features, labels, names = view_features(clip, args.limit, args.views)
    table = Table("steps", "lr", "selection_p", "zero-shot", "tpt", "gain [95 % interval]", "entropy")
    for steps, lr, p in itertools.product(args.steps, args.lr, args.selection_p):
        method = tpt.TPT(clip, names, steps=steps, lr=lr, selection_p=p)
        parts = [method(part) for part in features.split(16)]
        before = torch.cat([out.initial_logits.argmax(-1) == y for out, y in zip(parts, labels.split(16), strict=True)])
        after = torch.cat([out.logits.argmax(-1) == y for out, y in zip(parts, labels.split(16), strict=True)])
        gain = paired_gain(before.tolist(), after.tolist())
        table.add_row(
            f"{steps}",
            f"{lr:g}",
            f"{p:g}",
            f"{100 * before.float().mean():.2f}",
            f"{100 * after.float().mean():.2f}",
            f"{gain.points:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]",
            " → ".join(
                f"{torch.cat(e).mean():.2f}" for e in zip(*((o.initial_entropy, o.entropy) for o in parts), strict=True)
            ),
        )
        print(f"steps {steps}  lr {lr:g}  p {p:g}  gain {gain.points:+.2f}", flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
