"""Class means and covariances of a stream, and their linear discriminant; Han et al., NeurIPS 2025.

Half of a symmetric matrix is stored: consecutive bands of BAND rows of its lower triangle.  The band that starts at row
r holds the columns before r + BAND.  In computations, N matrices are a list of bands, each (N, rows, columns).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

BAND = 64
CLASSES_AT_ONCE = 128  # per matrix product; all classes at once are slower on a CPU
IMAGES_AT_ONCE = 16  # per matrix product, so that its operands stay in a CPU's cache


@dataclass(frozen=True)
class Batch:
    """N images that update all classes, one after another.

    Args:
        sums: (E, K) class means times counts, before the first image.
        counts: (N, K) class counts before each image.
        features: (N, S, E) features of each image.
        weights: (N, S, K) class probabilities of each feature.
    """

    sums: Tensor
    counts: Tensor
    features: Tensor
    weights: Tensor

    @classmethod
    def after(cls, means_KE: Tensor, counts_K: Tensor, features_NSE: Tensor, weights_NSK: Tensor) -> Self:
        """A batch of images that follow the ones behind the given class means and counts."""
        counts_NK = torch.cat([counts_K[None], weights_NSK[:-1].sum(1)]).cumsum(0)
        return cls((counts_K[:, None] * means_KE).T.contiguous(), counts_NK, features_NSE, weights_NSK)

    def learned(self) -> tuple[Tensor, Tensor]:
        """(K, E) class means and (K,) counts after the last image."""
        counts_K = self.counts[-1] + self.weights[-1].sum(0)
        sums_EK = self.sums.addmm(self.flat_features.T, self.flat_weights)
        return (sums_EK / counts_K).T.contiguous(), counts_K

    @cached_property
    def flat_features(self) -> Tensor:
        """(R, E) features of all images; R = N S."""
        return self.features.flatten(0, 1)

    @cached_property
    def flat_weights(self) -> Tensor:
        """(R, K) class probabilities of all features."""
        return self.weights.flatten(0, 1)

    @cached_property
    def numbers(self) -> Tensor:
        """(R,) image of each feature, from 0."""
        images = torch.arange(len(self.features), device=self.features.device)
        return images.repeat_interleave(self.features.shape[1])


def repeated(symmetric_EE: Tensor, number: int) -> Tensor:
    """(N, P) tensor that stores N equal symmetric matrices band by band, see `bands`."""
    width = len(symmetric_EE)
    stored_NP = symmetric_EE.new_empty(number, sum((stop - start) * stop for start, stop in _rows(width)))
    for band, (start, stop) in zip(bands(stored_NP, width), _rows(width), strict=True):
        band.copy_(symmetric_EE[start:stop, :stop])
    return stored_NP


def bands(stored_NP: Tensor, width: int) -> list[Tensor]:
    """The (N, rows, columns) bands of N matrices as views of a tensor that stores the first band of all, then the next.

    A product over all matrices then has contiguous operands, which is faster than one product per matrix.
    """
    sizes = [len(stored_NP) * (stop - start) * stop for start, stop in _rows(width)]
    parts = stored_NP.view(-1).split(sizes)
    return [part.view(len(stored_NP), -1, stop) for part, (_, stop) in zip(parts, _rows(width), strict=True)]


def by_matrix(stored_NP: Tensor, width: int) -> Tensor:
    """(N, P) copy in which each row holds the bands of one matrix."""
    return torch.cat([band.flatten(1) for band in bands(stored_NP, width)], 1)


def by_band(rows_NP: Tensor, width: int) -> Tensor:
    """(N, P) copy that stores the matrices band by band: the inverse of `by_matrix`."""
    parts = rows_NP.split([(stop - start) * stop for start, stop in _rows(width)], 1)
    return torch.cat([part.flatten() for part in parts]).view_as(rows_NP)


def mix_identity(matrices: Sequence[Tensor], share: float) -> None:
    """Replaces matrices M by `(1 - share) M + share I`, in bands."""
    for band in matrices:
        band.mul_(1 - share)
        band[..., -band.shape[-2] :].diagonal(dim1=-2, dim2=-1).add_(share)


def discriminants(batch: Batch, covariances: Sequence[Tensor], images_NE: Tensor) -> Iterator[Tensor]:
    """(K,) linear discriminant `x' L m_k - m_k' L m_k / 2` of each image, from the class means m_k before it.

    L is the inverse of the image's covariance.  With its Cholesky factor F, class sums s_k and counts c_k, y = F^-1 x
    and z_k = F^-1 s_k, the discriminant is `y' z_k / c_k - z_k' z_k / (2 c_k^2)`.  The bands of the covariances, which
    must be positive definite, are overwritten.
    """
    inverses = _factorize(covariances)
    images_NE1 = images_NE[..., None].clone()
    _solve(images_NE1, covariances, inverses)
    sums_EK = batch.sums.clone()
    for n, counts_K in enumerate(batch.counts):
        solved_EK, sums_EK = sums_EK, sums_EK.addmm(batch.features[n].T, batch.weights[n])
        _solve(solved_EK, [band[n] for band in covariances], [inverse[n] for inverse in inverses])
        squares_K = torch.linalg.vecdot(solved_EK, solved_EK, dim=0)
        yield (images_NE1[n, :, 0] @ solved_EK - squares_K / (2 * counts_K)) / counts_K


def learn(scatters: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """Updates the covariances of every class in place; returns bands of their mean over the classes before each image.

    `scatters` are bands of the covariances times counts.  The offsets of an image's features are taken from the means
    before that image.  The covariances of all classes are read and written only once for all images.
    """
    images, classes = batch.counts.shape
    shares_NK = 1 / (classes * batch.counts)
    means = [band.new_zeros(images, *band.shape[1:]) for band in scatters]
    for some in range(0, classes, CLASSES_AT_ONCE):
        part = slice(some, some + CLASSES_AT_ONCE)
        offsets_KRE = _offsets(batch, part)
        for mean, band, (start, stop) in zip(means, scatters, _rows(len(batch.sums)), strict=True):
            mean.view(images, -1).addmm_(shares_NK[:, part], band[part].flatten(1))
            band[part].baddbmm_(offsets_KRE[..., start:stop].mT, offsets_KRE[..., :stop])
    steps_NK = (batch.weights.sum(1) / batch.counts.square()).cumsum(0)
    if images > 1:
        _add_sums([mean[1:] for mean in means], batch.sums, shares_NK[1:] * steps_NK[:-1])
    for n in range(1, images):
        _add_images([mean[n] for mean in means], batch, shares_NK[n], steps_NK[:n])
    return means


def _offsets(batch: Batch, part: slice) -> Tensor:
    """(K, R, E) offsets of features from some classes' means before their image, times the roots of the weights."""
    sums_KE, weights_NSK = batch.sums[:, part].T.contiguous(), batch.weights[..., part]
    offsets_KNSE = sums_KE.new_empty(len(sums_KE), *batch.features.shape)
    for n, features_SE in enumerate(batch.features):
        means_KE = sums_KE / batch.counts[n, part, None]
        torch.sub(features_SE, means_KE[:, None], out=offsets_KNSE[:, n])
        sums_KE.addmm_(weights_NSK[n].T, features_SE)
    offsets_KNSE *= weights_NSK.permute(2, 0, 1)[..., None].sqrt()
    return offsets_KNSE.flatten(1, 2)


