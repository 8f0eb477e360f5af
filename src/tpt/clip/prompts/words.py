"""The vocabulary words nearest to a learned context, as in CoOp's paper (appendix, table of nearest words)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.clip.prompts.checkpoint import LearnedContext
from tpt.clip.prompts.conditional import ConditionalContext


class Neighbour(NamedTuple):
    """A vocabulary word near a vector, and the Euclidean distance between its embedding and the vector."""

    word: str
    distance: float


def nearest_words(clip: CLIP, vectors: Tensor, top: int = 5) -> list[list[Neighbour]]:
    """The `top` nearest words of each vector of (N, D), nearest first.

    Skips special tokens, such as the start and end token, and words whose embedding is all zero because they were never
    trained (the bundled model has many).
    """
    embedding = clip.text.token_embedding  # called, because some layers scale their weights
    table = embedding(torch.arange(embedding.num_embeddings, device=clip.device)).detach().float()
    allowed = table.ne(0).any(1)
    allowed[clip.tokenizer.specials] = False
    allowed[clip.tokenizer.size :] = False  # zero rows: padding and untrained words
    tokens = allowed.nonzero().flatten()
    # Differences for one vector at a time: expanding the square would lose the precision of small distances.
    distances = torch.stack([(table[tokens] - v).norm(dim=1) for v in vectors.to(table)])
    found, order = distances.topk(min(top, len(tokens)), largest=False)
    return [
        [Neighbour(clip.tokenizer.decode([int(tokens[i])]).strip(), float(d)) for d, i in zip(ds, ids, strict=True)]
        for ds, ids in zip(found, order, strict=True)
    ]


def report(clip: CLIP, context: LearnedContext, top: int = 5, num_classes: int | None = 5) -> list[str]:
    """Describes a context as text: for each vector, the nearest words and their distances.

    Shows at most `num_classes` classes of a class-specific context, and of a conditional one the shared vectors.
    """
    base = context.base
    lines = [f"{base.source}: {base.n_ctx} vectors of width {base.vectors.shape[-1]}, {base.n_before} before the name"]
    if isinstance(context, ConditionalContext):
        lines.append("These are the vectors that all images share; the network adds an offset for each image.")
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
