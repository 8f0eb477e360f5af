"""The mean prediction of the confident views, nothing tuned: the baseline of every method that makes views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from tpt.checks import whole_number
from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.methods.base import Adaptation, Method, check_share, gather_views, select_views
from tpt.methods.functional import marginal_entropy, num_selected


class ViewEnsemble(Method):
    """Averages the untouched prompt's predictions over the confident views.

    TPT's own selection (Shu et al., NeurIPS 2022, section 3.2) without its step.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        selection_p: share of the views kept, in (0, 1].
        min_selected: least number of views kept; 0 is TPT's plain cut, an error if it keeps none.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`.
    """

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        selection_p: float = 0.1,
        min_selected: int = 0,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(clip, class_names, **text)
        self.selection_p = check_share("selection_p", selection_p)
        self.min_selected = whole_number("min_selected", min_selected, way_out="0 is off")

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if none of `num_views` would be kept, or there are fewer than `min_selected`."""
        num_selected(num_views, self.selection_p, self.min_selected)

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """The logarithm of the mean probabilities."""
        logits_BVK = self.view_logits(features_BVE, **needed)
        selected, _ = select_views(features_BVE, logits_BVK, self.selection_p, self.min_selected)
        trusted_BSK = gather_views(logits_BVK, selected)
        mean = trusted_BSK.log_softmax(-1).logsumexp(1) - math.log(trusted_BSK.shape[1])
        entropy = marginal_entropy(trusted_BSK)
        return Adaptation(mean, logits_BVK[:, 0], selected, entropy, entropy)
