"""Photographs that lie on their side: the orientation tag of cameras."""

from __future__ import annotations

import io
import struct
from typing import Literal

from PIL import Image

HEAD_BYTES = 4096  # from which `tag_in` judges; cameras write the tag in the first hundreds
_TAG, _SHORT = 0x0112, 3
_APP1, _PICTURE = 0xE1, (0xDA, 0xD9)  # of JPEG's segments
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


Orientation = Literal["apply", "ignore"]


def is_upright(orientation: Orientation) -> bool:
    """Whether a setting says to turn photographs."""
    return orientation == "apply"


def turn_of(picture: Image.Image) -> int:
    """A picture's tag, 1 if it has none or it cannot be read: 2 to 8 are turned or mirrored (EXIF 2.3, 4.6.4 A)."""
    try:
        tag = picture.getexif().get(_TAG, 1)
    except Exception:  # of many kinds, from damaged tags, which say nothing then
        return 1
    return tag if isinstance(tag, int) and tag in _TURNS else 1


def turned(picture: Image.Image, tag: int) -> Image.Image:
    """The picture turned as its tag says."""
    return picture.transpose(_TURNS[tag]) if tag in _TURNS else picture


def tag_in(head: bytes) -> int | None:
    """The tag as far as the first bytes of a file tell: 1 if it has none, None if more must be read."""
    tags = _tags_of_jpeg(head) if head.startswith(b"\xff\xd8") else _tags_of_png(head)
    if tags is None:
        is_webp = head.startswith(b"RIFF") and head[12:16] == b"VP8X" and len(head) > 20
        return None if is_webp and head[20] & 8 else 1
    order = {b"II": "<", b"MM": ">"}.get(tags[:2])
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(f"{order}I", tags, 4)
        (count,) = struct.unpack_from(f"{order}H", tags, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", tags, place)
            if tag == _TAG:
                return (value if value in _TURNS else 1) if (kind, number) == (_SHORT, 1) else None
    except struct.error:  # it ends before, or is damaged
        return None
    return 1


def _tags_of_jpeg(head: bytes) -> bytes | None:
    """What stands behind the mark of EXIF, in the segments before the picture's."""
    place = 2
    while place + 4 <= len(head) and head[place] == 0xFF and head[place + 1] not in _PICTURE:
        if head[place + 1] == _APP1 and head.startswith(b"Exif\0\0", place + 4):
            return head[place + 10 :]
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    # Another segment, longer than the head, may hide it.
    return b"" if place + 4 > len(head) == HEAD_BYTES else None


def _tags_of_png(head: bytes) -> bytes | None:
    start = head.find(b"eXIf") if head.startswith(b"\x89PNG") else -1
    return None if start < 0 else head[start + 4 :]


def is_turned(content: bytes) -> bool:
    """Whether the file's tag says that its picture lies on its side or is mirrored."""
    try:
        return turn_of(Image.open(io.BytesIO(content), formats=_FORMATS)) != 1
    except Exception:  # reported by the code that decodes it
        return False
