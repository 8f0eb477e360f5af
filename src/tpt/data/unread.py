"""Reports why Pillow cannot open a file, in a few words for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from PIL import UnidentifiedImageError

from tpt.data.names import counted_suffixes

PLUGIN = "pillow_heif"  # a package that lets Pillow read HEIC, the format of iPhones
# Picture formats that Pillow may not read: in a folder of pictures they are counted, not ignored.
_OF_PLUGIN = (".heic", ".heif", ".hif")
SUFFIXES = (*_OF_PLUGIN, ".avif", ".jxl", ".jp2", ".svg", ".eps", ".wmf",
            ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")  # fmt: skip
_INSTALL = "pip install pillow-heif"
_HEIC = f"HEIC is not read; convert it, or {_INSTALL}"
# Content that is not read, identified by bytes at an offset.
_OTHERS = (
    *((4, b"ftyp" + brand, _HEIC) for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"ftypavi", "AVIF is not read; convert it, or install a newer Pillow"),
    (4, b"ftypcrx", "camera raw is not read; convert it to JPEG or PNG"),
    (4, b"ftyp", "a video, no picture"),
    (0, b"\xff\x0a", "JPEG XL is not read; convert it to JPEG or PNG"),
    (4, b"JXL ", "JPEG XL is not read; convert it to JPEG or PNG"),
    (0, b"%PDF", "PDF is not read; convert it to JPEG or PNG"),
    (0, b"%!PS", "PostScript is not read; convert it to JPEG or PNG"),
    (0, b"<svg", "SVG is not read; convert it to JPEG or PNG"),
    (0, b"<!doctype html", "a web page, no picture"),
    (0, b"<html", "a web page, no picture"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, no picture; fetch it with git lfs pull"),
)
_BEGUN = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")  # starts of formats that are usually read


def problem_of(content: bytes, name: str, error: Exception) -> str:
    """What is wrong with a file, in a few words, from its bytes, its suffix and Pillow's error."""
    if not content.strip(b"\0"):
        return "empty" if not content else "damaged: nothing but zeros"
    start = content[:512].lstrip().lower()
    for place, mark, problem in _OTHERS:
        if content.startswith(mark, place) or start.startswith(mark.lower(), place):
            return problem
    said = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError):
        if b"<svg" in start:
            return "SVG is not read; convert it to JPEG or PNG"
        if (suffix := PurePath(name).suffix.lower()) in SUFFIXES:
            return f"{suffix[1:].upper()} is not read; convert it to JPEG or PNG"
        return "damaged: its beginning cannot be read" if content.startswith(_BEGUN) else "no picture"
    cut = any(word in said.lower() for word in ("truncated", "unexpected end", "not enough", "broken data stream"))
    return "damaged: truncated" if cut or isinstance(error, EOFError) else f"damaged: {said or type(error).__name__}"


def skipped(paths: Sequence[str]) -> list[str]:
    """Notes on files that are left out by their suffix: pictures of formats that are not read, then other files."""
    pictures = [path for path in paths if path.lower().endswith(SUFFIXES)]
    others = [path for path in paths if not path.lower().endswith(SUFFIXES)]
    notes = []
    if pictures:
        install = f", or {_INSTALL}" if any(path.lower().endswith(_OF_PLUGIN) for path in pictures) else ""
        shown = counted_suffixes(pictures)
        notes.append(
            f"{len(pictures)} pictures of formats that are not read were skipped ({shown}); convert them{install}"
        )
    if others:
        notes.append(f"{len(others)} files that are not pictures were skipped ({counted_suffixes(others)})")
    return notes
