"""Class means and covariances of a stream, and the discriminant made of them; Han et al., NeurIPS 2025."""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES = 4  # whose covariances are updated at once: they stay in the processor's cache until they are averaged


def discriminant(means_KE: Tensor, covariance_EE: Tensor, feature_E: Tensor) -> Tensor:
    """(K,) linear discriminant `x' L m_k - m_k' L m_k / 2` under one covariance, L its inverse; by its Cholesky factor.

    Args:
        means_KE: of the classes.
        covariance_EE: positive definite.
        feature_E: of the image, x.
    """
    factor_EE = torch.linalg.cholesky(covariance_EE)
    right_ER = torch.cat([means_KE, feature_E[None]]).T
    whitened_ER = torch.linalg.solve_triangular(factor_EE, right_ER, upper=False)
    means_EK, feature_E = whitened_ER[:, :-1], whitened_ER[:, -1]
    found_K: Tensor = feature_E @ means_EK - means_EK.square().sum(0) / 2
    return found_K


def update(
    means_KE: Tensor, counts_K: Tensor, scatters_KEE: Tensor, features_SE: Tensor, weights_SK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Adds features to every class by their weights, around the means of before.

    Args:
        means_KE, counts_K: of the classes.
        scatters_KEE: covariances times counts; updated in place, since they are the most of a state.
        features_SE: the features.
        weights_SK: the probability of each class for each of them.

    Returns:
        (K, E) means, (K,) counts and the (E, E) mean of the covariances, after the update.
    """
    after_K = counts_K + weights_SK.sum(0)
    offsets_KSE = (features_SE - means_KE[:, None]) * weights_SK.T[..., None].sqrt()
    mean_EE = torch.zeros_like(scatters_KEE[0])
    at_once = CLASSES if means_KE.device.type == "cpu" else len(means_KE)
    for some in range(0, len(means_KE), at_once):
        part = slice(some, some + at_once)
        scatters_KEE[part].baddbmm_(offsets_KSE[part].mT, offsets_KSE[part])
        mean_EE.view(-1).addmv_(scatters_KEE[part].flatten(1).T, 1 / after_K[part])
    means_KE = (counts_K[:, None] * means_KE + weights_SK.T @ features_SE) / after_K[:, None]
    return means_KE, after_K, mean_EE / len(means_KE)
