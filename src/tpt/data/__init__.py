"""Datasets and the loaders that turn them into batches of views; most names are imported on first use."""

from lazy_loader import attach_stub

from tpt.data.emoji_shift import emoji_shift as emoji_shift  # imported now, because a subpackage has the same name

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
