"""Label propagation over a graph of images and texts; Li et al., ICLR 2025."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NONE = -math.inf  # the similarity of an unused place in a list of neighbours
TINY = 1e-6


def nearest(similarities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of the last dimension and their indices; ties go to the lower index."""
    values, indices = similarities.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], indices[..., :count]


def with_neighbour(values_NS: Tensor, indices_NS: Tensor, new_N: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """The S nearest neighbours of N nodes, most similar first, updated with a node whose similarities are `new_N`."""
    values = torch.cat([values_NS, new_N[:, None]], 1)
    indices = torch.cat([indices_NS, torch.full_like(indices_NS[:, :1], index)], 1)
    kept, order = nearest(values, values_NS.shape[1])
    return kept, indices.gather(1, order)


def propagated(
    text_edges: tuple[Tensor, Tensor],
    image_edges: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    classes: int,
    gamma: float,
    alpha: float,
    rounds: int,
) -> Tensor:
    """(N, K) label scores of N image nodes after `rounds` rounds.

    Args:
        text_edges: (N, T) similarities to the nearest texts, and the indices of these texts.
        image_edges: (N, S) similarities to the nearest images, and the indices of these images.  Each edge passes
            scores in both directions.
        labels: (N,) initial score of each node, and the class that it is for.
        classes, gamma, alpha, rounds: K, and the settings of `tpt.ECALP`.
    """
    (text_NT, which_NT), (image_NS, which_NS) = text_edges, image_edges
    nodes, device = len(text_NT), text_NT.device
    own_N = torch.arange(nodes, device=device)
    text_NT, image_NS = _power(text_NT, gamma), _power(image_NS, gamma)
    rows, columns = own_N.repeat_interleave(image_NS.shape[1]), which_NS.flatten()
    ends, starts, weights = torch.cat([rows, columns]), torch.cat([columns, rows]), image_NS.flatten().repeat(2)
    degrees_N = text_NT.sum(1).index_add(0, ends, weights)
    text_degrees_K = text_NT.new_zeros(classes).index_add(0, which_NT.flatten(), text_NT.flatten())
    scale_N, scale_K = _scale(degrees_N), _scale(text_degrees_K)
    weights = alpha * weights * scale_N[ends] * scale_N[starts]
    from_text_NT = alpha * text_NT * scale_N[:, None] * scale_K[which_NT]
    order = ends.argsort(stable=True)
    weights, starts, firsts_N = weights[order], starts[order], torch.searchsorted(ends[order], own_N)
    scores_N, labels_N = labels
    # Each node starts with the score of one class, so the first round needs no (N, K) table.
    scores_NK = text_NT.new_zeros(nodes * classes)
    scores_NK.index_add_(0, ends[order] * classes + labels_N[starts], weights * scores_N[starts])
    scores_NK = scores_NK.view(nodes, classes)
    for number in range(rounds):
        if number > 0:
            scores_NK = F.embedding_bag(starts, scores_NK, firsts_N, mode="sum", per_sample_weights=weights)
        scores_NK.scatter_add_(1, which_NT, from_text_NT)
        scores_NK[own_N, labels_N] += (1 - alpha) * scores_N
    return scores_NK


def _power(similarities: Tensor, gamma: float) -> Tensor:
    return torch.where(similarities.isfinite(), similarities**gamma, 0.0)


def _scale(degrees: Tensor) -> Tensor:
    return 1 / (degrees.clamp(min=0).sqrt() + TINY)
