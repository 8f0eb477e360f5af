"""Which release this is."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "test-time-prompt-tuning"  # its name at the package index, where `tpt` is another project

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0.0.0"
