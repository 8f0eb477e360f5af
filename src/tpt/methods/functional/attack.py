"""Adversarial attack by projected gradient descent on the pixels of images."""

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
    """Attacks images by projected gradient descent (PGD; Madry et al., ICLR 2018, section 2.1).

    Each step adds the sign of the gradient of the cross-entropy.  The total change of a pixel stays within `eps`, also
    after rounding to whole pixel values.

    Args:
        pixels: (B, 3, H, W) whole numbers from 0 to 255, as the result.
        labels: (B,) true classes.
        logits_of: maps (B, 3, H, W) pixels in [0, 255] to (B, K) logits, each image independently.
        start: (B, 3, H, W) initial change, in pixel values.
        eps, step: largest change, at least 1, and step size, in pixel values.
        steps: number of steps.
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
