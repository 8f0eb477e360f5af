"""File names: hidden files of other programs, names in archives, and names that are not UTF-8."""

from __future__ import annotations

import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

# Names of files and folders that NAS, Windows, macOS and Linux add next to pictures; others begin with a dot.
_LEFT_BEHIND = {
    "@eadir", "#recycle", "@recycle", "@recently-snapshot", "@tmp", "$recycle.bin", "system volume information",
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "lost+found", "__macosx", "__pycache__",
}  # fmt: skip
_UTF8_FLAG = 0x800  # of a member of a zip archive: its name is UTF-8
_UNICODE_PATH = 0x7075  # the extra field of Info-ZIP that holds a name in UTF-8
_UNIX = 3  # the system that made a member, where a backslash may be part of a name


def is_left_behind(part: str) -> bool:
    """Whether a part of a path is hidden, belongs to another program, or is empty (from a leading slash)."""
    return not part or part.startswith(".") or part.lower() in _LEFT_BEHIND or "@synoeastream" in part.lower()


def is_data(path: str) -> bool:
    """Whether no part of a path is hidden or belongs to another program."""
    return not any(is_left_behind(part) for part in path.split("/"))


def nfc(name: str) -> str:
    """A name with composed accents: macOS writes `é` as `e` and an accent, other systems as one character."""
    return unicodedata.normalize("NFC", name)


def plain(name: str) -> str:
    """A file name as valid text; bytes that are not UTF-8 are written as `\\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def counted_suffixes(paths: Iterable[str]) -> str:
    """The number of files of each suffix: `2 .heic, 1 without suffix`."""
    counts = Counter(PurePosixPath(path).suffix.lower() for path in paths)
    usual = sorted(counts.items(), key=lambda item: (-item[1], not item[0], item[0]))[:5]
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in usual)


def member_name(info: zipfile.ZipInfo) -> str:
    """The name of an archive's member, with forward slashes.

    The name is UTF-8 if its flag, Info-ZIP's extra field or the bytes themselves say so, as on macOS and Linux.  Other
    bytes are in an unknown code page and stay unchanged, see `plain`.
    """
    name = info.orig_filename
    if not info.flag_bits & _UTF8_FLAG:
        raw = name.encode("cp437")  # undoes the decoding by `zipfile`
        name = (_unicode_path(info.extra, raw) or raw).decode("utf-8", "surrogateescape")
    name = name.split("\0")[0]
    # Some Windows programs write backslashes between folders; on Unix, a backslash may be part of a name.
    return name if info.create_system == _UNIX and "/" in name else name.replace("\\", "/")


def _unicode_path(extra: bytes, name: bytes) -> bytes | None:
    """The UTF-8 name in a member's extra field, if it belongs to the member's own name."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[1:5] == struct.pack("<I", zlib.crc32(name)):
            return field[5:]
    return None
