"""Prompt-tuning methods that keep the text features apart, to improve calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from annotated_types import Gt, Le

from tpt.clip.model import CLIP
from tpt.errors import NotNegative
from tpt.methods.functional.objectives import dispersion, nearest_angle, row_norm_excess
from tpt.methods.tpt import TPT
from tpt.methods.tuner import Penalty


class CTPT(TPT):
    """C-TPT: TPT's loss minus a weight times the dispersion of the text features (Yoon et al., ICLR 2024).

    Args:
        clip: the frozen backbone.
        class_names: K names.
        penalty_weight: at least 0; the paper's 50 for fine-grained datasets and ImageNet, 20 for natural shifts.
        settings: of `TPT`.
    """

    paper: ClassVar = {"": {"penalty_weight": 50.0}, "natural_shift": {"penalty_weight": 20.0}}

    def __init__(
        self, clip: CLIP, class_names: Sequence[str], penalty_weight: NotNegative = 50.0, **settings: Any
    ) -> None:
        self.penalty_weight = penalty_weight
        super().__init__(clip, class_names, **settings)

    def penalty(self) -> Penalty:
        """-weight · mean distance of the text features from their mean."""
        return lambda text_KE: -self.penalty_weight * dispersion(text_KE)


class OTPT(TPT):
    """O-TPT: TPT's loss plus a penalty on text features that are not orthogonal (Sharifdeen et al., CVPR 2025).

    Args:
        clip: the frozen backbone.
        class_names: K names.
        penalty_weight: at least 0; the paper's 18 for fine-grained datasets and ImageNet, 2 for natural shifts.
        settings: of `TPT`.
    """

    paper: ClassVar = {"": {"penalty_weight": 18.0}, "natural_shift": {"penalty_weight": 2.0}}

    def __init__(
        self, clip: CLIP, class_names: Sequence[str], penalty_weight: NotNegative = 18.0, **settings: Any
    ) -> None:
        self.penalty_weight = penalty_weight
        super().__init__(clip, class_names, **settings)

    def penalty(self) -> Penalty:
        """weight · (mean row norm of T Tᵀ - 1)."""
        return lambda text_KE: self.penalty_weight * row_norm_excess(text_KE)


class ATPT(TPT):
    """A-TPT: TPT's loss minus a weight times the mean angle between each class and its nearest class (ICLR 2026).

    Args:
        clip: the frozen backbone.
        class_names: K names.
        penalty_weight: at least 0; the published scripts' 80 for fine-grained datasets, 10 for natural shifts.
        tau: limit of the cosines, which are clamped to [-tau, tau]; in (0, 1), the paper's 0.99999.
        settings: of `TPT`.
    """

    paper: ClassVar = {"": {"penalty_weight": 80.0, "tau": 0.99999}, "natural_shift": {"penalty_weight": 10.0}}

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        penalty_weight: NotNegative = 80.0,
        tau: Annotated[float, Gt(0), Le(1 - 1e-7), "the slope of the arc cosine is infinite at 1"] = 0.99999,
        **settings: Any,
    ) -> None:
        self.penalty_weight = penalty_weight
        self.tau = tau
        super().__init__(clip, class_names, **settings)

    def penalty(self) -> Penalty:
        """-weight · mean angle to the nearest class, in radians."""
        return lambda text_KE: -self.penalty_weight * nearest_angle(text_KE, self.tau)
