"""Downloads of the datasets that are free to download: resumed, checked, and in their place only when whole."""

from __future__ import annotations

import hashlib
import http.client
import logging
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from tpt.data.catalog import CATALOG
from tpt.errors import DataError

log = logging.getLogger(__name__)

ATTEMPTS = 6  # connections that may break before giving up; each continues where the last one ended
TIMEOUT_S = 60.0
BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Args:
        url: of it.
        md5: of its bytes; None where its publishers name none.
    """

    url: str
    md5: str | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        return Path(urllib.parse.urlparse(self.url).path).name


@dataclass(frozen=True)
class Source:
    """What makes up a dataset.

    Args:
        folder: below the data root, as in CoOp's layout.
        archives: to unpack; a file that is no archive is kept as it is.
        top: the folder in the archives that becomes `folder`; empty where that is all they hold.
        then: an archive inside the first one, to be unpacked as well.
    """

    folder: str
    archives: tuple[Archive, ...]
    top: str = ""
    then: str = ""


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
_HUB = "https://huggingface.co/datasets"

# Addresses and checksums as in torchvision.datasets (Flowers102, DTD, OxfordIIITPet, Caltech101, Food101, SUN397,
# FGVCAircraft, EuroSAT) and on the pages of the variants of ImageNet.
SOURCES: dict[str, Source] = {
    "imagenet_a": Source(
        "imagenet-adversarial/imagenet-a",
        (Archive(f"{_HENDRYCKS}/imagenet-a.tar", "c3e55429088dc681f30d81f4726b6595"),),
        "imagenet-a",
    ),
    "imagenet_v2": Source(
        "imagenetv2/imagenetv2-matched-frequency-format-val",
        (Archive(f"{_HUB}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz"),),
        "imagenetv2-matched-frequency-format-val",
    ),
    "imagenet_r": Source(
        "imagenet-rendition/imagenet-r",
        (Archive(f"{_HENDRYCKS}/imagenet-r.tar", "a61312130a589d0ca1a8fca1f2bd3337"),),
        "imagenet-r",
    ),
    "imagenet_sketch": Source(
        "imagenet-sketch", (Archive(f"{_HUB}/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"),)
    ),
    "flowers102": Source(
        "oxford_flowers",
        (
            Archive(f"{_VGG}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            Archive(f"{_VGG}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
            Archive(f"{_VGG}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
    ),
    "dtd": Source(
        "dtd", (Archive(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1"),), "dtd"
    ),
    "oxford_pets": Source(
        "oxford_pets",
        (
            Archive(f"{_VGG}/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Archive(f"{_VGG}/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
    ),
    "caltech101": Source(
        "caltech-101",
        (
            Archive(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
            ),
        ),
        "caltech-101",
        then="caltech-101/101_ObjectCategories.tar.gz",
    ),
    "food101": Source(
        "food-101",
        (Archive("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87"),),
        "food-101",
    ),
    "sun397": Source(
        "sun397",
        (
            Archive("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz", "8ca2778205c41d23104230ba66911c7a"),
            Archive("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip"),
        ),
    ),
    "fgvc_aircraft": Source(
        "fgvc_aircraft",
        (Archive(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"),),
        "fgvc-aircraft-2013b",
    ),
    "eurosat": Source(
        "eurosat",
        (
            Archive(
                f"{_HUB}/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "c8fa014336c82ac7804f0398fcb19387",
            ),
        ),
    ),
}


def fetch(key: str, root: Path) -> Path:
    """Downloads and unpacks one dataset, and gives its folder.

    What was downloaded before an interruption is continued.  The dataset's folder appears when everything in it is
    there; archives wait in `<root>/.downloads` and are removed then.

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
    source, downloads = SOURCES[key], root / ".downloads"
    target = root / source.folder
    there = [root / f for f in CATALOG[key].folders if (root / f).is_dir() and any((root / f).iterdir())]
    if there:
        raise DataError(f"Expected no {CATALOG[key].title} below {root}, found {there[0]}; remove it to fetch again.")
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(downloads / f"{key}.lock", timeout=0):
            files = [download(archive, downloads) for archive in source.archives]
            _unpack_into(target, files, source, downloads / f"{key}.unpacking")
    except Timeout as error:
        raise DataError(f"Expected one download of {key} at a time, but another process is at it; wait for it.") from (
            error
        )
    except OSError as error:
        raise DataError(f"Expected to write {key} below {root}, but {error}; mend that and run again.") from error
    for file in files:
        file.unlink()
    return target


