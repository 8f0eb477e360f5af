"""Decode image files of any kind to RGB."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from tpt.errors import BadImageError

# Larger pictures are refused: a small file can claim any size (a decompression bomb).  The largest image of the
# paper's datasets has some 90 million pixels.
MAX_PIXELS = 178_956_970

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# What such files hold, whatever their name says.  Pillow knows more formats, some of which call other programs.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")


def decode_image(content: bytes, name: str) -> Image.Image:
    """The picture as 8-bit RGB, whatever its file was: grey, palette, CMYK, 16-bit, with alpha.

    Like the official code's `convert("RGB")`, transparency is dropped and orientation tags are ignored; 16-bit
    greys are scaled to 8 bits, where PIL alone would turn almost all of them white.

    Args:
        content: of the file.
        name: named in errors.

    Raises:
        BadImageError: not an image, truncated, or of more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's hints on odd palettes and large sizes, checked below
            picture: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise BadImageError(
                    f"Expected an image of at most {MAX_PIXELS:,} pixels, got {picture.width} x {picture.height} "
                    f"in {name}; scale it down, or pass data.on_bad_image=skip."
                )
            picture.load()
            if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
                values = np.asarray(picture, dtype=np.float64)
                picture = Image.fromarray((values / _full_scale(values)).clip(0, 255).astype(np.uint8))
            return picture.convert("RGB")
    except BadImageError:
        raise
    except Exception as error:  # of many kinds, from the decoders of damaged bytes
        said = " ".join(str(error).split()).replace("<_io.BytesIO object", "<file") or type(error).__name__
        reason = said if content else "it is empty"
        raise BadImageError(
            f"Expected a readable image, but {name} cannot be decoded ({reason}); replace or remove the file, or "
            "pass data.on_bad_image=skip to leave such files out and count them."
        ) from error


def _full_scale(values: np.ndarray) -> float:
    """The divisor that brings integer pixels to 0..255; values that already fit stay."""
    return 257.0 if values.max(initial=0) > 255 else 1.0
