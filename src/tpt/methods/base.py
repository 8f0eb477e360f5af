"""What every method takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from tpt.backbones.clip import CLIP
from tpt.errors import UserError
from tpt.functional import select_confident


@dataclass(frozen=True)
class Adaptation:
    """What became of B images; without the leading B where a method was given one image's (V, E) features.

    Args:
        logits: (B, K) prediction for view 0 after adaptation, cosines times the logit scale.
        initial_logits: (B, K) the same before adaptation: the zero-shot answer of this prompt.
        selected: (B, S) indices of the views that were trusted, most confident first.
        entropy: (B,) marginal entropy of the selected views after adaptation, in nats.
        initial_entropy: (B,) the same before.
        context: (B, n_ctx, D) or (B, K, n_ctx, D) the context after adaptation; None for methods without one.
    """

    logits: Tensor
    initial_logits: Tensor
    selected: Tensor
    entropy: Tensor
    initial_entropy: Tensor
    context: Tensor | None = None

    def cpu(self) -> Adaptation:
        """On the CPU, without the contexts, which only grow with the batch and are of no use to a record."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "context"}
        return replace(self, context=None, **{name: value.cpu() for name, value in values.items()})

    def squeeze(self) -> Adaptation:
        """Without the leading dimension, of size 1."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v[0] for name, v in values.items() if v is not None})


class Method(nn.Module, ABC):
    """Adapts to each image alone, from its view features; nothing of one image reaches another.

    Args:
        clip: the frozen backbone.
        class_names: K names.
    """

    needs_norm: bool = False  # whether `adapt` also takes `image_norm_B`, the lengths of view 0's features
    notes: tuple[str, ...] = ()  # what a results file must say about the method beyond its settings

    def __init__(self, clip: CLIP, class_names: list[str]) -> None:
        super().__init__()
        self.clip = clip
        self.class_names = class_names

    @abstractmethod
    def adapt(self, features_BVE: Tensor) -> Adaptation:
        """Adapts to every image of a checked batch."""

    def check_views(self, num_views: int) -> None:
        """Raises a UserError where the method cannot work with `num_views` views."""

    def take_less_memory(self) -> str | None:
        """Halves the work that is done at once, and says what it is now; None where it cannot be less."""
        return None

    def forward(self, features: Tensor, image_norm: Tensor | None = None) -> Adaptation:
        """Adapts to one image (V, E) or to each of many (B, V, E); features have unit length, view 0 is the image.

        Args:
            features: of the views.
            image_norm: () or (B,), the length of view 0's feature before it was scaled to 1; only methods with
                `needs_norm` look at it.

        Raises:
            UserError: another shape, features that are not finite (the message names the rows), or no `image_norm`
                where it is needed.
        """
        if features.ndim not in (2, 3) or features.shape[-1] != self.embed_dim or features.shape[-2] < 1:
            raise UserError(
                f"Expected view features of shape (V, {self.embed_dim}) or (B, V, {self.embed_dim}), "
                f"got {tuple(features.shape)}; `clip.encode_views` makes them."
            )
        features_BVE = features if features.ndim == 3 else features[None]
        bad = (~features_BVE.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise UserError(
                f"Expected finite view features, got NaN or infinity for image {', '.join(map(str, bad))} of the "
                "batch; look at the image, or use precision=fp32."
            )
        self.check_views(features_BVE.shape[1])
        if self.needs_norm:
            norm_B = self._check_norm(image_norm, len(features_BVE))
            out = self.adapt(features_BVE.float(), image_norm_B=norm_B)  # type: ignore[call-arg]
        else:
            out = self.adapt(features_BVE.float())
        return out if features.ndim == 3 else out.squeeze()

    @staticmethod
    def _check_norm(image_norm: Tensor | None, num_images: int) -> Tensor:
        if image_norm is None:
            raise UserError(
                "Expected `image_norm`, the length of view 0's feature, got none; "
                "`clip.encode_views(views, return_norm=True)` gives it, or use meta_input=unit."
            )
        if image_norm.numel() != num_images:
            raise UserError(f"Expected `image_norm` of {num_images} images, got shape {tuple(image_norm.shape)}.")
        return image_norm.reshape(num_images).float()

    @property
    def embed_dim(self) -> int:
        """Length E of a feature."""
        return self.clip.embed_dim


def select_views(
    features_BVE: Tensor, logits_BVK: Tensor, selection_p: float, min_selected: int = 0
) -> tuple[Tensor, Tensor]:
    """The most confident views: their indices (B, S) and features (B, S, E)."""
    selected = select_confident(logits_BVK, selection_p, min_selected)
    rows = selected[..., None].expand(-1, -1, features_BVE.shape[-1])
    return selected, torch.gather(features_BVE, 1, rows)
