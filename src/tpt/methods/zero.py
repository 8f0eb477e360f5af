"""ZERO: the confident views vote; Farina et al., NeurIPS 2024."""

from typing import ClassVar

import torch
from torch import Tensor

from tpt.methods.base import Adaptation, Method, ViewShare, gather_views
from tpt.methods.functional import entropy, log_probabilities, marginal_entropy, num_selected
from tpt.methods.functional.voting import break_ties, votes_of


class ZERO(Method):
    """Each of the most confident views votes for one class; the other views break ties; nothing is tuned.

    Section 3.3 and algorithm 1 of the paper.  The softmax of `logits` is each class's share of the votes, including the
    vote that breaks a tie.  The paper defines no probability, so a calibration error computed from this share has no
    counterpart in it.

    Args:
        gamma: share of the views that vote, in (0, 1]; the paper's 0.3.
    """

    paper: ClassVar = {"": {"gamma": 0.3}}
    gamma: ViewShare = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.notes = (*self.notes, "the confidence of ZERO is the share of the votes, which its paper does not define")

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if no view would vote."""
        num_selected(num_views, self.gamma, name="gamma")

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Returns the logarithm of the shares of votes as logits."""
        cosines_BVK = features_BVE @ self.bank(features_BVE[:, 0], **needed).mT
        logits_BVK = self.clip.logit_scale * cosines_BVK
        order_BV = entropy(logits_BVK).argsort(dim=-1, stable=True)
        voted = num_selected(features_BVE.shape[1], self.gamma, name="gamma")
        selected = order_BV[:, :voted]
        votes_BK = break_ties(votes_of(gather_views(cosines_BVK, selected)), cosines_BVK, order_BV, voted)
        logits = log_probabilities(votes_BK / votes_BK.sum(-1, keepdim=True))
        initial = marginal_entropy(gather_views(logits_BVK, selected))
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy(logits), initial)
