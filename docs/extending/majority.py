"""The vote of ZERO (Farina et al., NeurIPS 2024), without its rule for ties."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import tpt
from tpt.methods.base import ViewShare, gather_views
from tpt.methods.functional import entropy, log_probabilities, marginal_entropy, num_selected, select_confident


class Majority(tpt.Method):
    """Each of the most confident views votes for one class.

    Args:
        share: share of the views that vote, in (0, 1].
    """

    share: ViewShare = 0.3

    def check_views(self, num_views: int) -> None:
        """Raises an error, before any image is encoded, if no view would vote."""
        num_selected(num_views, self.share, name="share")

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> tpt.Adaptation:
        """Returns the share of votes per class."""
        logits_BVK = self.view_logits(features_BVE, **needed)  # with the initial prompt
        selected_BS = select_confident(logits_BVK, self.share)
        logits_BSK = gather_views(logits_BVK, selected_BS)
        votes_BK = one_hot(logits_BSK.argmax(-1), logits_BVK.shape[-1]).float().mean(1)
        logits = log_probabilities(votes_BK)  # finite also for classes without votes
        entropies = entropy(logits), marginal_entropy(logits_BSK)
        return tpt.Adaptation(logits, logits_BVK[:, 0], selected_BS, *entropies)
