"""The version of this release."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "test-time-prompt-tuning"  # name on the package index, where `tpt` is another project

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0.0.0"
