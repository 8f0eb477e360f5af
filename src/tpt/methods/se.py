"""SE: mixes the predictions of the image and of its confident views; the training-free half of USE (ICML 2026)."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from tpt.errors import UserError
from tpt.methods.base import Adaptation, Method, gather_views
from tpt.methods.functional import entropy, log_probabilities, marginal_entropy
from tpt.methods.functional.mixture import confident_augmented, mixed, more_uncertain

CONFIDENT = 6  # augmented views in the mixture, for any number of views


class SE(Method):
    """Mixes the image's own prediction with the mean over its six most confident augmented views; nothing is tuned.

    The weight of the image's own prediction grows with the share of augmented views that are less certain than the
    image.  `selected` holds view 0, then the six views.

    Args:
        scale: the weight of the image's own prediction differs from 1/2 by at most `scale / 4`; in [0, 2]; the paper's
            0.4.
    """

    paper: ClassVar = {"": {"scale": 0.4}}
    scale: Annotated[float, Ge(0), Le(2)] = 0.4

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if there is no augmented view."""
        refuse_no_augmented(num_views)

    @torch.no_grad()
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Returns the logarithm of the mixture as logits."""
        logits_BVK = self.view_logits(features_BVE, **needed)
        confident = confident_augmented(logits_BVK, CONFIDENT)
        off_B = more_uncertain(logits_BVK) - 0.5
        weight_B = 0.5 + self.scale * off_B.sign() * off_B.square()
        mixture = mixed(logits_BVK[:, 0], gather_views(logits_BVK, confident), weight_B)
        logits, selected = log_probabilities(mixture), with_image(confident)
        initial = marginal_entropy(gather_views(logits_BVK, selected))
        return Adaptation(logits, logits_BVK[:, 0], selected, entropy(logits), initial)


def with_image(confident_BS: Tensor) -> Tensor:
    """View 0's index, followed by the indices of augmented views."""
    return torch.cat([torch.zeros_like(confident_BS[:, :1]), confident_BS], dim=1)


def refuse_no_augmented(num_views: int) -> None:
    """Raises a UserError if the image is the only view."""
    if num_views < 2:
        raise UserError(f"Expected `num_views` of at least 2, got {num_views}; use 64, for example.")
