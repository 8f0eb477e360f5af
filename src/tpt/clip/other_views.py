"""Encodes views that were made for one CLIP with other CLIPs too."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tpt.clip.model import CLIP


@torch.no_grad()
def encode_all(encoders: Mapping[str, CLIP], views: Tensor, made_for: CLIP) -> dict[str, Tensor]:
    """Features of the same views (V, 3, H, W) or (B, V, 3, H, W) from each encoder.

    The views are uint8 pixels, or floats normalised for `made_for`, and have its image size.  Returns for each name the
    unit-length `NAME_features`, (V, E) or (B, V, E), and `NAME_norm`, () or (B,), the lengths of view 0's features
    before they were scaled to 1.
    """
    found: dict[str, Tensor] = {}
    for name, clip in encoders.items():
        own = views if clip is made_for else _remade(views, clip, made_for)
        found[f"{name}_features"], found[f"{name}_norm"] = clip.encode_views(own, return_norm=True)
    return found


def _remade(views: Tensor, clip: CLIP, made_for: CLIP) -> Tensor:
    """The views as `clip` needs them; resized by bicubic interpolation with aligned corners, as in RLCF's code."""
    flat, size = views.flatten(0, -4), (clip.image_size, clip.image_size)
    if flat.dtype != torch.uint8 and (clip.mean, clip.std) != (made_for.mean, made_for.std):
        mean, std, own_mean, own_std = (
            flat.new_tensor(x).view(3, 1, 1) for x in (made_for.mean, made_for.std, clip.mean, clip.std)
        )
        flat = (flat * std + mean - own_mean) / own_std
    if flat.shape[-1] != clip.image_size:
        parts = map(clip._normalise, flat.split(512))  # one at a time, which bounds the memory of pixels as floats
        flat = torch.cat([F.interpolate(part, size, mode="bicubic", align_corners=True) for part in parts])
    return flat.view(*views.shape[:-3], *flat.shape[1:])
