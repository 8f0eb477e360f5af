"""Where a dataset's files lie: a folder, or a zip archive of one, read in place."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from tpt.errors import BadImageError, DataError

MAX_FILE_BYTES = 512 * 2**20  # a file in an archive that claims to unpack to more is refused

_NO_PATH = re.compile(r"[\x00-\x1f\ud800-\udfff]")  # control characters, and halves of characters


def content_digest(content: bytes) -> str:
    """Sixteen hexadecimal digits that change with any byte."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


class Store(Protocol):
    """The bytes of images by their path in the dataset; safe to hand to worker processes."""

    root: Path  # named in errors and results

    def read(self, path: str) -> bytes:
        """The bytes of one image file; raises a BadImageError."""
        ...


class FileStore:
    """The files below `root`, by their path relative to it, with forward slashes.

    Safe to hand to worker processes: an archive is opened once in each.

    Args:
        root: a folder, or a `.zip` file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if not self.root.exists():
            raise DataError(f"Expected a folder or a .zip archive at {self.root}, found nothing; check data.root.")
        self.is_archive = self.root.is_file()
        if self.is_archive and not zipfile.is_zipfile(self.root):
            raise DataError(f"Expected a folder or a .zip archive at {self.root}, found another file; unpack it first.")
        self._archive: zipfile.ZipFile | None = None
        self._owner = -1
        if self.is_archive:
            self._refuse_damaged()

    def _refuse_damaged(self) -> None:
        try:
            self._zip()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise DataError(
                f"Expected a zip archive at {self.root}, but its table of contents is damaged ({error}); get it again."
            ) from error

    def _zip(self) -> zipfile.ZipFile:
        if self._archive is None or self._owner != os.getpid():  # file positions must not be shared by forks
            self._archive, self._owner = zipfile.ZipFile(self.root), os.getpid()
        return self._archive

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None, "_owner": -1}

    def paths(self) -> Iterator[str]:
        """Every file, in sorted order; hidden files and folders are left out."""
        if self.is_archive:
            found = [i.filename for i in self._zip().infolist() if not i.is_dir()]
        else:
            found = [(folder / file).relative_to(self.root).as_posix() for folder, file in _walk(self.root)]
        yield from sorted(p for p in found if not any(_is_hidden(part) for part in p.split("/")))

    def folders(self) -> list[str]:
        """Names of the folders directly below the root, in sorted order."""
        if self.is_archive:
            names = {i.filename.split("/")[0] for i in self._zip().infolist() if "/" in i.filename}
        else:
            names = {p.name for p in self.root.iterdir() if p.is_dir()}
        return sorted(n for n in names if not _is_hidden(n))

    def read(self, path: str) -> bytes:
        """The bytes of one file.

        Raises:
            BadImageError: the file is gone, unreadable or damaged.
        """
        try:
            if not self.is_archive:
                return (self.root / path).read_bytes()
            info = self._zip().getinfo(path)
            if info.file_size > MAX_FILE_BYTES:
                raise OSError(f"it would unpack to {info.file_size:,} bytes")
            return self._zip().read(info)
        # An encrypted file is a RuntimeError, an unknown compression a NotImplementedError.
        except (OSError, KeyError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, zlib.error) as error:
            raise BadImageError(
                f"Expected a readable file {path} in {self.root}, but reading it failed ({error}); restore it, or "
                "pass data.on_bad_image=skip to leave such files out and count them."
            ) from error


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Folder and name of every file; links are followed, but not back into a folder that they lie in."""
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        links = [s for s in subfolders if (here / s).is_symlink()]
        for link in (s for s in links if here.resolve().is_relative_to((here / s).resolve())):
            subfolders.remove(link)
        yield from ((here, file) for file in files)


def _is_hidden(part: str) -> bool:
    """Of a path: a hidden file or folder, what macOS adds to archives, or the nothing before a leading slash."""
    return not part or part.startswith((".", "__MACOSX"))


def refuse_escapes(paths: Sequence[str], listed_in: Path) -> None:
    """Raises a DataError for a path that would leave the dataset's folder, or that no file can have."""
    for path in paths:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in path or _NO_PATH.search(path):
            raise DataError(
                f"Expected paths inside the dataset, with forward slashes, in {listed_in}, got {path[:200]!r}; "
                "correct it."
            )


def refuse_missing(base: Path, paths: Sequence[str], listed_in: Path) -> None:
    """Raises a DataError that counts the files below `base` that are not there."""
    missing = [path for path in paths if not is_file(base / path)]
    if missing:
        raise DataError(
            f"Expected the {len(paths)} images that {listed_in} lists in {base}, but {len(missing)} are missing, such "
            f"as {missing[0][:200]}; complete them."
        )


def is_file(path: Path) -> bool:
    """Whether it is a file that can be reached; a name that is too long, for one, cannot."""
    try:
        return path.is_file()
    except OSError:
        return False
