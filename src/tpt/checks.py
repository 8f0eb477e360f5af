"""Checks of kind and range of a user's values, all with errors of the same form."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from tpt.errors import UserError


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None, way_out: str = "") -> int:
    """The value as an int.

    Args:
        name: of the setting.
        value: to be checked; a bool, and a float of a whole number such as 4.0, are refused like any other kind.
        least, most: the smallest and the largest value that is allowed; None leaves it open.
        way_out: ends the message, such as "0 is off".

    Raises:
        UserError: another kind, or out of range.
    """
    good = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
    if not good or (most is not None and int(value) > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UserError(f"Expected `{name}` to be a whole number {limits}, got {value!r}{_ending(way_out)}")
    return int(value)


def real_number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
    way_out: str = "",
) -> float:
    """The value as a float; not NaN and not infinite.

    Args:
        name: of the setting.
        value: to be checked; a bool or a text is refused.
        least, most: the smallest and the largest value that is allowed.
        above: in place of `least`, what the value must be larger than.
        way_out: ends the message.

    Raises:
        UserError: another kind, or out of range.
    """
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not least <= value <= most or (above is not None and value <= above):
        raise UserError(f"Expected `{name}` {_range(least, most, above)}, got {value!r}{_ending(way_out)}")
    return float(value)


def _range(least: float, most: float, above: float | None) -> str:
    if math.isfinite(most):
        return f"in {'[' if above is None else '('}{least if above is None else above:g}, {most:g}]"
    if above is not None:
        return f"to be a number above {above:g}"
    return f"of at least {least:g}" if math.isfinite(least) else "to be a finite number"


def _ending(way_out: str) -> str:
    return f"; {way_out}." if way_out else "."
