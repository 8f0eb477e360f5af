"""The backbone that a context was learned with: with another one its vectors are meaningless, even if widths match."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tpt.clip.model import CLIP
from tpt.errors import UserError

_HALF_PRECISION = 2.0**-10  # relative rounding error of published files


@dataclass(frozen=True)
class Origin:
    """A file's information about the backbone that its context was learned with.

    Args:
        backbone: name of the backbone; empty if unknown.
        weights: digest of its weights, which takes precedence; empty if unknown.
        start: (D,) its embedding of the start token, as in CoOp's own files (`token_prefix`); None if unknown.
    """

    backbone: str = ""
    weights: str = ""
    start: Tensor | None = None

    @classmethod
    def of(cls, clip: CLIP) -> Origin:
        """The origin of a context that was learned with `clip`."""
        return cls(clip.name, clip.weights_digest)

    def check(self, clip: CLIP, source: str) -> None:
        """Raises a UserError if `clip` is another backbone.

        Args:
            clip: the backbone that the context is to be used with.
            source: source of the context, for the message.
        """
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
