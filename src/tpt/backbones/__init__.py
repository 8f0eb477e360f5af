"""Frozen CLIP models; the only place that imports open_clip."""

from tpt.backbones.clip import CLIP
from tpt.backbones.pretrained import load_clip

__all__ = ["CLIP", "load_clip"]
