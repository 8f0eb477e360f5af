"""Where a dataset's files lie: a folder, or a zip archive of one, read in place."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from tpt.errors import BadImageError, DataError

MAX_FILE_BYTES = 512 * 2**20  # a file in an archive that claims to unpack to more is refused


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
            found = [
                (Path(folder) / file).relative_to(self.root).as_posix()
                for folder, _, files in os.walk(self.root, followlinks=True)
                for file in files
            ]
        yield from sorted(p for p in found if not any(part.startswith((".", "__MACOSX")) for part in p.split("/")))

    def folders(self) -> list[str]:
        """Names of the folders directly below the root, in sorted order."""
        if self.is_archive:
            names = {i.filename.split("/")[0] for i in self._zip().infolist() if "/" in i.filename}
        else:
            names = {p.name for p in self.root.iterdir() if p.is_dir()}
        return sorted(n for n in names if not n.startswith((".", "__MACOSX")))

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
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise BadImageError(
                f"Expected a readable file {path} in {self.root}, but reading it failed ({error}); restore it, or "
                "pass data.on_bad_image=skip to leave such files out and count them."
            ) from error


def refuse_escapes(paths: Sequence[str], listed_in: Path) -> None:
    """Raises a DataError for a path that would leave the dataset's folder."""
    for path in paths:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in path:
            raise DataError(
                f"Expected paths inside the dataset, with forward slashes, in {listed_in}, got {path!r}; correct it."
            )


def refuse_missing(base: Path, paths: Sequence[str], listed_in: Path) -> None:
    """Raises a DataError that counts the files below `base` that are not there."""
    missing = [path for path in paths if not (base / path).is_file()]
    if missing:
        raise DataError(
            f"Expected the {len(paths)} images that {listed_in} lists in {base}, but {len(missing)} are missing, such "
            f"as {missing[0]}; complete them."
        )
