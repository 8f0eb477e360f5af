"""A user's mistakes; each message names the thing, what was expected and the way out.

These alone become one sentence on the command line.  Any other exception is a bug, of ours or of a contributor's method
or dataset, and keeps its trace.
"""

from __future__ import annotations


class UserError(ValueError):
    """A value, a file or a setting that the program cannot work with.

    Args:
        exit_code: of the program.
    """

    exit_code: int = 1


class DataError(UserError):
    """A dataset on disk is not laid out as expected."""


class BadImageError(DataError):
    """An image file cannot be read."""


class RunError(UserError):
    """A run cannot go on, for a reason outside the program; what was computed is kept."""


class UnansweredError(RunError):
    """A run is complete, but some of its images have no answer."""

    exit_code = 3
