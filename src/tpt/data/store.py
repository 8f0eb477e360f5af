"""Reads a dataset's files from a folder or a zip archive, without unpacking."""

from __future__ import annotations

import copy
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from tpt.data.names import is_data, is_left_behind, member_name, nfc, plain
from tpt.errors import BadImageError, DataError
from tpt.files import is_file, read_bytes, readable
from tpt.files.lists import decode_text

MAX_FILE_BYTES = 512 * 2**20  # a larger file, or one in an archive that claims to unpack to more, is refused

_NO_PATH = re.compile(r"[\x00-\x1f\ud800-\udfff]")  # control characters and surrogates


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not blank, without spaces at their ends; raises an OSError or ValueError."""
    return [line.strip() for line in decode_text(read_bytes(path)).splitlines() if line.strip()]


class Store(Protocol):
    """Reads image files by their path in the dataset; it can be sent to worker processes."""

    root: Path  # named in errors and results

    def read(self, path: str, first: int | None = None) -> bytes:
        """The bytes of one image file, or its first `first` bytes; raises a BadImageError."""


class FileStore:
    """The files below `root`, a folder or a `.zip` file, by their path relative to it, with forward slashes.

    Paths are text: if the name of a file in a folder or an archive is not UTF-8, its other bytes are written as
    `\\xe9`.  The store can be sent to worker processes, each of which opens an archive once.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.is_archive = not self.root.is_dir()
        self.inside = ""  # prefix of all paths, in an archive
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._owner = -1
        self.real: dict[str, str] = {}  # names on disk of paths that are written differently
        if not self.is_archive:
            return
        if not (self.root.is_file() and zipfile.is_zipfile(self.root)):
            raise DataError(f"{self.root} is no folder or .zip archive. Check data.root, or unpack it.")
        with readable(f"the table of contents of the zip archive {self.root}"):
            self._zip()

    def within(self, folder: str) -> FileStore:
        """The files below one of its folders."""
        if not self.is_archive:
            return FileStore(self.root / self.real.get(folder, folder))
        inner = copy.copy(self)
        inner.inside, inner.real = f"{self.inside}{self.real.get(folder, folder)}/", {}
        return inner

    def _zip(self) -> zipfile.ZipFile:
        if self._archive is None or self._owner != os.getpid():  # file positions must not be shared by forks
            self._archive, self._owner = zipfile.ZipFile(self.root), os.getpid()
            self._members = {member_name(info): info for info in self._archive.infolist()}
        return self._archive

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None, "_members": {}, "_owner": -1}

    def _members_below(self) -> list[str]:
        self._zip()
        return [path.removeprefix(self.inside) for path in self._members if path.startswith(self.inside)]

    def paths(self) -> Iterator[str]:
        """Every file, in sorted order, without hidden files and folders and those of other programs."""
        if self.is_archive:
            inner = [path for path in self._members_below() if not path.endswith("/")]
        else:
            inner = [(folder / file).relative_to(self.root).as_posix() for folder, file in _walk(self.root)]
        yield from self._sorted(path for path in inner if is_data(path))

    def folders(self) -> list[str]:
        """Names of the folders directly below the root, in sorted order."""
        if self.is_archive:
            names = {path.split("/")[0] for path in self._members_below() if "/" in path}
        else:
            names = {path.name for path in self.root.iterdir() if path.is_dir()}
        return self._sorted(name for name in names if not is_left_behind(name))

    def _sorted(self, found: Iterable[str]) -> list[str]:
        """Real names as paths, in sorted order; remembers the names that are written differently."""
        paths = [(plain(real), real) for real in found]
        self.real |= {path: real for path, real in paths if path != real}
        return sorted((path for path, _ in paths), key=lambda path: (nfc(path), path))

    def holds(self, path: str) -> bool:
        """Whether there is such a file, with accents in either form."""
        if self.is_archive:
            self._zip()
        for form in (path, nfc(path), unicodedata.normalize("NFD", path)):
            if self.inside + form in self._members if self.is_archive else is_file(self.root / form):
                if form != path:
                    self.real[path] = form
                return True
        return False

    def read(self, path: str, first: int | None = None) -> bytes:
        """See `Store.read`; also raises if the file is damaged, not a regular file, or too large."""
        way_out = "Restore it, or pass data.on_bad_image=skip to leave such files out and count them"
        with readable(f"{path} in {self.root}", way_out, BadImageError):
            real = self.real.get(path, path)
            if not self.is_archive:
                return read_bytes(self.root / real, MAX_FILE_BYTES, first)
            archive = self._zip()
            info = self._members[self.inside + real]
            if info.file_size > MAX_FILE_BYTES:
                raise OSError(f"it would unpack to {info.file_size:,} bytes")
            with archive.open(info) as member:
                return member.read(-1 if first is None else first)


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """The folder and name of every file; links are followed, except to a folder that contains the link."""
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        subfolders[:] = [s for s in subfolders if not is_left_behind(s)]
        links = [s for s in subfolders if (here / s).is_symlink()]
        for link in (s for s in links if here.resolve().is_relative_to((here / s).resolve())):
            subfolders.remove(link)
        yield from ((here, file) for file in files)


def refuse_unusable(store: FileStore, paths: Sequence[str], listed_in: Path) -> None:
    """Raises a DataError for a path that would leave the dataset's folder, or that does not exist in the store."""
    for path in paths:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in path or _NO_PATH.search(path):
            raise DataError(
                f"Expected paths inside the dataset, with forward slashes, in {listed_in}, got {path[:200]!r}; "
                "correct it."
            )
    if missing := [path for path in paths if not store.holds(path)]:
        raise DataError(
            f"{len(missing)} of the {len(paths)} images that {listed_in} lists are missing in {store.root}, such as "
            f"{missing[0][:200]}. Restore them."
        )
