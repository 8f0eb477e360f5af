"""Small per-class caches of image features, as tensors; Karmanov et al., CVPR 2024."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EMPTY = math.inf  # the entropy of a free place


def keep_surest(columns: Sequence[Tensor], entropies_S: Tensor, entry: Sequence[Tensor], entropy: float) -> None:
    """Inserts an entry into the S entries of a class, in place, in ascending order of entropy; the last one drops out.

    Among equal entropies the earlier entry comes first, so a full class only takes an entry of strictly lower entropy.
    `columns` are (S, ...) tensors with the contents of the entries, and `entry` has those of the new one.  Free places
    have the entropy `EMPTY` and come last.
    """
    place = int((entropies_S <= entropy).sum())
    if place == len(entropies_S):
        return
    for column, value in zip((*columns, entropies_S), (*entry, torch.tensor(entropy)), strict=True):
        column[place + 1 :] = column[place:-1].clone()
        column[place] = value


def keep_newest(columns: Sequence[Tensor], entropies_S: Tensor, entry: Sequence[Tensor], entropy: float) -> None:
    """Appends an entry to those of a class, in place; a full class drops its oldest entry.

    Takes the same arguments as `keep_surest`.
    """
    held = int(entropies_S.isfinite().sum())
    for column, value in zip((*columns, entropies_S), (*entry, torch.tensor(entropy)), strict=True):
        if held == len(column):
            column[:-1] = column[1:].clone()
        column[min(held, len(column) - 1)] = value


def affinities(keys_KSE: Tensor, entropies_KS: Tensor, feature_E: Tensor, beta: float) -> Tensor:
    """(K, S) affinities `exp(-beta (1 - cosine))` of an image to all entries; 0 for free places."""
    cosines_KS = (keys_KSE.flatten(0, 1) @ feature_E).unflatten(0, entropies_KS.shape)
    return torch.where(entropies_KS.isfinite(), (-beta * (1 - cosines_KS)).exp(), 0.0)
