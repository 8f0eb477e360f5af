"""How much of the text tower's graph may be kept."""

from __future__ import annotations

import math

import psutil
import torch

from tpt.backbones.text_tower import TextTower

GRAPH_BYTES = 2 * 2**30  # enough for ImageNet's classes in float32 with the text tower of ViT-B/16
# Floats a layer keeps for each token: twice the input of a normalisation, queries, keys, values and their copies by
# length (about 8 D), and the feed-forward network's hidden units before and after QuickGELU's gate (8 D).
FLOATS_PER_WIDTH = 18


def graph_tokens(tower: TextTower, device: torch.device) -> int:
    """Most prompt tokens whose graph fits into half of the free memory of `device`, or 2 GiB.

    Scarce memory is rounded down to a power of two, so that small changes of it from run to run do not change how work
    is divided, which would change last bits.
    """
    half = free_memory(device) // 2
    budget = GRAPH_BYTES if half >= GRAPH_BYTES else 2 ** int(math.log2(max(half, 2**20)))
    return max(1, budget // (4 * FLOATS_PER_WIDTH * tower.width * len(tower.blocks)))


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on `device` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
