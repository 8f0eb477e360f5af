"""Photographs that lie on their side: the orientation tag of cameras."""

from __future__ import annotations

import io

from PIL import Image

from tpt.errors import UserError

ORIENTATIONS = ("ignore", "apply")
HEAD_BYTES = 16384  # from which `may_be_turned` judges; cameras write the tag in the first hundreds
_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FORMATS = ("JPEG", "PNG", "WEBP")  # TIFF's own tag is part of its pixels' order, and always applied by Pillow


def is_upright(orientation: str) -> bool:
    """Whether a setting says to turn photographs; a UserError where it is none of `ORIENTATIONS`."""
    if orientation not in ORIENTATIONS:
        raise UserError(f"Expected `data.orientation` to be {' or '.join(ORIENTATIONS)}, got {orientation!r}.")
    return orientation == "apply"


def turn_of(picture: Image.Image) -> int:
    """A picture's tag, 1 where it has none or it cannot be read: 2 to 8 are turned or mirrored (EXIF 2.3, 4.6.4 A)."""
    try:
        tag = picture.getexif().get(_TAG, 1)
    except Exception:  # of many kinds, from damaged tags, which say nothing then
        return 1
    return tag if isinstance(tag, int) and tag in _TURNS else 1


def turned(picture: Image.Image, tag: int) -> Image.Image:
    """The picture turned as its tag says."""
    return picture.transpose(_TURNS[tag]) if tag in _TURNS else picture


def may_be_turned(head: bytes) -> bool:
    """Whether the first bytes of a file let it have a tag; where they do not, the rest need not be read."""
    if head.startswith(b"\xff\xd8") or head.startswith(b"\x89PNG"):
        return b"Exif\0" in head or b"eXIf" in head
    return head.startswith(b"RIFF") and head[12:16] == b"VP8X" and bool(head[20] & 8)


def is_turned(content: bytes) -> bool:
    """Whether the file's tag says that its picture lies on its side or is mirrored."""
    try:
        return turn_of(Image.open(io.BytesIO(content), formats=_FORMATS)) != 1
    except Exception:  # what cannot be opened is said by whoever decodes it
        return False
