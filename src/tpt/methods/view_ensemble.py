"""The mean prediction of the confident views without tuning: the baseline for all methods that use views."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tpt.methods.base import Adaptation, SelectingMethod, gather_views
from tpt.methods.functional import marginal_entropy


class ViewEnsemble(SelectingMethod):
    """Averages the predictions of the confident views, with an unchanged prompt.

    This is TPT's view selection (Shu et al., NeurIPS 2022, section 3.2) without tuning.
    """

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Returns the logarithm of the mean probabilities as logits."""
        logits_BVK = self.view_logits(features_BVE, **needed)
        selected = self.select(logits_BVK)
        trusted_BSK = gather_views(logits_BVK, selected)
        mean = trusted_BSK.log_softmax(-1).logsumexp(1) - math.log(trusted_BSK.shape[1])
        entropy = marginal_entropy(trusted_BSK)
        return Adaptation(mean, logits_BVK[:, 0], selected, entropy, entropy)
