"""View features on disk, shared by runs that encode the same images in the same way."""

from tpt.data.cache.cache import CachedViews, FeatureCache

__all__ = ["CachedViews", "FeatureCache"]
