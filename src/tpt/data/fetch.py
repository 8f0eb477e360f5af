"""Datasets that are free to download: fetched, unpacked, and in their place only when whole."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import Progress

from tpt.data.catalog import CATALOG, find_all
from tpt.data.download import download, progress_bar
from tpt.data.sources import SOURCES, Source
from tpt.errors import DataError


def fetch(key: str, root: Path) -> Path:
    """Downloads and unpacks one dataset, and gives its folder.

    What was downloaded before an interruption is continued.  The dataset's folder appears in one move when everything
    in it is there; until then all lies in `<root>/.downloads/<key>`, which is removed at the end.

    Args:
        key: of the dataset.
        root: the folder of all datasets.

    Raises:
        DataError: the dataset is not free to download or already there, its server cannot be reached, or what came
            is not what was expected.
    """
    if key not in SOURCES:
        raise DataError(
            f"Expected a dataset that is free to download, out of {', '.join(SOURCES)}, got {key!r}; get it from "
            f"{CATALOG[key].source}."
        )
    downloads = root / ".downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / f"{key}.lock", timeout=0), progress_bar() as progress:
            return _fetch(key, root, downloads / key, progress)
    except Timeout as error:
        raise DataError(
            f"Expected one download of {key} at a time, but another process is at it; wait for it."
        ) from error
    except OSError as error:
        raise DataError(f"Expected to write {key} below {root}, but {error}; mend that and run again.") from error


def _fetch(key: str, root: Path, downloads: Path, progress: Progress) -> Path:
    source, target, there = SOURCES[key], root / SOURCES[key].folder, find_all(CATALOG[key], root)
    if there:
        shutil.rmtree(downloads, ignore_errors=True)  # left where a process ended between the move and here
        raise DataError(
            f"Expected no {CATALOG[key].title} below {root}, found {there[0]}; move it away to fetch it again "
            f"(split files may lie in {root / 'splits'})."
        )
    downloads.mkdir(exist_ok=True)
    files = [download(archive, downloads, progress) for archive in source.archives]
    progress.add_task(f"unpacking {key}", total=None)
    whole = _unpack_all(files, source, downloads / "unpacking")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target.rmdir()  # an empty one
    whole.replace(target)
    shutil.rmtree(downloads, ignore_errors=True)
    return target


def _unpack_all(files: list[Path], source: Source, staging: Path) -> Path:
    """Everything unpacked in `staging`; gives the folder there that is the dataset."""
    shutil.rmtree(staging, ignore_errors=True)  # left by an interruption
    staging.mkdir()
    for file in files:
        _unpack(file, staging)
    inner, whole = staging / source.then, staging / source.top
    if not inner.exists() or not whole.is_dir():
        raise DataError(
            f"Expected {source.then or source.top} in {files[0].name}, found none; get the dataset by hand, "
            "docs/datasets.md says where it goes."
        )
    if source.then:
        _unpack(inner, inner.parent)
        inner.unlink()
    return whole


def _unpack(file: Path, folder: Path) -> None:
    """An archive's files; members that would leave `folder` are refused."""
    try:
        if file.suffix == ".mat":
            shutil.copy2(file, folder / file.name)
        elif file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive_zip:
                _refuse_escapes(archive_zip, folder)
                archive_zip.extractall(folder)
        else:
            with tarfile.open(file) as archive:
                _extract(archive, folder)
    # What the readers of damaged archives raise; an encrypted zip is a RuntimeError.
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, RuntimeError) as error:
        file.unlink(missing_ok=True)
        raise DataError(
            f"Expected a whole archive in {file.name}, but unpacking failed ({error}); it was removed, run again, or "
            "get the dataset by hand."
        ) from error


def _extract(archive: tarfile.TarFile, folder: Path) -> None:
    """A tar file's files; Python before 3.11.4, Debian 12's among them, has no filter for what leads outside."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    inside = folder.resolve()
    for member in archive:
        if not (member.isreg() or member.isdir()):
            raise tarfile.ReadError(f"{member.name!r} is a link, which may lead outside, or no file")
        if not (inside / member.name).resolve().is_relative_to(inside):
            raise tarfile.ReadError(f"{member.name!r} would lie outside of its folder")
        archive.extract(member, inside, set_attrs=False)


def _refuse_escapes(archive: zipfile.ZipFile, folder: Path) -> None:
    inside = folder.resolve()
    for name in archive.namelist():
        if not (inside / name).resolve().is_relative_to(inside):
            raise zipfile.BadZipFile(f"{name!r} would leave its folder")
