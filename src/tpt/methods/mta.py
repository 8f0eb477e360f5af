"""MTA: the mode of the views; Zanella and Ben Ayed, CVPR 2024."""

from typing import ClassVar

import torch
from torch import Tensor

from tpt.errors import NotNegative, Positive, UserError
from tpt.methods.base import Adaptation, Method, ShownViews
from tpt.methods.functional import entropy, marginal_entropy
from tpt.methods.functional.mean_shift import densest_feature

LEAST_VIEWS = 5  # with fewer, 30 % of the other views rounds down to none


class MTA(Method):
    """Classifies the mode of the view features, with each view weighted by its inlierness; nothing is tuned.

    All views contribute, so all are `selected`, in descending order of weight.

    Args:
        lambda_q: weight of the affinity between views' predictions, at least 0; the paper's 4.
        lambda_y: weight of the entropy of the inlierness scores, above 0; the paper's 0.2.
    """

    paper: ClassVar = {"": {"lambda_q": 4.0, "lambda_y": 0.2}}
    lambda_q: NotNegative = 4.0
    lambda_y: Positive = 0.2

    def check_views(self, num_views: int) -> None:
        """Raises a UserError for fewer than five views."""
        if num_views < LEAST_VIEWS:
            raise UserError(
                f"Expected at least {LEAST_VIEWS} views for MTA, whose bandwidths come from each view's nearest 30 %, "
                f"got num_views={num_views}; use more, or method=view_ensemble."
            )

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Classifies the mode of each image's views."""
        text = self.bank(features_BVE[:, 0], **needed)
        logits_BVK, mode_BE, weights_BV = self._solved(features_BVE, text)
        logits = (self.clip.logit_scale * mode_BE[:, None] @ text.mT)[:, 0]
        selected = weights_BV.argsort(dim=-1, descending=True, stable=True)
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy(logits), marginal_entropy(logits_BVK))

    def view_order(self, features_BVE: Tensor, **needed: Tensor) -> ShownViews:
        """Orders the views by inlierness."""
        _, _, weights_BV = self._solved(features_BVE, self.bank(features_BVE[:, 0], **needed))
        order = weights_BV.argsort(dim=-1, descending=True, stable=True)
        return ShownViews(order, 100 * weights_BV, "inlierness (%)")

    def _solved(self, features_BVE: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, V, K) logits of the views, their (B, E) mode and (B, V) weights."""
        logits_BVK = self.clip.logit_scale * features_BVE @ text.mT
        probabilities = logits_BVK.softmax(-1)
        affinity_BVV = probabilities @ probabilities.mT
        return logits_BVK, *densest_feature(features_BVE, affinity_BVV, self.lambda_q, self.lambda_y)