def _add_sums(means: Sequence[Tensor], sums_EK: Tensor, factors_NK: Tensor) -> None:
    """Adds the sum over the classes of f_k s_k s_k', for each image's factors f."""
    for (start, stop), band in zip(_rows(len(sums_EK)), means, strict=True):
        for factors_MK, some in zip(factors_NK.split(IMAGES_AT_ONCE), band.split(IMAGES_AT_ONCE), strict=True):
            scaled_MBK = factors_MK[:, None] * sums_EK[start:stop]
            some.view(-1, stop).addmm_(scaled_MBK.view(-1, scaled_MBK.shape[-1]), sums_EK[:stop].T)


def _add_images(means: Sequence[Tensor], batch: Batch, shares_K: Tensor, steps_NK: Tensor) -> None:
    """Adds what the first images of a batch contribute to the mean covariance before the next, without `_add_sums`.

    The mean m_i of a class before image i is (s + sum_{j<i} p_j x_j) / c_i, with s = c_0 m_0.  So the sum over images
    of p_i (x_i - m_i)(x_i - m_i)' is a quadratic form in s and the features x_j, and only its coefficients are summed
    over the classes.  Let e_j be the sum of p_i / c_i^2 over the images after j.  The coefficient of s s' is the sum
    over all images.  The coefficient of s x_j' is q_j = p_j (e_j - 1 / c_j).  The coefficient of x_j x_l' is p_j q_l if
    image j is before l, and p_j p_l e_j for two features of one image, plus p_j if they are the same feature.

    `shares_K` are the weights of the classes in the mean, `steps_NK` the sums of p_i / c_i^2 up to each first image.
    """
    number_R = batch.numbers[: len(steps_NK) * batch.features.shape[1]]
    features_RE, weights_RK = batch.flat_features[: len(number_R)], batch.flat_weights[: len(number_R)]
    later_RK = (steps_NK[-1] - steps_NK)[number_R]
    mixed_RK = weights_RK * (later_RK - 1 / batch.counts[number_R])
    scaled_RK = weights_RK * shares_K
    between_RR = (scaled_RK @ mixed_RK.T) * (number_R[:, None] < number_R)
    within_RR = (scaled_RK @ (weights_RK * later_RK).T) * (number_R[:, None] == number_R)
    within_RR.diagonal().add_(scaled_RK.sum(1))
    half_RE = (between_RR + within_RR / 2) @ features_RE + (mixed_RK * shares_K) @ batch.sums.T
    left_RE, right_RE = torch.cat([half_RE, features_RE]), torch.cat([features_RE, half_RE])
    for (start, stop), band in zip(_rows(features_RE.shape[1]), means, strict=True):
        band.addmm_(left_RE[:, start:stop].T, right_RE[:, :stop])


def _factorize(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Replaces the bands of positive definite matrices by those of their Cholesky factors, below the diagonal blocks.

    Returns the (N, rows, rows) inverses of the factors' diagonal blocks.
    """
    inverses: list[Tensor] = []
    for band in matrices:
        _solve(band.mT, matrices, inverses)
        rows, columns = band.shape[-2:]
        left, corner = band.split([columns - rows, rows], -1)
        factor = torch.linalg.cholesky(corner - left @ left.mT)
        identity = torch.eye(rows, dtype=band.dtype, device=band.device)
        inverses.append(torch.linalg.solve_triangular(factor, identity, upper=False))
    return inverses


def _solve(columns: Tensor, factors: Sequence[Tensor], inverses: Sequence[Tensor]) -> None:
    """Replaces the first rows of (..., E, C) columns by the solution of the triangular system of the first factors."""
    for factor, inverse in zip(factors, inverses, strict=False):
        start, stop = factor.shape[-1] - factor.shape[-2], factor.shape[-1]
        rows = columns[..., start:stop, :]
        rows -= factor[..., :start] @ columns[..., :start, :]
        rows.copy_(inverse @ rows)


def _rows(width: int) -> Iterator[tuple[int, int]]:
    """The first row and the row after the last of each band."""
    return ((start, min(start + BAND, width)) for start in range(0, width, BAND))
