"""Names of files: what other programs leave behind, names in archives, names that are not UTF-8."""

from __future__ import annotations

import re
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from tpt.errors import DataError

# What NAS, Windows, macOS and Linux put beside pictures; all else that they leave begins with a dot.
_LEFT_BEHIND = {
    "@eadir", "#recycle", "@recycle", "@recently-snapshot", "@tmp", "$recycle.bin", "system volume information",
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "lost+found", "__macosx", "__pycache__",
}  # fmt: skip
_UTF8_FLAG = 0x800  # of a member of a zip archive: its name is UTF-8
_UNICODE_PATH = 0x7075  # the extra field of Info-ZIP that holds a name in UTF-8
_UNIX = 3  # the system that made a member, where a backslash may be part of a name
# What Windows and older programs write instead: of DOS, of Western Europe, Russia, Japan, China.
_LOCAL = ("cp437", "cp850", "cp1252", "cp866", "cp1251", "cp932", "gbk")
_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "CJK", "HIRAGANA", "KATAKANA")
_JAPANESE = {"CJK", "HIRAGANA", "KATAKANA"}


def is_left_behind(part: str) -> bool:
    """Whether a part of a path is a hidden file or folder, another program's, or the nothing before a leading slash."""
    return not part or part.startswith(".") or part.lower() in _LEFT_BEHIND or "@synoeastream" in part.lower()


def is_data(path: str) -> bool:
    """Whether no part of a path is left behind by another program."""
    return not any(is_left_behind(part) for part in path.split("/"))


def composed(name: str) -> str:
    """A name with its accents in the letters: macOS writes `é` as `e` and an accent, others as one character."""
    return unicodedata.normalize("NFC", name)


def plain(name: str) -> str:
    """A name of a file as text of characters alone: bytes that are no UTF-8 show as `\\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def counted_suffixes(paths: Iterable[str]) -> str:
    """How many files of each suffix: `2 .heic, 1 without`."""
    counts = Counter(PurePosixPath(path).suffix.lower() for path in paths)
    usual = sorted(counts.items(), key=lambda item: (-item[1], not item[0], item[0]))[:5]
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in usual)


def member_names(infos: Sequence[zipfile.ZipInfo], archive: Path) -> list[str]:
    """The true names of an archive's members, with forward slashes.

    A name without a mark for its encoding is UTF-8 if all of them can be read so, as macOS and Linux write it; else
    what one of the usual local encodings makes of it, if there is only one that gives a word of one script.

    Raises:
        DataError: several encodings give words; the message shows two.
    """
    unmarked = [i for i in infos if not i.flag_bits & _UTF8_FLAG and not i.orig_filename.isascii()]
    raw = {id(i): i.orig_filename.encode("cp437") for i in unmarked}  # that is how `zipfile` has read them
    encoding = "utf-8" if all(_reads(content, "utf-8") is not None for content in raw.values()) else None
    names = []
    for info in infos:
        content = raw.get(id(info))
        name = info.orig_filename if content is None else _unicode_path(info, content)
        if name is None:
            assert content is not None
            name = content.decode("utf-8") if encoding else _local(content, archive)
        names.append(name.split("\0")[0])
    return [_slashes(info, name) for info, name in zip(infos, names, strict=True)]


def _slashes(info: zipfile.ZipInfo, name: str) -> str:
    """Some programs of Windows write backslashes between folders; elsewhere one may be part of a name."""
    return name if info.create_system == _UNIX and "/" in name else name.replace("\\", "/")


def _reads(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _unicode_path(info: zipfile.ZipInfo, content: bytes) -> str | None:
    """The name in UTF-8 that a member may have beside its own, if it is of the same name."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[1:5] == struct.pack("<I", zlib.crc32(content)):
            return _reads(field[5:], "utf-8")
    return None


def _local(content: bytes, archive: Path) -> str:
    readings: dict[str, str] = {}
    for encoding in _LOCAL:
        name = _reads(content, encoding)
        if name is not None and _is_word(name):
            readings.setdefault(name, encoding)
    if len(readings) == 1:
        return next(iter(readings))
    shown = " or ".join(f"{name!r} ({encoding})" for name, encoding in list(readings.items())[:2])
    raise DataError(
        f"Expected names in UTF-8 in {archive}, but one may be {shown or repr(content)} and nothing says which; zip "
        "it again with UTF-8 names, or unpack it and pass the folder."
    )


def _is_word(name: str) -> bool:
    """Whether its characters beyond ASCII are letters, and each word's are of one script."""
    if any(unicodedata.category(c)[0] not in "LM" for c in name if not c.isascii()):
        return False
    for word in re.split(r"[\W_]+", name):
        scripts = {unicodedata.name(c, "").split()[0] for c in word if c.isalpha() and unicodedata.name(c, "")}
        found = {next((s for s in _SCRIPTS if script.startswith(s)), script) for script in scripts}
        if len(found) > 1 and not found <= _JAPANESE:
            return False
    return True
