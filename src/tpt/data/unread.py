"""Reports why Pillow cannot open a file, in a few words for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from PIL import UnidentifiedImageError

from tpt.data.names import counted_suffixes

PLUGIN = "pillow_heif"  # a package that lets Pillow read HEIC, the format of iPhones
# Picture formats that Pillow may not read: in a folder of pictures they are counted, not ignored.
SUFFIXES = (".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".wmf",
            ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")  # fmt: skip
_INSTALL = "pip install pillow-heif"
_HEIC = (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")  # after the first four bytes
_BEGUN = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")  # starts of formats that are usually read


def problem_of(content: bytes, name: str, error: Exception) -> str:
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
