"""Prompt-tuning methods that keep the text features apart, to improve calibration."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le
from torch import Tensor

from tpt.errors import NotNegative
from tpt.methods.tpt import TPT
from tpt.methods.tuner import Penalty


class CTPT(TPT):
    """C-TPT: TPT's loss minus a weight times the dispersion of the text features (Yoon et al., ICLR 2024).

    Args:
        penalty_weight: at least 0; the paper's 50 for fine-grained datasets and ImageNet, 20 for natural shifts.
    """

    paper: ClassVar = {"": {"penalty_weight": 50.0}, "natural_shift": {"penalty_weight": 20.0}}
    penalty_weight: NotNegative = 50.0

    def penalty(self) -> Penalty:
        """-weight · mean distance of the text features from their mean, which has no unit length (section 4)."""

        def added(text_KE: Tensor) -> Tensor:
            distances_K: Tensor = (text_KE - text_KE.mean(-2, keepdim=True)).norm(dim=-1)
            return -self.penalty_weight * distances_K.mean(-1)

        return added


class OTPT(TPT):
    """O-TPT: TPT's loss plus a penalty on text features that are not orthogonal (Sharifdeen et al., CVPR 2025).

    Args:
        penalty_weight: at least 0; the paper's 18 for fine-grained datasets and ImageNet, 2 for natural shifts.
    """

    paper: ClassVar = {"": {"penalty_weight": 18.0}, "natural_shift": {"penalty_weight": 2.0}}
    penalty_weight: NotNegative = 18.0

    def penalty(self) -> Penalty:
        """weight · (mean row norm of T Tᵀ - 1), which is 0 if the features are orthogonal.

        The official code reflects each row onto its axis by a Householder matrix and takes the distance from the unit
        vector of that axis, which equals the row's norm minus 1 (docs/differences.md).  This form needs K x K numbers
        instead of K x K x K.
        """
        return lambda text_KE: self.penalty_weight * ((text_KE @ text_KE.mT).norm(dim=-1).mean(-1) - 1)


class ATPT(TPT):
    """A-TPT: TPT's loss minus a weight times the mean angle between each class and its nearest class (ICLR 2026).

    Args:
        penalty_weight: at least 0; the published scripts' 80 for fine-grained datasets, 10 for natural shifts.
        tau: limit of the cosines, which are clamped to [-tau, tau]; in (0, 1), the paper's 0.99999.
    """

    paper: ClassVar = {"": {"penalty_weight": 80.0, "tau": 0.99999}, "natural_shift": {"penalty_weight": 10.0}}
    penalty_weight: NotNegative = 80.0
    tau: Annotated[float, Gt(0), Le(1 - 1e-7), "the slope of the arc cosine is infinite at 1"] = 0.99999

    def penalty(self) -> Penalty:
        """-weight · mean angle to the nearest other class, in radians."""

        def added(text_KE: Tensor) -> Tensor:
            unit = F.normalize(text_KE, dim=-1)
            cosines = unit @ unit.mT
            own = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
            nearest = cosines.masked_fill(own, -1.0).max(-1).values  # among equal cosines, only one gets the gradient
            return -self.penalty_weight * nearest.clamp(-self.tau, self.tau).acos().mean(-1)

        return added
