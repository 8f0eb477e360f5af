"""R-TPT: lowers each view's own entropy and weights views by their reliability; Sheng et al., CVPR 2025."""

from typing import ClassVar

import torch
from torch import Tensor

from tpt.errors import UserError
from tpt.methods.base import ShownViews
from tpt.methods.functional import entropy, marginal_entropy
from tpt.methods.tpt import TPT


class RTPT(TPT):
    """Tunes the context to lower the entropy of each confident view, and predicts with all views, weighted.

    Sections 3.2 and 3.3 of the paper.  A view's weight grows with its mean cosine to its 20 nearest other views, so
    outliers, as under an adversarial attack, have little weight.  The method needs at least 21 views.
    """

    NEIGHBOURS: ClassVar[int] = 20
    TEMPERATURE: ClassVar[float] = 0.01

    def objective(self, logits_BSK: Tensor, text_BKE: Tensor, *per_image: Tensor) -> Tensor:
        """(B,) the mean of the selected views' own entropies, which does not reward agreement between views."""
        return entropy(logits_BSK).mean(-1)

    def check_views(self, num_views: int) -> None:
        """Raises a UserError for fewer than 21 views, or if no view would be selected."""
        if num_views <= self.NEIGHBOURS:
            raise UserError(
                f"Expected at least {self.NEIGHBOURS + 1} views for R-TPT, which weights a view by its "
                f"{self.NEIGHBOURS} nearest neighbours, got num_views={num_views}; use more, or method=tpt."
            )
        super().check_views(num_views)

    def tuned(self, slots: Tensor, features_BVE: Tensor, trusted_BSE: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) weighted sum of all views' logits and (B,) marginal entropy of the selected ones."""
        scale = self.clip.logit_scale
        logits_BVK, trusted_BSK = self.tuner.products(slots, scale * features_BVE, scale * trusted_BSE)
        return self.predict(features_BVE, logits_BVK), marginal_entropy(trusted_BSK)

    def predict(self, features_BVE: Tensor, logits_BVK: Tensor) -> Tensor:
        """(B, K) weighted sum of the logits of all views."""
        return (self.weights(features_BVE)[:, None] @ logits_BVK)[:, 0]

    def weights(self, features_BVE: Tensor) -> Tensor:
        """(B, V) weights that sum to 1, from the features only."""
        cosines = features_BVE @ features_BVE.mT
        own = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
        nearest = cosines.masked_fill(own, -torch.inf).topk(self.NEIGHBOURS, dim=-1).values
        return (nearest.mean(-1) / self.TEMPERATURE).softmax(-1)

    def view_order(self, features_BVE: Tensor, **needed: Tensor) -> ShownViews:
        """Orders the views by weight."""
        weights = self.weights(features_BVE)
        return ShownViews(weights.argsort(dim=-1, descending=True, stable=True), 100 * weights, "weight (%)")
