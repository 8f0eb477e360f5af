"""Losses for test-time tuning, for B images, S selected views each, and K classes.

An objective returns (B,) losses of logits.  A penalty is the part of a loss that depends on the text features only,
`(..., K, E) -> (...)`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dispersion(text_KE: Tensor) -> Tensor:
    """Mean distance of the text features from their mean: C-TPT's measure (Yoon et al., ICLR 2024, section 4).

    Args:
        text_KE: (..., K, E) text features of unit length; their mean is not scaled to unit length.

    Returns:
        (...), at least 0; 0 for a single class.
    """
    distances: Tensor = (text_KE - text_KE.mean(-2, keepdim=True)).norm(dim=-1)
    return distances.mean(-1)


def row_norm_excess(text_KE: Tensor) -> Tensor:
    """Mean row norm of T Tᵀ, minus 1: O-TPT's penalty (Sharifdeen et al., CVPR 2025), in its short form.

    The official code reflects each row onto its axis by a Householder matrix and takes the distance from the unit
    vector of that axis, which equals the row's norm minus 1 (docs/differences.md).  This form needs K x K numbers
    instead of K x K x K.

    Args:
        text_KE: (..., K, E) text features of unit length.

    Returns:
        (...), at least 0; 0 if the features are orthogonal.
    """
    norms: Tensor = (text_KE @ text_KE.mT).norm(dim=-1)
    return norms.mean(-1) - 1


def nearest_angle(text_KE: Tensor, tau: float) -> Tensor:
    """Mean angle between a class and its nearest other class, in radians: A-TPT's measure (ICLR 2026).

    Args:
        text_KE: (..., K, E) text features of unit length, K at least 2.
        tau: limit of the cosines, which are clamped to [-tau, tau]; below 1, since the slope of the arc cosine is
            infinite at 1.

    Returns:
        (...), between 0 and pi.
    """
    unit = torch.nn.functional.normalize(text_KE, dim=-1)
    cosines = unit @ unit.mT
    own = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
    nearest = cosines.masked_fill(own, -1.0).max(-1).values  # among equal cosines, only one gets the gradient
    return nearest.clamp(-tau, tau).acos().mean(-1)


def reverse_cross_entropy(logits_BSK: Tensor, target_BK: Tensor) -> Tensor:
    """Cross-entropy -sum P log Q of the averaged prediction P and a fixed target Q: USE's objective.

    Args:
        logits_BSK: logits of the views, including view 0.
        target_BK: target probabilities, at least 0.
    """
    return -(logits_BSK.softmax(-1).mean(-2) * target_BK.clamp(min=torch.finfo(target_BK.dtype).tiny).log()).sum(-1)


def rewarded_cross_entropy(
    logits_BSK: Tensor, scores_BSK: Tensor, sample_k: int, amplify: bool = False, whole_batch: bool = False
) -> Tensor:
    """Cross-entropy of each view's most likely classes, weighted by a reward model's scores: RLCF's objective.

    Zhao et al., ICLR 2024, section 3.2.  The candidates of a view are its `sample_k` classes with the largest logits.
    A candidate's reward is its score minus the mean score.  The loss is the mean of reward times -log probability.

    Args:
        logits_BSK: logits of the selected views.
        scores_BSK: the reward model's CLIPScore for every view and class, at least 0.
        sample_k: candidates per view; with 1, the score itself is the reward.
        amplify: whether rewards are divided by the standard deviation of the scores.
        whole_batch: whether the mean and standard deviation are taken over all views of the image instead of over each
            view's candidates.
    """
    top_BSk = logits_BSK.detach().topk(sample_k, dim=-1).indices
    scores = scores_BSK.gather(-1, top_BSk)
    together = (-2, -1) if whole_batch else (-1,)
    rewards = scores - scores.mean(together, keepdim=True) if sample_k > 1 else scores
    if amplify and sample_k > 1:
        rewards = rewards / (scores.std(together, keepdim=True) + 1e-5)
    return -(rewards * logits_BSK.log_softmax(-1).gather(-1, top_BSk)).mean((-2, -1))
