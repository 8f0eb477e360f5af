"""The words nearest to learned vectors: `tpt-words PATH --backbone NAME`.

CoOp's paper looks at its contexts this way (its table of nearest words in the appendix), and warns that they are hard
to read: the nearest word may be far away, so the distances are shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tpt.cli.errors import told
from tpt.clip.model import CLIP
from tpt.clip.prompts.checkpoint import LearnedContext, context_from_file
from tpt.clip.prompts.conditional import ConditionalContext
from tpt.clip.weights.named import EMOJI_MINI
from tpt.clip.weights.pretrained import load_clip
from tpt.engine.printing import say
from tpt.errors import UserError


@dataclass(frozen=True)
class Neighbour:
    """A vocabulary word near a vector.

    Args:
        word: as the tokenizer spells it, without the space behind it.
        distance: Euclidean, between its embedding and the vector.
    """

    word: str
    distance: float


@torch.no_grad()
def nearest_words(clip: CLIP, vectors: Tensor, top: int = 5) -> list[list[Neighbour]]:
    """The `top` nearest words of each vector, nearest first.

    Words whose embedding is all zero were never trained (the bundled model has many) and are left out, as are tokens
    that stand for no text, such as the start and end token.

    Args:
        clip: whose vocabulary is searched.
        vectors: (N, D).
        top: at least 1.
    """
    if top < 1:
        raise UserError(f"Expected `top` of at least 1, got {top}.")
    embedding = clip.text.token_embedding  # asked, since some scale their weights
    table = embedding(torch.arange(embedding.num_embeddings, device=clip.device)).float()
    allowed = table.ne(0).any(1)
    allowed[clip.tokenizer.specials] = False
    allowed[clip.tokenizer.size :] = False  # rows that no word has
    tokens = allowed.nonzero().flatten()
    # Differences one vector at a time: the usual expansion of the square loses the digits of small distances.
    distances = torch.stack([(table[tokens] - v).norm(dim=1) for v in vectors.to(table)])
    found, order = distances.topk(min(top, len(tokens)), largest=False)
    return [
        [Neighbour(clip.tokenizer.decode([int(tokens[i])]).strip(), float(d)) for d, i in zip(ds, ids, strict=True)]
        for ds, ids in zip(found, order, strict=True)
    ]


def report(clip: CLIP, context: LearnedContext, top: int = 5, num_classes: int | None = 5) -> list[str]:
    """Lines of text: for each vector, its nearest words and their distances.

    Args:
        clip: the backbone the context was learned with.
        context: generic or class-specific; of a conditional one, the part that all images share.
        top: words per vector.
        num_classes: of a class-specific context, how many classes to show; None shows all.
    """
    base = context.base if isinstance(context, ConditionalContext) else context
    lines = [f"{base.source}: {base.n_ctx} vectors of width {base.vectors.shape[-1]}, {base.n_before} before the name"]
    if isinstance(context, ConditionalContext):
        lines.append("Shown is the part that all images share; the network adds to it for each image.")
    if not base.class_specific:
        return lines + _table(clip, base.vectors, top)
    shown = base.vectors[:num_classes]
    for k, vectors in enumerate(shown):
        name = base.class_names[k] if base.class_names is not None else f"class {k}"
        lines += ["", f"{name}:", *_table(clip, vectors, top)]
    if len(shown) < len(base.vectors):
        lines += ["", f"{len(base.vectors) - len(shown)} more classes; --classes all shows them."]
    return lines


def _table(clip: CLIP, vectors: Tensor, top: int) -> list[str]:
    rows = nearest_words(clip, vectors, top)
    words = [", ".join(f"{n.word} ({n.distance:.4f})" for n in row) for row in rows]
    return [f"{i + 1:>4}  {row}" for i, row in enumerate(words)]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _count_or_all(text: str) -> int | None:
    return None if text == "all" else _count(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="tpt-words",
        description="Nearest vocabulary words of each vector of a learned context.",
    )
    parser.add_argument("path", help="a context of CoOp or CoCoOp: a file, or the folder of a training run")
    parser.add_argument(
        "--backbone", help=f"the CLIP it was learned with: {EMOJI_MINI} (the default), or a name of open_clip"
    )
    parser.add_argument("--pretrained", help="tag of open_clip, or the path of a weights file")
    parser.add_argument("--top", type=_count, default=5, help="words per vector (default: 5)")
    parser.add_argument(
        "--classes", type=_count_or_all, default=5, help="class-specific contexts: how many, or all (default: 5)"
    )
    options = parser.parse_args(arguments)
    name = options.backbone or (EMOJI_MINI if options.pretrained is None else None)
    with told():
        clip = load_clip(name, options.pretrained)
        lines = report(clip, context_from_file(clip, options.path), options.top, options.classes)
        say("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
