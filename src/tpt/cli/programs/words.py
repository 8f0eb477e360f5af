"""Prints the vocabulary words nearest to each vector of a learned context: `tpt-words PATH --backbone NAME`.

CoOp's paper does the same (appendix, table of nearest words), and warns that the words are hard to interpret: the
nearest word may be far away, so distances are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpt.cli.errors import told
from tpt.cli.programs.arguments import new_parser
from tpt.engine.printing import say
from tpt.files.contexts import context_file

if TYPE_CHECKING:
    from torch import Tensor

    from tpt.clip.model import CLIP
    from tpt.clip.prompts.checkpoint import LearnedContext


@dataclass(frozen=True)
class Neighbour:
    """A vocabulary word near a vector.

    Args:
        word: as the tokenizer spells it, without the trailing space.
        distance: Euclidean distance between its embedding and the vector.
    """

    word: str
    distance: float


def nearest_words(clip: CLIP, vectors: Tensor, top: int = 5) -> list[list[Neighbour]]:
    """The `top` nearest words of each vector, nearest first.

    Skips special tokens, such as the start and end token, and words whose embedding is all zero because they were never
    trained (the bundled model has many).

    Args:
        clip: whose vocabulary is searched.
        vectors: (N, D).
        top: at least 1.
    """
    import torch  # noqa: PLC0415 -- takes seconds to load

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

    Args:
        clip: the backbone that the context was learned with.
        context: generic or class-specific; of a conditional one, the vectors that all images share.
        top: words per vector.
        num_classes: classes to show of a class-specific context; None shows all.
    """
    from tpt.clip.prompts.conditional import ConditionalContext  # noqa: PLC0415 -- takes seconds to load

    base = context.base if isinstance(context, ConditionalContext) else context
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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _count_or_all(text: str) -> int | None:
    return None if text == "all" else _count(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the words; a short message and exit code 1 on a user's mistake."""
    parser = new_parser("tpt-words", __doc__)
    add = parser.add_argument
    add("path", metavar="PATH", help="a context of CoOp or CoCoOp: a file, or the directory of a training run")
    add(
        "--backbone",
        metavar="NAME",
        help="the open_clip name of the CLIP that it was learned with; default the bundled one",
    )
    add("--pretrained", metavar="WEIGHTS", help="an open_clip tag, or a weights file")
    add("--top", type=_count, default=5, metavar="N", help="words per vector; default %(default)s")
    add(
        "--classes",
        type=_count_or_all,
        default=5,
        metavar="N",
        help="classes to show of a class-specific context, or all; default %(default)s",
    )
    args = parser.parse_args(arguments)
    with told():
        file = context_file(args.path)
        from tpt.clip import load_clip  # noqa: PLC0415 -- takes seconds to load
        from tpt.clip.prompts import context_from_file  # noqa: PLC0415 -- likewise

        clip = load_clip(args.backbone, args.pretrained)
        say("\n".join(report(clip, context_from_file(clip, file), args.top, args.classes)))


if __name__ == "__main__":
    main()
