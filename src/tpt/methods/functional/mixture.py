"""Mixtures of an image's own prediction with those of its confident views, for SE and USE."""

import torch
from torch import Tensor

from tpt.methods.functional.entropy import entropy


def more_uncertain(logits_BVK: Tensor) -> Tensor:
    """(B,) share of the augmented views whose predictions have a higher entropy than the image's own."""
    values_BV = entropy(logits_BVK)
    return (values_BV[:, 1:] > values_BV[:, :1]).to(logits_BVK.dtype).mean(-1)


def confident_augmented(logits_BVK: Tensor, count: int) -> Tensor:
    """(B, count) indices, from 1, of the augmented views with the lowest entropy, most confident first."""
    return entropy(logits_BVK[:, 1:]).argsort(dim=-1, stable=True)[:, :count] + 1


def mixed(own_BK: Tensor, views_BSK: Tensor, weight_B: Tensor) -> Tensor:
    """(B, K) probabilities: the image's prediction, with a weight in [0, 1], and the mean prediction of its views."""
    weight = weight_B[:, None]
    return weight * own_BK.softmax(-1) + (1 - weight) * torch.softmax(views_BSK, -1).mean(1)
