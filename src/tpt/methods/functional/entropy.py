"""Entropies of predictions, computed in log space."""

import math

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """(...) Shannon entropies in nats, between 0 and log K, of predictions with (..., K) logits."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def marginal_entropy(logits_SK: Tensor) -> Tensor:
    """(...) entropies in nats of the predictions averaged over S views: the objective of TPT.

    Shu et al., NeurIPS 2022, section 3.2, equation 2.  This is the entropy of the mean, not the mean of the entropies.
    The mean is taken over probabilities and computed in log space.
    """
    log_probs = logits_SK.log_softmax(-1)
    averaged = log_probs.logsumexp(-2) - math.log(logits_SK.shape[-2])
    averaged = averaged.clamp(min=torch.finfo(averaged.dtype).min)  # else exp(-inf) * -inf gives NaN
    return -(averaged * averaged.exp()).sum(-1)


def log_probabilities(probabilities: Tensor) -> Tensor:
    """(..., K) finite logits whose softmax is a given prediction: its logarithm, with 0 replaced by a tiny number."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def replaced_entropy(logits_K: Tensor, own_KM: Tensor) -> Tensor:
    """(..., K, M) entropies, in nats, of a prediction in which the logit of class k is replaced by `own_KM[k, m]`.

    Each is the sum of two parts, the entropy of class k against the rest and that within the rest, so the prediction is
    not copied M times.
    """
    classes = logits_K.shape[-1]
    others = torch.arange(classes - 1, device=logits_K.device).repeat(classes, 1)
    others = others + (others >= torch.arange(classes, device=logits_K.device)[:, None])  # (K, K-1)
    rest = logits_K[..., others]
    lead_KM = own_KM - rest.logsumexp(-1)[..., None]
    of_rest = lead_KM.neg().sigmoid()
    of_class = torch.special.entr(lead_KM.sigmoid()) + torch.special.entr(of_rest)
    found: Tensor = of_class + of_rest * entropy(rest)[..., None]
    return found
