"""Errors a user can cause beyond wrong values; each message names the thing, what was expected and the way out."""

from __future__ import annotations


class DataError(ValueError):
    """A dataset on disk is not laid out as expected."""


class BadImageError(DataError):
    """An image file cannot be read."""