def download(archive: Archive, folder: Path) -> Path:
    """The archive as a file in `folder`, whole and checked; continues what an earlier call began.

    Raises:
        DataError: no connection, or another checksum or length than expected.
    """
    final, partial = folder / archive.name, folder / f"{archive.name}.part"
    if final.is_file():
        return final
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(archive.name, total=None)
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(2.0**attempt, 30.0) * RETRY_FACTOR)
            try:
                _continue(archive.url, partial, progress, task)
                break
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise DataError(f"Expected {archive.url}, but its server says {error.code}; see `check`.") from (
                        error
                    )
                reason: Exception = error
            except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
                reason = error
            log.warning("%s: %s; trying again.", archive.name, reason)
        else:
            had = partial.stat().st_size if partial.is_file() else 0
            raise DataError(
                f"Expected to download {archive.url}, but the connection failed {ATTEMPTS} times ({reason}); the first "
                f"{had:,} bytes are kept, run again to continue."
            )
    _check(archive, partial)
    return partial.replace(final)


RETRY_FACTOR = 1.0  # of the seconds between two attempts


def _continue(url: str, partial: Path, progress: Progress, task: object) -> None:
    """Appends what is missing; starts again where the server cannot continue or its file is another one by now."""
    tag_file = partial.with_suffix(".tag")
    have = partial.stat().st_size if partial.is_file() else 0
    headers = {"User-Agent": "tpt"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag_file.is_file():
            headers["If-Range"] = tag_file.read_text()
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing is missing; the checksum decides
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            tag_file.write_text(tag)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress.update(task, total=total, completed=have)  # type: ignore[arg-type]
        with partial.open("ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                progress.advance(task, len(block))  # type: ignore[arg-type]
            size = file.tell()
    if total is not None and size < total:
        raise ConnectionError(f"{size:,} of {total:,} bytes came")
    tag_file.unlink(missing_ok=True)


def _check(archive: Archive, file: Path) -> None:
    if archive.md5 is None:
        log.warning("%s: its publishers name no checksum, so only its length was checked.", archive.name)
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "md5").hexdigest()
    if found != archive.md5:
        file.unlink()
        raise DataError(
            f"Expected {archive.name} with MD5 {archive.md5}, got {found}; it was removed, so run again, or get the "
            "dataset by hand if its publishers have changed it."
        )


def _unpack_into(target: Path, files: list[Path], source: Source, staging: Path) -> None:
    """Everything beside the target first, then the target in one move."""
    shutil.rmtree(staging, ignore_errors=True)  # left by an interruption
    staging.mkdir()
    for file in files:
        _unpack(file, staging)
    if source.then:
        inner = staging / source.then
        _unpack(inner, inner.parent)
        inner.unlink()
    whole = staging / source.top
    if not whole.is_dir():
        raise DataError(f"Expected a folder {source.top} in {files[0].name}, found none; get the dataset by hand.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target.rmdir()  # an empty one
    whole.replace(target)
    shutil.rmtree(staging, ignore_errors=True)


def _unpack(file: Path, folder: Path) -> None:
    """An archive's files; members that would leave `folder` are refused.  Anything else is copied."""
    try:
        if tarfile.is_tarfile(file):
            with tarfile.open(file) as archive:
                archive.extractall(folder, filter="data")
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive_zip:
                _refuse_escapes(archive_zip, folder)
                archive_zip.extractall(folder)
        else:
            shutil.copy2(file, folder / file.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        file.unlink(missing_ok=True)
        raise DataError(
            f"Expected a whole archive in {file.name}, but unpacking failed ({error}); it was removed, run again."
        ) from error


def _refuse_escapes(archive: zipfile.ZipFile, folder: Path) -> None:
    inside = folder.resolve()
    for name in archive.namelist():
        if not (inside / name).resolve().is_relative_to(inside):
            raise zipfile.BadZipFile(f"{name!r} would leave its folder")
