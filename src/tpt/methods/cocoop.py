"""CoCoOp: prompts that depend on the image; Zhou et al., CVPR 2022."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from tpt.backbones.clip import CLIP
from tpt.functional import entropy
from tpt.methods.base import Adaptation, Method
from tpt.prompts.conditional import ConditionalContext, conditional_logits
from tpt.prompts.learner import PromptLearner, check_class_names


class CoCoOp(Method):
    """The plain prediction of a trained CoCoOp for view 0, without tuning.

    TPT from a CoCoOp context is `TPT(..., context=conditional_context)`.

    Args:
        clip: the frozen backbone.
        class_names: K names; they may differ from those of training.
        context: base context and meta-net.
        max_tokens: most prompt tokens in flight; bounds memory, changes no answer.
    """

    def __init__(
        self, clip: CLIP, class_names: Sequence[str], context: ConditionalContext, max_tokens: int = 16384
    ) -> None:
        names = check_class_names(class_names)
        super().__init__(clip, names)
        self.learner = PromptLearner(clip, names, context.base)
        context.check(clip)
        self.meta_net = copy.deepcopy(context.meta_net).float().to(clip.device).requires_grad_(False)
        self.max_tokens = max_tokens

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor) -> Adaptation:
        """The answer for view 0; the other views are not looked at, so `selected` is view 0."""
        image_BE = features_BVE[:, 0]
        logits = conditional_logits(self.learner, self.learner.slots, self.meta_net, image_BE, self.max_tokens)
        selected = torch.zeros(len(logits), 1, dtype=torch.long, device=logits.device)
        uncertainty = entropy(logits)
        context = self.learner.slots + self.meta_net(image_BE)[:, None]
        return Adaptation(logits, logits, selected, uncertainty, uncertainty, context)
