"""The context: the vectors of a prompt before and after the class name, and the backbone that they belong to.

With another backbone the vectors are meaningless, even if widths match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tpt.clip.model import CLIP, LoadedCLIP, tensors_digest
from tpt.errors import ContextFileError, Count, Seed, UserError, checked

CLASS_TOKEN = "[CLS]"
# Marks of the class name in other programs.  As in the official code, they are read as words, with a note.
_ALIKE = re.compile(r"[\[{<(] *(?:cls|class(?:[ _]?name)?|classname|name|label|object|category|c) *[\]}>)]|%s", re.I)
Position = Literal["end", "middle", "front"]
_HALF_PRECISION = 2.0**-10  # relative rounding error of published files


@dataclass(frozen=True)
class Origin:
    """A file's information about the backbone that its context was learned with; empty or None if unknown."""

    backbone: str = ""  # its name
    weights: str = ""  # digest of its weights, which takes precedence
    start: Tensor | None = None  # (D,) its embedding of the start token, as in CoOp's own files

    @classmethod
    def of(cls, backbone: CLIP | str) -> Origin:
        """The origin of a context that was learned with a CLIP, or with one of this name."""
        return cls(backbone.name, backbone.weights_digest) if isinstance(backbone, CLIP) else cls(backbone)

    @classmethod
    def in_file(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Origin | None:
        """The origin that a file of a context identifies; None without one."""
        prefix = tensors.get("token_prefix", torch.empty(0))  # (..., 1, D)
        start = prefix.flatten(0, -2)[0].float() if prefix.ndim > 1 and len(prefix) else None
        found = cls(metadata.get("backbone", ""), metadata.get("backbone_weights", ""), start)
        return None if found == cls() else found

    def check(self, clip: CLIP, source: str) -> None:
        """Raises a UserError if `clip` is another backbone; `source` says in the message where the context is from."""
        self.check_name(clip.name, source)
        if self.weights and self.weights != clip.weights_digest:
            raise self._another(clip.name, source)
        if self.start is not None:
            theirs = self.start.float().cpu()[None]
            ours = clip.text.token_embedding.weight[list(clip.tokenizer.start[:1])].detach().float().cpu()
            close = ours.shape == theirs.shape and (ours - theirs).abs().max() <= _HALF_PRECISION * ours.abs().max()
            if not close:  # also catches NaN
                raise self._another(clip.name, source, "another backbone, by the start token in its file")

    def check_name(self, name: str, source: str) -> None:
        """As `check`, but only by name, before the weights of `name` are loaded."""
        if not self.weights and self.backbone and self.backbone != name:
            raise self._another(name, source)

    def _another(self, name: str, source: str, learned: str = "") -> UserError:
        learned = learned or self.backbone or "a backbone of other weights"
        if learned == name:
            learned += " of other weights"
        return UserError(
            f"The context was learned with {learned}, not with {name} ({source}). Use its backbone, or skip this "
            f"check with context.backbone=any (in Python, load_context(..., backbone='any'))."
        )


@dataclass(frozen=True)
class Context:
    """Vectors before and after the class name.

    Args:
        vectors: (n_ctx, D), or (K, n_ctx, D) if each class has its own (class-specific context).
        n_before: number of vectors before the class name; the others come after it.
        source: where the vectors come from, for logs and results.
        class_names: for a class-specific context, the K classes that it was learned for; None if unknown.
        origin: the backbone that the context was learned with; None if unknown, which accepts any of the same width.
        note: what results must state about the context; "" if nothing.
    """

    vectors: Tensor
    n_before: int
    source: str
    class_names: tuple[str, ...] | None = None
    origin: Origin | None = field(default=None, repr=False, compare=False)
    note: str = field(default="", repr=False, compare=False)

    @property
    def base(self) -> Context:
        """The vectors that all images share: the context itself, see `ConditionalContext`."""
        return self

    @property
    def n_ctx(self) -> int:
        """Number of context vectors."""
        return int(self.vectors.shape[-2])

    @property
    def class_specific(self) -> bool:
        """Whether each class has its own vectors."""
        return self.vectors.ndim == 3

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that depend on every bit of the vectors and on their position."""
        return tensors_digest({"vectors": self.vectors}, f"{self.n_before} {self.class_names}")

    def check(self, clip: CLIP) -> None:
        """Raises a UserError if the context does not fit the backbone."""
        self.check_width(clip.width, clip.name)
        if self.origin is not None:
            self.origin.check(clip, self.source)

    def check_width(self, width: int, name: str) -> None:
        """Raises a UserError if the vectors do not fit a backbone, by its token width and name."""
        if self.vectors.shape[-1] != width:
            raise ContextFileError(
                f"Expected context vectors of width {width} for {name}, got {self.vectors.shape[-1]} ({self.source}); "
                "use the backbone the context was learned with."
            )


def vectors_before(n_ctx: Count, class_token_position: Position) -> int:
    """Number of vectors before the class name."""
    return {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[class_token_position]


@checked
def context_from_words(clip: LoadedCLIP, ctx_init: str, class_token_position: Position = "end") -> Context:
    """A context from the token embeddings of words.

    Each token gives one vector, so a word of several tokens gives several.  The official code counts words and takes
    wrong vectors if a word has several tokens.  For words of one token each, as in all prompts of the paper, the two
    agree.

    Args:
        clip: the CLIP whose vocabulary and embedding are used.
        ctx_init: words such as "a photo of a"; underscores are read as spaces.  `[CLS]`, or `{}` as in a template,
            marks the position of the class name and overrides `class_token_position`.  A full stop at the end is
            dropped, since every prompt gets one.
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
    encode = clip.tokenizer.encode
    tokens_before = encode(before, inside=not marked and class_token_position == "front")
    tokens = tokens_before + encode(behind, inside=True)
    if not tokens:
        raise UserError(
            f"Expected some words in `ctx_init`, got {ctx_init!r}; for random vectors use context=random, or "
            "learner.ctx_init=null in training (in Python, ctx_init=None)."
        )
    n_before = len(tokens_before) if marked else vectors_before(len(tokens), class_token_position)
    embedding = clip.text.token_embedding
    vectors = embedding(torch.tensor(tokens, device=clip.device)).detach().clone()
    note = ""
    if alike := [mark for mark in _ALIKE.findall(ctx_init) if mark != CLASS_TOKEN]:
        note = f"{alike[0]} in ctx_init was read as words; {CLASS_TOKEN} marks the position of the class name"
    return Context(vectors, n_before, f"words: {before}{marked}{behind}", note=note)


def words_around(ctx_init: str) -> tuple[str, str, str]:
    """The words before the mark of the class name, the mark, and the words after it; the last two are "" without one.

    Raises a UserError if there are several marks.
    """
    words = ctx_init.replace("_", " ").replace("{}", CLASS_TOKEN).strip().removesuffix(".")
    if words.count(CLASS_TOKEN) > 1:
        raise UserError(f"Expected {CLASS_TOKEN} at most once in `ctx_init`, got {ctx_init!r}.")
    return words.partition(CLASS_TOKEN)


@checked
def random_context(
    clip: LoadedCLIP,
    n_ctx: Count,
    class_token_position: Position = "end",
    seed: Seed = 0,
    num_classes: Count | None = None,
) -> Context:
    """A random context, from a normal distribution with standard deviation 0.02 (Zhou et al., IJCV 2022, section 4.1).

    Args:
        clip: the backbone, which determines the width of a vector.
        n_ctx: number of vectors, at least 1.
        class_token_position: "end", "middle" or "front".
        seed: seed of the random numbers; the global generators are not changed.
        num_classes: number of classes of a class-specific context; None for a generic one.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (n_ctx, clip.width) if num_classes is None else (num_classes, n_ctx, clip.width)
    vectors = torch.empty(shape).normal_(std=0.02, generator=generator).to(clip.device)
    return Context(vectors, vectors_before(n_ctx, class_token_position), f"random, seed {seed}")
