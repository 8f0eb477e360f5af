"""Settings of the programs: kind, range and one line of help for each, checked before anything is loaded."""

from tpt.cli.settings.check import check_sweep, refuse_wrong, values_of
from tpt.cli.settings.ranges import refused
from tpt.cli.settings.register import Register

__all__ = ["Register", "check_sweep", "refuse_wrong", "refused", "values_of"]
