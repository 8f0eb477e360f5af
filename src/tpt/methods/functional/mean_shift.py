"""The solver of MTA: the mode of view features, by mean shift with weighted views."""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 0.3  # share of the other views that set a view's bandwidth
OUTER, INNER = 5, 5  # maximum rounds
STOP = 1e-6  # inner rounds end when the change is smaller


def bandwidths(features_BVE: Tensor) -> Tensor:
    """(B, V) squared bandwidths: half the mean squared distance to the nearest 30 % of the other V - 1 views, V >= 5.

    Zanella and Ben Ayed, CVPR 2024, section 3.3.  Where the views are identical, it is the smallest normal number.
    """
    squared_BVV = 2 - 2 * features_BVE @ features_BVE.mT
    own = torch.eye(squared_BVV.shape[-1], dtype=torch.bool, device=squared_BVV.device)
    others = squared_BVV.masked_fill(own, torch.inf).clamp(min=0)
    count = int(NEIGHBOURS * (squared_BVV.shape[-1] - 1))
    nearest = others.topk(count, dim=-1, largest=False).values
    return (0.5 * nearest.mean(-1)).clamp(min=torch.finfo(squared_BVV.dtype).tiny)


def densest_feature(
    features_BVE: Tensor, affinity_BVV: Tensor, lambda_q: float, lambda_y: float
) -> tuple[Tensor, Tensor]:
    """The (B, E) modes of the views, of unit length, and the (B, V) weights of the views, which sum to 1.

    Algorithm 1 of the paper alternates between the views' weights for a fixed mode (equation 8) and the mode for fixed
    weights (equation 7).  The inner rounds stop separately for each image.  `affinity_BVV` is the similarity of the
    views' predictions, `lambda_q` its weight, and `lambda_y` the temperature of the weights.
    """
    spread_BV = 2 * bandwidths(features_BVE)
    weights_BV = features_BVE.new_full(features_BVE.shape[:2], 1 / features_BVE.shape[1])
    mode_BE = features_BVE[:, 0]
    for _ in range(OUTER):
        density_BV = _density(features_BVE, mode_BE, spread_BV)
        going_B = torch.ones(len(mode_BE), dtype=torch.bool, device=mode_BE.device)
        for _ in range(INNER):
            support_BV = (affinity_BVV @ weights_BV[..., None])[..., 0]
            new = ((density_BV + lambda_q * support_BV) / lambda_y).softmax(-1)
            weights_BV, going_B = _moved(weights_BV, new, going_B)
        going_B = torch.ones_like(going_B)
        for _ in range(INNER):
            pull_BV = weights_BV * _density(features_BVE, mode_BE, spread_BV)
            pull_BV = pull_BV / pull_BV.sum(-1, keepdim=True).clamp(min=torch.finfo(pull_BV.dtype).tiny)
            mode_BE, going_B = _moved(mode_BE, F.normalize((pull_BV[:, None] @ features_BVE)[:, 0], dim=-1), going_B)
    return mode_BE, weights_BV


def _density(features_BVE: Tensor, mode_BE: Tensor, spread_BV: Tensor) -> Tensor:
    distance_BV = (features_BVE - mode_BE[:, None]).square().sum(-1)
    return (-distance_BV / spread_BV).exp()


def _moved(old: Tensor, new: Tensor, going_B: Tensor) -> tuple[Tensor, Tensor]:
    """The values after a round, unchanged for images that have stopped, and which images continue."""
    values = torch.where(going_B[:, None], new, old)
    return values, going_B & ((new - old).norm(dim=-1) >= STOP)
