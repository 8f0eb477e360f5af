"""Decodes image files of any format to RGB, or says in a few words why a file cannot be read."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from tpt.data.names import counted_suffixes
from tpt.errors import BadImageError, UserError

# Larger pictures are refused: a small file can claim any size (a decompression bomb).  The largest image of the
# paper's datasets has about 90 million pixels.
MAX_PIXELS = 178_956_970
MAX_DECODED_BYTES = 1200 * 2**20  # of a decoded picture in its own mode and its RGB copy
Orientation = Literal["apply", "ignore"]
HEAD_BYTES = 2**16  # of a file; usually enough for `is_turned`
# Formats whose orientation tag counts, and how their files begin; Pillow applies TIFF's tag itself.
_TAGGED = {"JPEG": b"\xff\xd8", "PNG": b"\x89PNG", "WEBP": b"RIFF"}
_TAG_NAMES = (b"Exif", b"eXIf", b"EXIF")  # of the part with the tags in these formats

# Formats that Pillow knows but that are not opened: those that it passes to other programs or libraries (PostScript,
# WMF), cannot decode (BUFR, GRIB, HDF5, MPEG) or unpacks without a limit (FITS).
_NOT_OPENED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS", "FPX", "MIC"}
# Formats that only a file's suffix identifies with certainty.
_BY_SUFFIX = {"TGA", "PCX", "DCX", "SPIDER", "IM", "IMT", "MCIDAS", "XVTHUMB", "IPTC", "PIXAR", "GBR", "FLI", "PCD",
              "ICO", "CUR", "SGI", "MSP", "XBM", "XPM", "BLP", "FTEX"}  # fmt: skip
# Common formats are tried first; the content decides, not the file name.
_USUAL = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")

# Picture formats that Pillow may not read: in a folder of pictures they are counted, not ignored.
SUFFIXES = (".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".wmf",
            ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")  # fmt: skip
_INSTALL = "pip install pillow-heif"
_HEIC = (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")  # after the first four bytes
_BEGUN = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")  # starts of formats that are usually read

with contextlib.suppress(ImportError):  # reads HEIC, the format of iPhones
    importlib.import_module("pillow_heif").register_heif_opener()
Image.init()
_OPENED = {kind for kind in Image.OPEN if kind not in _NOT_OPENED}
_FORMATS = (*_USUAL, *sorted(_OPENED - _BY_SUFFIX - set(_USUAL)))
_FORMAT_OF = {
    suffix: kind
    for suffix, kind in Image.registered_extensions().items()
    if kind in _OPENED or kind == "MPO"  # which begins like a JPEG and is opened as one
}
EXTENSIONS = tuple(sorted(_FORMAT_OF))

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # of a pixel; 4 in other modes
_STRIP = 2**20  # pixels converted at a time
_DARK = 16  # fractions up to here may be 0 to 1 with some overshoot, or almost black


def decode_image(content: bytes, name: str, upright: bool = False) -> Image.Image:
    """Decodes a picture of any mode to 8-bit RGB: grey, palette, CMYK, with alpha, 16-bit, 32-bit or float.

    As with the official code's `convert("RGB")`, transparency is dropped, so the colours beneath it show.  Greys of
    more than 8 bits are scaled by their range (see `_to_eight_bits`); PIL alone would make almost all of them white.

    The suffix of `name` identifies formats that the content does not; `upright` rotates the picture by its orientation
    tag, which the official code ignores.  Raises a BadImageError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's hints on odd palettes and large sizes, checked below
            picture: Image.Image = Image.open(io.BytesIO(content), formats=_formats(name))
            needed = picture.width * picture.height * (_BYTES.get(picture.mode, 4) + 4 * (picture.mode != "RGB"))
            if picture.width * picture.height > MAX_PIXELS or needed > MAX_DECODED_BYTES:
                raise UserError(f"too large: {picture.width} x {picture.height} pixels")
            picture.load()
            picture = _turned(picture) if upright else picture
            deep = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
            picture = _to_eight_bits(picture) if deep else picture
            return picture if picture.mode == "RGB" else picture.convert("RGB")
    except Exception as error:  # decoders raise many types for damaged bytes
        problem = str(error) if isinstance(error, UserError) else _problem_of(content, name, error)
        raise BadImageError(
            f"Cannot decode the image {name} ({problem}). Replace or remove the file, or pass data.on_bad_image=skip "
            "to leave such files out and count them.",
            problem,
        ) from error


