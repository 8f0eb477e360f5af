"""Small caches of image features by class, as tensors; Karmanov et al., CVPR 2024."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EMPTY = math.inf  # the entropy of a free place


def keep_surest(columns: Sequence[Tensor], entropies_S: Tensor, entry: Sequence[Tensor], entropy: float) -> None:
    """Puts an entry among the S of a class, sorted by rising entropy; in place.  A full class drops its last.

    Of equal entropies the earlier entry comes first, so that a full class takes only one of strictly lower entropy.

    Args:
        columns: (S, ...) each, what the entries hold.
        entropies_S: of the entries; free places, `EMPTY`, are the last ones.
        entry: what the new one holds, in the order of the columns.
        entropy: of the new one.
    """
    place = int((entropies_S <= entropy).sum())
    if place == len(entropies_S):
        return
    for column, value in zip((*columns, entropies_S), (*entry, torch.tensor(entropy)), strict=True):
        column[place + 1 :] = column[place:-1].clone()
        column[place] = value


def keep_newest(columns: Sequence[Tensor], entropies_S: Tensor, entry: Sequence[Tensor], entropy: float) -> None:
    """Puts an entry behind the others of a class; in place.  A full class drops its oldest.

    Takes what `keep_surest` takes.
    """
    held = int(entropies_S.isfinite().sum())
    for column, value in zip((*columns, entropies_S), (*entry, torch.tensor(entropy)), strict=True):
        if held == len(column):
            column[:-1] = column[1:].clone()
        column[min(held, len(column) - 1)] = value


def affinities(keys_KSE: Tensor, entropies_KS: Tensor, feature_E: Tensor, beta: float) -> Tensor:
    """(K, S) `exp(-beta (1 - cosine))` of an image with every entry; 0 for free places."""
    cosines_KS = (keys_KSE.flatten(0, 1) @ feature_E).unflatten(0, entropies_KS.shape)
    return torch.where(entropies_KS.isfinite(), (-beta * (1 - cosines_KS)).exp(), 0.0)
