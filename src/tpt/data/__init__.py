"""Datasets and the loaders that turn them into batches of views; most names are imported where they are first used."""

from lazy_loader import attach_stub

from tpt.data.emoji_shift import emoji_shift as emoji_shift  # at once, since a module has the same name

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
