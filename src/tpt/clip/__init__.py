"""Frozen CLIP models; the only package that imports open_clip."""

from tpt.clip.model import CLIP
from tpt.clip.weights.pretrained import load_clip

__all__ = ["CLIP", "load_clip"]
