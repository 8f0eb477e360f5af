"""Datasets known by a key, read in every common layout; names are imported where they are first used."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
