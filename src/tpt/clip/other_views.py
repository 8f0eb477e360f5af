"""Views that were made for one CLIP, as another one takes them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tpt.clip.model import CLIP


@torch.no_grad()
def encode_views_of(clip: CLIP, views: Tensor, made_for: CLIP) -> Tensor:
    """A CLIP's unit-length features of views that were made for another one.

    Another image size is reached by bicubic interpolation with aligned corners, as RLCF's code has it.

    Args:
        clip: encodes.
        views: (V, 3, H, W) or (B, V, 3, H, W); uint8 pixels, or floats that `made_for` normalises.
        made_for: whose image size and normalisation the views have.

    Returns:
        (V, E) or (B, V, E).
    """
    flat = views.flatten(0, -4)
    if flat.dtype != torch.uint8 and (clip.mean, clip.std) != (made_for.mean, made_for.std):
        mean, std, own_mean, own_std = (
            flat.new_tensor(x).view(3, 1, 1) for x in (made_for.mean, made_for.std, clip.mean, clip.std)
        )
        flat = (flat * std + mean - own_mean) / own_std
    if flat.shape[-1] != clip.image_size:
        parts = flat.split(512)  # pixels as floats take memory
        flat = torch.cat([_resized(clip._normalise(part), clip.image_size) for part in parts])
    return clip.encode_views(flat.unflatten(0, views.shape[:-3]))


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=True)
