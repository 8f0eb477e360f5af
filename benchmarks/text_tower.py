"""Measures the text side of one gradient step (forward and backward) for each kind of context.

    python -m benchmarks.text_tower --classes 100

Compares the engine with a plain pass, which is cut to the longest prompt for causal towers.
`--backbone MobileCLIP2-S0 --quick` measures a padded tower.
"""

from __future__ import annotations

import argparse

import open_clip
import torch
from rich.console import Console
from rich.table import Table

import tpt
from benchmarks.episode import class_names
from benchmarks.measure import Stages
from benchmarks.plain import plain_of
from tpt.clip.weights.pretrained import wrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a generic context in front of the name alone")
    args = parser.parse_args()
    model = open_clip.create_model(args.backbone, pretrained=None, load_weights=False).eval()
    model.requires_grad_(False)
    clip, names = wrap(model, args.backbone), class_names(args.classes)
    table = Table("context", "class token", "engine s", "plain s", "ratio", "features differ by")
    for specific in (False,) if args.quick else (False, True):
        for position in ("end",) if args.quick else ("end", "middle", "front"):
            context = tpt.random_context(clip, 4, position, num_classes=len(names) if specific else None)
            method = tpt.TPT(clip, names, context=context)
            plain = plain_of(model, method)
            length = int(plain.tokens.argmax(-1).max()) + 1
            if getattr(model, "text", model).attn_mask is not None:
                plain.cut(length)
            stages = Stages(torch.device("cpu"))
            for repeat in ("warm", ""):
                with stages(repeat + "engine"):
                    slots = method.learner.slots.clone().requires_grad_()
                    ours = method.learner(slots)
                    ours.sum().backward()
                with stages(repeat + "plain"):
                    start = plain.context0.clone().requires_grad_()
                    theirs = plain.text_features(start)
                    theirs.sum().backward()
            engine, truncated = stages.seconds["engine"], stages.seconds["plain"]
            kind = "class-specific" if specific else "generic"
            worst = float((ours - theirs).detach().abs().max())
            table.add_row(
                kind, position, f"{engine:.2f}", f"{truncated:.2f}", f"{truncated / engine:.1f}x", f"{worst:.0e}"
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
