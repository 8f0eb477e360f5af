"""Single update steps of OnZeta's class vectors and PTA's prototypes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def balanced(probabilities_K: Tensor, rho_K: Tensor, step: float, share: float) -> tuple[Tensor, Tensor]:
    """Raises the zero-shot probabilities of classes that were predicted too rarely; Qian and Hu, ECCV 2024.

    Args:
        probabilities_K: zero-shot probabilities of one image.
        rho_K: dual variables, at least 0; the larger, the more a class is raised.
        step: learning rate of the dual variables.
        share: least share of the images for each class, such as 1 / K.

    Returns:
        (K,) balanced probabilities and the next `rho_K`.
    """
    balanced_K = probabilities_K * rho_K.exp()
    balanced_K = balanced_K / balanced_K.sum()
    return balanced_K, (rho_K - step * (balanced_K - share)).clamp(min=0)


def pulled(vectors_KE: Tensor, feature_E: Tensor, error_K: Tensor, step: float) -> Tensor:
    """(K, E) class vectors after a gradient step on the cross-entropy, scaled to unit length; Qian and Hu, ECCV 2024.

    Args:
        vectors_KE: class vectors of unit length.
        feature_E: feature of the image.
        error_K: prediction minus target.
        step: learning rate divided by temperature.
    """
    return F.normalize(vectors_KE - step * error_K[:, None] * feature_E, dim=-1)


def prototypes(prototypes_KE: Tensor, feature_E: Tensor, probabilities_K: Tensor, temperature: float) -> Tensor:
    """(K, E) running means of the features, weighted by class probability; Huang et al., ICML 2026.

    Args:
        prototypes_KE: prototypes before the image, initially 0.
        feature_E: feature of the image.
        probabilities_K: prediction for the image; the prototypes of classes below 0.1 do not change.
        temperature: above 0; a class of probability p moves by the share `1 - exp(-p / temperature)`.
    """
    weights_K = -(-probabilities_K / temperature).expm1() * (probabilities_K >= LEAST)
    return prototypes_KE + weights_K[:, None] * (feature_E - prototypes_KE)


LEAST = 0.1  # an image moves the prototypes of classes with at least this probability
