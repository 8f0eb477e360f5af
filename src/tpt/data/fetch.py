"""Downloads the free datasets through torchvision, and lists the commands to get the others."""

from __future__ import annotations

import io
import shlex
import shutil
import socket
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from tpt.data.catalog import CATALOG, find_all
from tpt.errors import DataError
from tpt.files import readable, why_no_lock

TIMEOUT_S = 60.0  # without data from the server
_HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
_HUB = "https://huggingface.co/datasets"
_SUN = "https://vision.princeton.edu/projects/2010/SUN/download"

Get = Callable[[Path], object]


def _archive(url: str, md5: str | None = None, inside: str = "") -> Get:
    """Downloads an archive from its address; `md5` is None if its publishers give no checksum."""
    return lambda folder: download_and_extract_archive(url, str(folder), str(folder / inside), md5=md5)


def _sun397(folder: Path) -> None:
    """Downloads the images through torchvision, and the lists of the test sets, which torchvision does not have."""
    _archive(f"{_SUN}/Partitions.zip", inside="lists")(folder)
    datasets.SUN397(folder, download=True)
    (folder / "lists").replace(folder / "SUN397" / "Partitions")


# The folder of each dataset, as named by torchvision or the archive, and how to get it: by a torchvision class, which
# then reads the files as a check, or from an address and with a checksum of the dataset's own page.
FREE: dict[str, tuple[str, Get]] = {
    "imagenet_a": ("imagenet-a", _archive(f"{_HENDRYCKS}/imagenet-a.tar", "c3e55429088dc681f30d81f4726b6595")),
    "imagenet_v2": (
        "imagenetv2-matched-frequency-format-val",
        _archive(f"{_HUB}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz"),
    ),
    "imagenet_r": ("imagenet-r", _archive(f"{_HENDRYCKS}/imagenet-r.tar", "a61312130a589d0ca1a8fca1f2bd3337")),
    "imagenet_sketch": (
        "imagenet-sketch",
        _archive(f"{_HUB}/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip", inside="imagenet-sketch"),
    ),
    "flowers102": ("flowers-102", partial(datasets.Flowers102, download=True)),
    "dtd": ("dtd", partial(datasets.DTD, download=True)),
    "oxford_pets": ("oxford-iiit-pet", partial(datasets.OxfordIIITPet, download=True)),
    "caltech101": ("caltech101", partial(datasets.Caltech101, download=True)),
    "food101": ("food-101", partial(datasets.Food101, download=True)),
    "sun397": ("SUN397", _sun397),
    "fgvc_aircraft": ("fgvc-aircraft-2013b", partial(datasets.FGVCAircraft, download=True)),
    "eurosat": ("eurosat", partial(datasets.EuroSAT, download=True)),
}

# Commands for the other datasets, to run in the folder of all datasets.
_COMMANDS = {
    "imagenet": "python -c \"import torchvision; torchvision.datasets.ImageNet('imagenet', 'val')\" "
    "# once ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz lie in imagenet/",
    "stanford_cars": "kaggle datasets download -d jessicali9530/stanford-cars-dataset --unzip -p stanford_cars",
    "ucf101": "mkdir -p ucf101 && gdown 10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O -O ucf101/frames.zip && "
    "unzip -q ucf101/frames.zip -d ucf101",
}
_SPLITS = {  # CoOp's split files on its Google Drive, from its DATASETS.md
    "caltech101": "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
    "oxford_pets": "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
    "stanford_cars": "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
    "flowers102": "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
    "food101": "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
    "sun397": "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq",
    "dtd": "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
    "eurosat": "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
    "ucf101": "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
}


def by_hand(key: str, root: Path) -> list[str]:
    """The commands to get what `fetch` cannot download: the dataset or CoOp's split of it."""
    found = [_COMMANDS[key]] if key in _COMMANDS else []
    if key in _SPLITS:
        folder = FREE[key][0] if key in FREE else key
        found.append(f"gdown {_SPLITS[key]} -O {folder}/{CATALOG[key].split}")
    return [f"cd {shlex.quote(str(root))} && {command}" for command in found]


def fetch(key: str, root: Path) -> Path:
    """Downloads and unpacks one dataset and returns its folder.

    The files are unpacked in `<root>/.downloads/<key>`, which is removed at the end and before a new download; the
    complete folder is then moved to its place.  Raises a DataError.
    """
    entry, downloads = CATALOG[key], root / ".downloads"
    if key not in FREE:
        raise DataError(f"{entry.title} cannot be downloaded without an account or a browser; see {entry.source}.")
    if there := find_all(entry, root):
        raise DataError(f"{entry.title} is already in {there[0]}; move it away to download it again.")
    way_out = f"Nothing of it was kept: run again, or get it by hand from {entry.source}"
    with readable(f"the download of {entry.title} into {root}", way_out):
        downloads.mkdir(parents=True, exist_ok=True)
        lock = downloads / f"{key}.lock"
        try:
            with FileLock(lock, timeout=0) if why_no_lock(lock) is None else nullcontext():
                return _fetch(*FREE[key], root, downloads / key)
        except Timeout as error:
            raise DataError(f"Another process is already downloading {key} into {root}; wait for it.") from error


def _fetch(folder: str, get: Get, root: Path, staging: Path) -> Path:
    shutil.rmtree(staging, ignore_errors=True)  # left by a process that was killed
    staging.mkdir()
    try:
        with _careful():
            get(staging)
        for file in (staging / folder).iterdir():
            if file.suffix in (".gz", ".tgz", ".tar", ".zip"):
                file.unlink()
        if (root / folder).is_dir():
            (root / folder).rmdir()  # it is empty
        return (staging / folder).replace(root / folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


_extractall = tarfile.TarFile.extractall


def _extract_plain(archive: tarfile.TarFile, *args: Any, **settings: Any) -> None:
    """Extracts an archive whose members are all files and folders inside it; a TarError for any other."""
    for member in archive:
        path = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.TarError(f"{member.name} is a link, or lies outside the archive")
    _extractall(archive, *args, **settings)


@contextmanager
def _careful() -> Iterator[None]:
    """Sets a time limit, hides the progress bar in log files, and stops archives from writing outside their folder."""
    timeout, careful = socket.getdefaulttimeout(), getattr(tarfile, "data_filter", None)
    socket.setdefaulttimeout(TIMEOUT_S)
    if careful is None:  # Python before 3.11.4, such as Debian 12's
        tarfile.TarFile.extractall = _extract_plain  # type: ignore[assignment, method-assign]
    else:
        tarfile.TarFile.extraction_filter = staticmethod(careful)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(timeout)
        tarfile.TarFile.extraction_filter = None
        tarfile.TarFile.extractall = _extractall  # type: ignore[method-assign]
