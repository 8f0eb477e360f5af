"""The backbone that a context was learned with: with another one its vectors are meaningless, even if widths match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.errors import UserError

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
