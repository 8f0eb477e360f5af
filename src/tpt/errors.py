"""Errors a user can cause beyond wrong values; each message names the thing, what was expected and the way out."""

from __future__ import annotations


class DataError(ValueError):
    """A dataset on disk is not laid out as expected."""


class BadImageError(DataError):
    """An image file cannot be read."""


class RunError(RuntimeError):
    """A run cannot go on, for a reason outside the program; what was computed is kept.

    Args:
        exit_code: of the program.
    """

    exit_code = 1


class UnansweredError(RunError):
    """A run is complete, but some of its images have no answer."""

    exit_code = 3
