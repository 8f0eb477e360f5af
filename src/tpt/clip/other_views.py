"""Encodes views that were made for one CLIP with another CLIP."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tpt.clip.model import CLIP


@torch.no_grad()
def encode_views_of(clip: CLIP, views: Tensor, made_for: CLIP) -> tuple[Tensor, Tensor]:
    """A CLIP's unit-length features of views that were made for another CLIP.

    A different image size is reached by bicubic interpolation with aligned corners, as in RLCF's code.

    Args:
        clip: the CLIP that encodes.
        views: (V, 3, H, W) or (B, V, 3, H, W); uint8 pixels, or floats normalised for `made_for`.
        made_for: the CLIP whose image size and normalisation the views have.

    Returns:
        (V, E) or (B, V, E) features, and the () or (B,) lengths of view 0's features before they were scaled to 1.
    """
    if clip is made_for:
        return clip.encode_views(views, return_norm=True)
    flat = views.flatten(0, -4)
    if flat.dtype != torch.uint8 and (clip.mean, clip.std) != (made_for.mean, made_for.std):
        mean, std, own_mean, own_std = (
            flat.new_tensor(x).view(3, 1, 1) for x in (made_for.mean, made_for.std, clip.mean, clip.std)
        )
        flat = (flat * std + mean - own_mean) / own_std
    if flat.shape[-1] != clip.image_size:
        parts = flat.split(512)  # bounds the memory of pixels as floats
        flat = torch.cat([_resized(clip._normalise(part), clip.image_size) for part in parts])
    return clip.encode_views(flat.unflatten(0, views.shape[:-3]), return_norm=True)


def encode_all(encoders: Mapping[str, CLIP], views: Tensor, made_for: CLIP) -> dict[str, Tensor]:
    """`NAME_features` and `NAME_norm` of the same views for each encoder, as returned by `encode_views_of`."""
    found: dict[str, Tensor] = {}
    for name, clip in encoders.items():
        found[f"{name}_features"], found[f"{name}_norm"] = encode_views_of(clip, views, made_for)
    return found


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=True)
