"""Augmented views of an image; view 0 is never augmented."""

from tpt.views.augmix import AugMix
from tpt.views.maker import Views, paper_views, whole_picture

__all__ = ["AugMix", "Views", "paper_views", "whole_picture"]
