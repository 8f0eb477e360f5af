"""Votes of views: what is left of a prediction at temperature zero."""

from __future__ import annotations

import torch
from torch import Tensor


def votes_of(cosines_BSK: Tensor) -> Tensor:
    """(B, K) votes: each view gives one to its likeliest class, or shares it among classes of equal cosine.

    Farina et al., NeurIPS 2024, section 3.3: the softmax at a temperature of the number format's resolution.
    """
    temperature = torch.finfo(cosines_BSK.dtype).eps
    return (cosines_BSK / temperature).softmax(-1).sum(-2)


def break_ties(votes_BK: Tensor, cosines_BVK: Tensor, order_BV: Tensor, voted: int) -> Tensor:
    """(B, K) votes with one more for the winner if several classes have the most.

    The views that did not vote are asked in the order of their confidence, and the first whose likeliest class is among
    the tied ones decides.  Where none does, or none is left, the tied class wins that the first of them, or the most
    confident view of all, holds likeliest.

    Args:
        votes_BK: of the first `voted` views in `order_BV`.
        cosines_BVK: of all views.
        order_BV: indices of the views, most confident first.
        voted: S, how many have voted.
    """
    tied_BK = votes_BK == votes_BK.amax(-1, keepdim=True)
    favourite_BV = cosines_BVK.argmax(-1).gather(1, order_BV)[:, voted:]
    decides_BV = tied_BK.gather(1, favourite_BV)
    asked = order_BV[:, min(voted, order_BV.shape[1] - 1)] if favourite_BV.shape[1] else order_BV[:, 0]
    own_BK = cosines_BVK[torch.arange(len(asked), device=asked.device), asked]
    winner_B = own_BK.masked_fill(~tied_BK, -torch.inf).argmax(-1)
    if favourite_BV.shape[1]:
        first_B = favourite_BV.gather(1, decides_BV.int().argmax(-1, keepdim=True))[:, 0]
        winner_B = torch.where(decides_BV.any(-1), first_B, winner_B)
    extra_BK = torch.zeros_like(votes_BK).scatter(1, winner_B[:, None], 1.0)
    return torch.where(tied_BK.sum(-1, keepdim=True) > 1, votes_BK + extra_BK, votes_BK)
