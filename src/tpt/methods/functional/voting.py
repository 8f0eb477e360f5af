"""Voting by views: predictions at a temperature of almost zero, for ZERO."""

import torch
from torch import Tensor


def votes_of(cosines_BSK: Tensor) -> Tensor:
    """(B, K) votes: each view gives one vote to its most likely class, split between classes of equal cosine.

    Farina et al., NeurIPS 2024, section 3.3.  The softmax temperature is the machine epsilon of the number format.
    """
    temperature = torch.finfo(cosines_BSK.dtype).eps
    return (cosines_BSK / temperature).softmax(-1).sum(-2)


def break_ties(votes_BK: Tensor, cosines_BVK: Tensor, order_BV: Tensor, voted: int) -> Tensor:
    """(B, K) votes, with an extra vote for the winner if several classes are tied for the most votes.

    The views that did not vote decide, in descending order of confidence: the first whose most likely class is one of
    the tied classes gives it the extra vote.  If there is none, the winner is the tied class with the largest cosine
    for the first of these views, or for the most confident view if all views have voted.  `order_BV` are the indices of
    the views, most confident first, and `voted` is the number of views that have voted.
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