def _turned(picture: Image.Image) -> Image.Image:
    """The picture rotated or mirrored by its orientation tag; damaged tags are ignored."""
    try:
        picture.getexif()  # Pillow keeps the result
    except Exception:  # damaged tags raise many types
        return picture
    picture.info.pop("exif", None)  # `exif_transpose` would write it again, and fail on odd tags
    return ImageOps.exif_transpose(picture)


def is_turned(content: bytes) -> bool | None:
    """Whether a file (or its first `HEAD_BYTES`) has a tag that rotates or mirrors the picture; None if unknown."""
    if not content.startswith(tuple(_TAGGED.values())):
        return False
    if len(content) < HEAD_BYTES and not any(name in content for name in _TAG_NAMES):  # a whole file; Pillow is slower
        return False
    try:
        picture = Image.open(io.BytesIO(content), formats=tuple(_TAGGED))
        return "exif" in picture.info and picture.getexif().get(Base.Orientation) in range(2, 9)
    except Exception:  # truncated or damaged; decoding will report it
        return None


def _formats(name: str) -> tuple[str, ...]:
    """The formats that a file of this name may have."""
    own = _FORMAT_OF.get(PurePath(name).suffix.lower(), "")
    return (*_FORMATS, own) if own in _BY_SUFFIX else _FORMATS


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Converts a grey picture of 16-bit, 32-bit or float values to 8-bit grey.

    The file does not say what the values mean, so their range decides:

    - whole numbers from 0 to 255 are used unchanged;
    - whole numbers up to 65,535, some above 4,095, are 16-bit values and are divided by 257;
    - fractions from 0 to 1 are multiplied by 255; from 0 to 255, some above 16, they are rounded.

    Any other range is a UserError: negative or not finite, possibly 10 or 12 bits, or beyond 16 bits.
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
    low, high = float(np.min(lows)), float(np.max(highs))
    problems = {
        ", not all of them finite": not np.isfinite([low, high]).all(),
        ", neither of 8 nor of 16 bits": low < 0 or high > 65_535,
        ": of 10 or 12 bits, or of 16 and almost black": 255 < high <= 4095,
        ": from 0 to 1 with some beyond, or from 0 to 255 and almost black": not all(wholes) and 1 < high <= _DARK,
    }
    for problem, holds in problems.items():
        if holds:
            said = f"its pixels are {low:g} to {high:g}{problem}"
            raise UserError(f"pixel values of unclear meaning: {said}; convert it to 8 bits")
    if picture.mode == "F" and high <= 1:
        return lambda strip: np.rint(strip * 255.0)
    return (lambda strip: strip // 257) if high > 255 else np.rint


def _problem_of(content: bytes, name: str, error: Exception) -> str:
    """What is wrong with a file, in a few words, from its bytes, its suffix and Pillow's error."""
    if not content.strip(b"\0"):
        return "empty" if not content else "damaged: nothing but zeros"
    if content.startswith(_HEIC, 4):
        return f"HEIC is not read; convert it, or {_INSTALL}"
    said = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError):
        if (suffix := PurePath(name).suffix.lower()) in SUFFIXES:
            return f"{suffix[1:].upper()} is not read; convert it to JPEG or PNG"
        return "damaged: its beginning cannot be read" if content.startswith(_BEGUN) else "no picture"
    cut = any(word in said.lower() for word in ("truncated", "unexpected end", "not enough", "broken data stream"))
    return "damaged: truncated" if cut or isinstance(error, EOFError) else f"damaged: {said or type(error).__name__}"


def skipped(paths: Sequence[str]) -> list[str]:
    """Notes on files that are left out by their suffix: pictures of formats that are not read, then other files."""
    pictures = [path for path in paths if path.lower().endswith(SUFFIXES)]
    others = [path for path in paths if not path.lower().endswith(SUFFIXES)]
    kinds = (
        (pictures, "pictures of formats that are not read", f"; convert them, or for HEIC {_INSTALL}"),
        (others, "files that are not pictures", ""),
    )
    return [
        f"{len(found)} {what} were skipped ({counted_suffixes(found)}){way_out}"
        for found, what, way_out in kinds
        if found
    ]
