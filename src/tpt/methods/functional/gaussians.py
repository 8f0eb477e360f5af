"""Class means and covariances of a stream, and their linear discriminant; Han et al., NeurIPS 2025.

A symmetric matrix is packed as consecutive bands of BAND rows of its lower triangle.  The band that starts at row r
holds the columns before r + BAND.  The packed form has slightly more than half of the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BAND = 64
CLASSES = 16  # classes updated at once on a CPU, so that their covariances stay in its cache


def discriminant(means_KE: Tensor, covariance_EE: Tensor, feature_E: Tensor) -> Tensor:
    """(K,) linear discriminant `x' L m_k - m_k' L m_k / 2`, with L the inverse of the shared covariance.

    Args:
        means_KE: class means, m_k.
        covariance_EE: shared covariance, positive definite; its Cholesky factor is used.
        feature_E: feature of the image, x.
    """
    factor_EE = torch.linalg.cholesky(covariance_EE)
    whitened_KE = torch.linalg.solve_triangular(factor_EE.mT, means_KE, upper=True, left=False)
    feature_1E = torch.linalg.solve_triangular(factor_EE.mT, feature_E[None], upper=True, left=False)
    found_K: Tensor = whitened_KE @ feature_1E[0] - torch.linalg.vecdot(whitened_KE, whitened_KE) / 2
    return found_K


def packed(symmetric_EE: Tensor) -> Tensor:
    """(P,) packed form of a symmetric matrix."""
    return torch.cat([symmetric_EE[start:stop, :stop].flatten() for start, stop, _ in _bands(len(symmetric_EE))])


def unpacked(packed_P: Tensor, width: int) -> Tensor:
    """(E, E) symmetric matrix from its packed form; E is `width`."""
    found_EE = packed_P.new_empty(width, width)
    for start, stop, place in _bands(width):
        band = packed_P[place].view(-1, stop)
        found_EE[start:stop, :stop] = band
        found_EE[:start, start:stop] = band[:, :start].T
    return found_EE


def learn(
    means_KE: Tensor, counts_K: Tensor, scatters_KP: Tensor, features_NSE: Tensor, weights_NSK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Updates every class with the features of N images, one image after another.

    The offsets of an image's features are taken from the means before that image.  The covariances of all classes are
    read and written only once for all N images.

    Args:
        means_KE: class means.
        counts_K: class counts.
        scatters_KP: covariances times counts, packed; updated in place, since they are most of the state.
        features_NSE: S features of each image.
        weights_NSK: class probabilities of each feature.

    Returns:
        (N + 1, K, E) means and (N + 1, K) counts, before each image and after the last; (N, P) packed means of the
        covariances over the classes, before each image.
    """
    counts_NK = torch.cat([counts_K[None], weights_NSK.sum(1)]).cumsum(0)
    means_NKE = means_KE.repeat(len(counts_NK), 1, 1)
    for n, (features_SE, weights_SK) in enumerate(zip(features_NSE, weights_NSK, strict=True)):
        torch.mul(means_NKE[n], (counts_NK[n] / counts_NK[n + 1])[:, None], out=means_NKE[n + 1])
        means_NKE[n + 1].addmm_((weights_SK / counts_NK[n + 1]).T, features_SE)
    totals_NP = (1 / counts_NK[:-1]) @ scatters_KP
    for n in range(1, len(features_NSE)):
        _add_images(totals_NP[n], n, means_KE, counts_NK, features_NSE, weights_NSK)
    _add_offsets(scatters_KP, means_NKE[:-1], features_NSE, weights_NSK)
    return means_NKE, counts_NK, totals_NP.div_(len(means_KE))


def _add_images(
    total_P: Tensor, images: int, means_KE: Tensor, counts_NK: Tensor, features_NSE: Tensor, weights_NSK: Tensor
) -> None:
    """Adds the contribution of the first `images` images to the sum of all classes' covariances before the next image.

    The mean m_i of a class before image i is (s + sum_{j<i} p_j x_j) / c_i, with s = c_0 m_0.  So the sum over images
    of p_i (x_i - m_i)(x_i - m_i)' is a quadratic form in s and the features x_j, and the sums over classes are made of
    its coefficients.  With e_j the sum of p_i / c_i^2 over the images after j, the coefficient of s s' is the sum over
    all images; that of s x_j' is q_j = p_j (e_j - 1 / c_j); and that of x_j x_l' is p_j q_l for an image j before l,
    and p_j p_l e_j for two features of one image, with p_j more if they are the same.
    """
    number = torch.arange(images, device=total_P.device).repeat_interleave(weights_NSK.shape[1])  # image of each
    before_NK = counts_NK[:images]
    steps_NK = (weights_NSK[:images].sum(1) / before_NK.square()).cumsum(0)
    later_RK = (steps_NK[-1] - steps_NK)[number]
    features_RE, weights_RK = features_NSE[:images].flatten(0, 1), weights_NSK[:images].flatten(0, 1)
    mixed_RK = weights_RK * (later_RK - 1 / before_NK[number])
    shares_K = 1 / counts_NK[images]
    scaled_RK = weights_RK * shares_K
    between_RR = (scaled_RK @ mixed_RK.T) * (number[:, None] < number)
    within_RR = (scaled_RK @ (weights_RK * later_RK).T) * (number[:, None] == number)
    within_RR.diagonal().add_(scaled_RK.sum(1))
    sums_KE = counts_NK[0][:, None] * means_KE
    half_RE = (between_RR + within_RR / 2) @ features_RE + (mixed_RK * shares_K) @ sums_KE
    scaled_KE = sums_KE * (shares_K * steps_NK[-1])[:, None]
    left_RE, right_RE = torch.cat([half_RE, features_RE]), torch.cat([features_RE, half_RE])
    for start, stop, place in _bands(means_KE.shape[1]):
        band = total_P[place].view(-1, stop)
        band.addmm_(scaled_KE[:, start:stop].T, sums_KE[:, :stop])
        band.addmm_(left_RE[:, start:stop].T, right_RE[:, :stop])


def _add_offsets(scatters_KP: Tensor, means_NKE: Tensor, features_NSE: Tensor, weights_NSK: Tensor) -> None:
    """Adds the weighted outer products of the features' offsets from the means before their image."""
    classes, width = means_NKE.shape[1:]
    at_once = CLASSES if means_NKE.device.type == "cpu" else classes
    for some in range(0, classes, at_once):
        part = slice(some, some + at_once)
        offsets_KNSE = features_NSE - means_NKE[:, part].transpose(0, 1)[:, :, None]
        offsets_KNSE *= weights_NSK[..., part].permute(2, 0, 1)[..., None].sqrt()
        offsets_KRE = offsets_KNSE.flatten(1, 2)
        for start, stop, place in _bands(width):
            band_KBC = scatters_KP[part, place].unflatten(1, (-1, stop))
            band_KBC.baddbmm_(offsets_KRE[..., start:stop].mT, offsets_KRE[..., :stop])


def _bands(width: int) -> Iterator[tuple[int, int, slice]]:
    """The first row, the row after the last, and the slice of the packed form, for each band."""
    place = 0
    for start in range(0, width, BAND):
        stop = min(start + BAND, width)
        size = (stop - start) * stop
        yield start, stop, slice(place, place + size)
        place += size
