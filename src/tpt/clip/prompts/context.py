"""The context: the vectors of a prompt that stand around the class name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tpt.clip.model import CLIP, tensors_digest
from tpt.clip.prompts.origin import Origin
from tpt.errors import UserError

CLASS_TOKEN = "[CLS]"
# What other programs write for it; the official code reads these as words, as this one does.
_ALIKE = re.compile(r"[\[{<(] *(?:cls|class(?:[ _]?name)?|classname|name|label|object|category|c) *[\]}>)]|%s", re.I)
POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class Context:
    """Vectors before and behind the class name.

    Args:
        vectors: (n_ctx, D), or (K, n_ctx, D) if each class has its own (class-specific context).
        n_before: how many of them stand before the class name; the others stand behind it.
        source: where they come from, for logs and results.
        class_names: of a class-specific context, the K classes it was learned for; None if that is not known.
        origin: the backbone it was learned with, as far as its file says; None takes any of the same width.
        note: what results must say about it; "" if nothing.
    """

    vectors: Tensor
    n_before: int
    source: str
    class_names: tuple[str, ...] | None = None
    origin: Origin | None = field(default=None, repr=False, compare=False)
    note: str = field(default="", repr=False, compare=False)

    @property
    def n_ctx(self) -> int:
        """Number of context vectors."""
        return int(self.vectors.shape[-2])

    @property
    def class_specific(self) -> bool:
        """Whether each class has vectors of its own."""
        return self.vectors.ndim == 3

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any bit of any vector, or their place."""
        return tensors_digest({"vectors": self.vectors}, f"{self.n_before} {self.class_names}")


def vectors_before(n_ctx: int, class_token_position: str) -> int:
    """How many of `n_ctx` vectors stand before the class name.

    Args:
        n_ctx: number of context vectors.
        class_token_position: "end" (all before), "middle" (the first `n_ctx // 2`) or "front" (none).
    """
    match class_token_position:
        case "end":
            return n_ctx
        case "middle":
            return n_ctx // 2
        case "front":
            return 0
        case _:
            raise UserError(
                f"Expected `class_token_position` to be one of {', '.join(POSITIONS)}, got {class_token_position!r}."
            )


def context_from_words(clip: CLIP, ctx_init: str, class_token_position: str = "end") -> Context:
    """The token embeddings of written words.

    Vectors are counted in tokens: a word of several tokens gives several vectors.  (The official code counts
    words, and takes the wrong vectors if a word has several tokens; if each word is one token, as in all
    prompts of the paper, the two agree.)

    Args:
        clip: whose vocabulary and embedding are used.
        ctx_init: such as "a photo of a"; underscores count as spaces.  `[CLS]`, or `{}` as in a template, marks where
            the class name goes and overrides `class_token_position`.  A full stop at the end is dropped, since every
            prompt gets one.
        class_token_position: "end", "middle" or "front".

    Example:
        >>> import tpt
        >>> clip = tpt.load_clip("emoji-mini")
        >>> context_from_words(clip, "a photo of a").n_ctx
        4
        >>> around = context_from_words(clip, "a photo of a [CLS] in the wild")
        >>> around.n_before, around.n_ctx
        (4, 7)
    """
    before, marked, behind = words_around(ctx_init)
    tokens_before = clip.tokenizer.encode(before)
    tokens = tokens_before + clip.tokenizer.encode(behind)
    if not tokens:
        raise UserError(
            f"Expected some words in `ctx_init`, got {ctx_init!r}; for random vectors use context=random, or "
            "learner.ctx_init=null in training (in Python, ctx_init=None)."
        )
    n_before = len(tokens_before) if marked else vectors_before(len(tokens), class_token_position)
    embedding = clip.text.token_embedding
    vectors = embedding(torch.tensor(tokens, device=clip.device)).detach().clone()
    return Context(vectors, n_before, f"words: {before}{marked}{behind}", note=_note_on(ctx_init))


def words_around(ctx_init: str) -> tuple[str, str, str]:
    """The words before the mark of the class name, the mark itself, and those behind; the last two "" without one.

    Raises:
        UserError: it is marked twice.
    """
    words = ctx_init.replace("_", " ").replace("{}", CLASS_TOKEN).strip().removesuffix(".")
    if words.count(CLASS_TOKEN) > 1:
        raise UserError(f"Expected {CLASS_TOKEN} at most once in `ctx_init`, got {ctx_init!r}.")
    return words.partition(CLASS_TOKEN)


def _note_on(ctx_init: str) -> str:
    """A warning of what looks like the mark of the class name and is none."""
    alike = [mark for mark in _ALIKE.findall(ctx_init) if mark != CLASS_TOKEN]
    return f"{alike[0]} in ctx_init was read as words; the place of the class name is {CLASS_TOKEN}" if alike else ""


def random_context(
    clip: CLIP, n_ctx: int, class_token_position: str = "end", seed: int = 0, num_classes: int | None = None
) -> Context:
    """Vectors from a normal distribution of standard deviation 0.02 (Zhou et al., IJCV 2022, section 4.1).

    Args:
        clip: gives the width of a vector.
        n_ctx: how many, at least 1.
        class_token_position: "end", "middle" or "front".
        seed: of the draw, which does not touch the global generators.
        num_classes: draws a class-specific context for this many classes.
    """
    if n_ctx < 1:
        raise UserError(f"Expected `n_ctx` of at least 1, got {n_ctx}; 4 and 16 are usual.")
    generator = torch.Generator().manual_seed(seed)
    shape = (n_ctx, clip.width) if num_classes is None else (num_classes, n_ctx, clip.width)
    vectors = torch.empty(shape).normal_(std=0.02, generator=generator).to(clip.device)
    return Context(vectors, vectors_before(n_ctx, class_token_position), f"random, seed {seed}")
