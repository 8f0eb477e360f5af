"""One step of OnZeta's class vectors and of PTA's prototypes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def balanced(probabilities_K: Tensor, rho_K: Tensor, step: float, share: float) -> tuple[Tensor, Tensor]:
    """Zero-shot probabilities, raised for classes that were predicted too rarely; Qian and Hu, ECCV 2024.

    Args:
        probabilities_K: of one image.
        rho_K: at least 0, how much each class is raised.
        step: of the dual update.
        share: of the images that each class should get at least, such as 1 / K.

    Returns:
        (K,) the balanced probabilities, and the next `rho_K`.
    """
    balanced_K = probabilities_K * rho_K.exp()
    balanced_K = balanced_K / balanced_K.sum()
    return balanced_K, (rho_K - step * (balanced_K - share)).clamp(min=0)


def pulled(vectors_KE: Tensor, feature_E: Tensor, error_K: Tensor, step: float) -> Tensor:
    """(K, E) class vectors after a gradient step on the cross-entropy, at unit length; Qian and Hu.

    Args:
        vectors_KE: of unit length.
        feature_E: of the image.
        error_K: prediction less target.
        step: learning rate over temperature.
    """
    return F.normalize(vectors_KE - step * error_K[:, None] * feature_E, dim=-1)


def prototypes(prototypes_KE: Tensor, feature_E: Tensor, probabilities_K: Tensor, temperature: float) -> Tensor:
    """(K, E) running means of the features, each class's by its probability; Huang et al., ICML 2026.

    Args:
        prototypes_KE: of the images before; 0 at first.
        feature_E: of the image.
        probabilities_K: of the image; classes below 0.1 stay as they are.
        temperature: above 0; an image's weight is `1 - exp(-p / temperature)`.
    """
    weights_K = -(-probabilities_K / temperature).expm1() * (probabilities_K >= LEAST)
    return prototypes_KE + weights_K[:, None] * (feature_E - prototypes_KE)


LEAST = 0.1  # probability of a class that an image may move
