"""Converts pixels of more than eight bits to eight bits, by the range of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tpt.errors import UserError

_STRIP = 2**20  # pixels converted at a time
_DARK = 16  # fractions up to here may be 0 to 1 with some overshoot, or almost black


def is_deep(mode: str) -> bool:
    """Whether a picture's mode has one channel of more than eight bits."""
    return mode in ("I", "F") or mode.startswith("I;16")


def to_eight_bits(picture: Image.Image) -> Image.Image:
    """Converts a grey picture of 16-bit, 32-bit or float values to 8-bit grey.

    The file does not say what the values mean, so their range decides:

    - whole numbers from 0 to 255 are used unchanged;
    - whole numbers up to 65,535, some above 4,095, are 16-bit values and are divided by 257;
    - fractions from 0 to 1 are multiplied by 255; from 0 to 255, some above 16, they are rounded.

    Raises:
        UserError: any other range: negative or not finite, possibly 10 or 12 bits, or beyond 16 bits.
    """
    convert = _conversion(picture)
    grey = Image.new("L", picture.size)
    for top, strip in _strips(picture):
        grey.paste(Image.fromarray(convert(strip).astype(np.uint8)), (0, top))
    return grey


def _strips(picture: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    rows = max(1, _STRIP // max(1, picture.width))
    for top in range(0, picture.height, rows):
        yield top, np.asarray(picture.crop((0, top, picture.width, min(top + rows, picture.height))))


def _conversion(picture: Image.Image) -> Callable[[np.ndarray], np.ndarray]:
    ranges = [(strip.min(), strip.max(), (strip == np.floor(strip)).all()) for _, strip in _strips(picture)]
    lows, highs, wholes = zip(*ranges, strict=True)
    low, high, whole = float(np.min(lows)), float(np.max(highs)), all(wholes)
    problem = None
    if not np.isfinite([low, high]).all():
        problem = ", not all of them finite"
    elif low < 0 or high > 65_535:
        problem = ", neither of 8 nor of 16 bits"
    elif 255 < high <= 4095:
        problem = ": of 10 or 12 bits, or of 16 and almost black"
    elif not whole and 1 < high <= _DARK:
        problem = ": from 0 to 1 with some beyond, or from 0 to 255 and almost black"
    if problem is not None:
        raise UserError(f"its pixels are {low:g} to {high:g}{problem}")
    if picture.mode == "F" and high <= 1:
        return lambda strip: np.rint(strip * 255.0)
    return (lambda strip: strip // 257) if high > 255 else np.rint
