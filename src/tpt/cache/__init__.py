"""View features on disk, shared by runs that encode the same images in the same way."""

from tpt.cache.cache import FeatureCache, KnownViews, Shelf

__all__ = ["FeatureCache", "KnownViews", "Shelf"]
