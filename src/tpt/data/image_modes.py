"""Pixels of more than eight bits to eight, by the range of their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tpt.errors import UserError

_STRIP = 2**20  # pixels converted at a time
_SIXTEEN_BITS = 65535
_TWELVE_BITS = 4095
_DARK = 16  # fractions up to here may be 0 to 1 with some overshoot, or almost black


def is_deep(mode: str) -> bool:
    """Whether a picture's mode has one number a pixel of more than eight bits."""
    return mode in ("I", "F") or mode.startswith("I;16")


def to_eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16-bit, 32-bit or float values as 8-bit grey.

    What the numbers mean is not in the file, so their range must tell:

    - whole numbers from 0 to 255 are taken as they are;
    - whole numbers up to 65,535, some above 4,095, are of 16 bits and divided by 257;
    - fractions from 0 to 1 are multiplied by 255; from 0 to 255, some above 16, they are rounded.

    Raises:
        UserError: any other range: negative or not finite, of 10 or 12 bits perhaps, or beyond 16 bits.
    """
    values = _range(picture)
    grey = Image.new("L", picture.size)
    for top, strip in _strips(picture):
        grey.paste(Image.fromarray(_convert(strip, values)), (0, top))
    return grey


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    whole: bool  # no fractions


def _strips(picture: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    rows = max(1, _STRIP // max(1, picture.width))
    for top in range(0, picture.height, rows):
        yield top, np.asarray(picture.crop((0, top, picture.width, min(top + rows, picture.height))))


def _range(picture: Image.Image) -> _Range:
    low, high, whole = np.inf, -np.inf, True
    for _, strip in _strips(picture):
        if not np.isfinite(strip).all():
            raise UserError("its pixels hold values that are not finite; convert it to 8 bits")
        low, high = min(low, float(strip.min())), max(high, float(strip.max()))
        whole = whole and (picture.mode != "F" or bool((strip == np.floor(strip)).all()))
    _refuse_unclear(found := _Range(low, high, whole))
    return found


def _refuse_unclear(values: _Range) -> None:
    shown = f"its pixels are {values.low:g} to {values.high:g}"
    way_out = "convert it to 8 bits"
    if values.low < 0 or values.high > _SIXTEEN_BITS:
        raise UserError(f"{shown}, neither of 8 nor of 16 bits; {way_out}")
    if 255 < values.high <= _TWELVE_BITS:
        raise UserError(f"{shown}: of 10 or 12 bits, or of 16 and almost black; {way_out}")
    if not values.whole and 1 < values.high <= _DARK:
        raise UserError(f"{shown}: from 0 to 1 with some beyond, or from 0 to 255 and almost black; {way_out}")


def _convert(strip: np.ndarray, values: _Range) -> np.ndarray:
    if strip.dtype.kind == "f" and values.high <= 1:
        return np.rint(strip * 255.0).astype(np.uint8)
    if values.high > 255:
        return (strip // 257).astype(np.uint8)
    return np.rint(strip).astype(np.uint8) if strip.dtype.kind == "f" else strip.astype(np.uint8)
