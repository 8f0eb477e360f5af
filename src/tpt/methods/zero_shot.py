"""Zero-shot classification: no adaptation."""

from typing import ClassVar

import torch
from torch import Tensor

from tpt.methods.base import Adaptation, Method
from tpt.methods.functional import entropy


class ZeroShot(Method):
    """CLIP's prediction for the unaugmented image (Radford et al., ICML 2021).

    With a CoCoOp context, this is CoCoOp's prediction (Zhou et al., CVPR 2022); its network receives the feature at
    unit length, as in training.

    Example:
        >>> import tpt
        >>> clip = tpt.load_clip("emoji-mini")
        >>> features = clip.encode_views(torch.zeros(1, 3, 64, 64))  # the plain picture is enough
        >>> tpt.ZeroShot(clip, ["cat", "dog"], ctx_init="a photo of a")(features).logits.shape
        torch.Size([2])
        >>> tpt.ZeroShot(clip, ["cat", "dog"], templates=["a {}.", "a drawing of a {}."])(features).logits.shape
        torch.Size([2])
    """

    selects: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.meta_input = "unit"
        super().__post_init__()

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Classifies view 0 and ignores the others, so `selected` is view 0."""
        image_BE, text = features_BVE[:, 0], self.bank(features_BVE[:, 0], **needed)
        if text.ndim == 2:
            logits = self.clip.logit_scale * image_BE @ text.T
        else:
            logits = self.clip.logit_scale * torch.einsum("be,bke->bk", image_BE, text)
        selected = torch.zeros(len(logits), 1, dtype=torch.long, device=logits.device)
        uncertainty = entropy(logits)
        slots = self.bank.own_slots(image_BE)
        context = None if slots is None or self.bank.learner is None else self.bank.learner.split(slots)[0]
        return Adaptation(logits, logits, selected, uncertainty, uncertainty, context)
