"""Projected gradient descent on the pixels of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def pgd(
    pixels: Tensor,
    labels: Tensor,
    logits_of: Callable[[Tensor], Tensor],
    start: Tensor,
    eps: float,
    step: float,
    steps: int,
) -> Tensor:
    """Pixels whose answer is as wrong as the steps make it (Madry et al., ICLR 2018, section 2.1).

    Each step adds the sign of the gradient of the cross-entropy; the sum stays within `eps` of the image, also once it
    is rounded to whole pixels.

    Args:
        pixels: (B, 3, H, W) whole numbers from 0 to 255.
        labels: (B,) the true classes.
        logits_of: (B, 3, H, W) in [0, 255] -> (B, K), each image by itself.
        start: (B, 3, H, W) the first change, in pixels.
        eps: largest change of a pixel, of 255, at least 1.
        step: length of a step, of 255.
        steps: number of them.

    Returns:
        (B, 3, H, W) whole numbers from 0 to 255.
    """

    def inside(change: Tensor) -> Tensor:
        return (pixels + change.clamp(-eps, eps)).clamp(0, 255) - pixels

    change = inside(start)
    for _ in range(steps):
        with torch.enable_grad():
            change.requires_grad_()
            loss = F.cross_entropy(logits_of(pixels + change), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, change)
        change = inside(change.detach() + step * grad.sign())
    whole = math.floor(eps)
    return pixels + change.round().clamp(-whole, whole)
