"""TPT with another objective: C-TPT (Yoon et al., ICLR 2024)."""

from typing import Any

from torch import Tensor

import tpt
from tpt.errors import NotNegative


class Dispersed(tpt.TPT):
    """TPT's loss minus a weight times the mean distance of the text features from their mean.

    Args:
        weight: of that distance, at least 0.
    """

    weight: NotNegative = 50.0

    def penalty(self) -> Any:
        """Returns the term of the loss that depends only on the text features (..., K, E)."""

        def added(text_KE: Tensor) -> Tensor:
            distances_K = (text_KE - text_KE.mean(-2, keepdim=True)).norm(dim=-1)
            return -self.weight * distances_K.mean(-1)

        return added
