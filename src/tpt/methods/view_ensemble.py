"""The mean prediction of the confident views without tuning: the baseline for all methods that use views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.errors import Natural
from tpt.methods.base import Adaptation, Method, ViewShare, gather_views, select_views
from tpt.methods.functional import marginal_entropy, num_selected


class ViewEnsemble(Method):
    """Averages the predictions of the confident views, with an unchanged prompt.

    This is TPT's view selection (Shu et al., NeurIPS 2022, section 3.2) without tuning.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        selection_p: share of the views kept, in (0, 1].
        min_selected: least number of views kept; with 0, as in TPT, a share that keeps none is an error.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`.
    """

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        selection_p: ViewShare = 0.1,
        min_selected: Natural = 0,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(clip, class_names, **text)
        self.selection_p = selection_p
        self.min_selected = min_selected

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if no view would be selected, or if there are fewer views than `min_selected`."""
        num_selected(num_views, self.selection_p, self.min_selected)

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Returns the logarithm of the mean probabilities as logits."""
        logits_BVK = self.view_logits(features_BVE, **needed)
        selected, _ = select_views(features_BVE, logits_BVK, self.selection_p, self.min_selected)
        trusted_BSK = gather_views(logits_BVK, selected)
        mean = trusted_BSK.log_softmax(-1).logsumexp(1) - math.log(trusted_BSK.shape[1])
        entropy = marginal_entropy(trusted_BSK)
        return Adaptation(mean, logits_BVK[:, 0], selected, entropy, entropy)
