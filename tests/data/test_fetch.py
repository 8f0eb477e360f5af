"""Downloads of torchvision's classes and of archives, from a server on loopback, leave a whole dataset or nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import torchvision.datasets.utils as torchvision_utils
from filelock import FileLock

from tests.data.file_server import FileServer, serve
from tests.own_lists import write_own_lists
from tests.paper_tree import SPLITS, paper_tree
from tpt.cli.programs.data import main
from tpt.data import fetch as fetch_module
from tpt.data import read_entry
from tpt.data.catalog import PAPER
from tpt.data.fetch import FREE, _archive, by_hand, fetch
from tpt.errors import DataError

# Archives of each dataset as published: name -> (folder of the miniature, its files and folders in the archive, folder
# in the archive).
Parts = dict[str, tuple[str, tuple[str, ...], str]]
PUBLISHED: dict[str, Parts] = {
    "imagenet_a": {"imagenet-a.tar": ("imagenet-adversarial", ("imagenet-a",), "")},
    "imagenet_r": {"imagenet-r.tar": ("imagenet-rendition", ("imagenet-r",), "")},
    "imagenet_v2": {
        "imagenetv2-matched-frequency.tar.gz": ("imagenetv2", ("imagenetv2-matched-frequency-format-val",), "")
    },
    "imagenet_sketch": {"ImageNet-Sketch.zip": ("imagenet-sketch/images", (".",), "sketch")},
    "flowers102": {
        "102flowers.tgz": ("oxford_flowers", ("jpg",), ""),
        "imagelabels.mat": ("oxford_flowers", ("imagelabels.mat",), ""),
        "setid.mat": ("oxford_flowers", ("setid.mat",), ""),
    },
    "dtd": {"dtd-r1.0.1.tar.gz": ("dtd", ("images", "labels"), "dtd")},
    "oxford_pets": {
        "images.tar.gz": ("oxford_pets", ("images",), ""),
        "annotations.tar.gz": ("oxford_pets", ("annotations",), ""),
    },
    "caltech101": {"caltech-101.zip": ("caltech-101", ("101_ObjectCategories.tar.gz",), "caltech-101")},
    "food101": {"food-101.tar.gz": ("food-101", ("images", "meta"), "food-101")},
    "sun397": {
        "SUN397.tar.gz": ("sun397/SUN397", (".",), "SUN397"),
        "Partitions.zip": ("sun397", ("ClassName.txt", "Testing_01.txt"), ""),
    },
    "fgvc_aircraft": {"fgvc-aircraft-2013b.tar.gz": ("fgvc_aircraft/data", (".",), "fgvc-aircraft-2013b/data")},
    "eurosat": {"EuroSAT.zip": ("eurosat", ("2750",), "")},
}


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def packed(name: str, files: dict[str, bytes]) -> bytes:
    if name.endswith(".mat"):
        return next(iter(files.values()))
    return zipped(files) if name.endswith(".zip") else tar(files, "w" if name.endswith(".tar") else "w:gz")


def inside(folder: Path, parts: tuple[str, ...], prefix: str = "") -> dict[str, bytes]:
    files = [f for part in parts for f in [folder / part, *(folder / part).rglob("*")] if f.is_file()]
    return {(PurePosixPath(prefix) / f.relative_to(folder)).as_posix(): f.read_bytes() for f in files}


def add_what_torchvision_reads(key: str, tree: Path) -> None:
    """Adds the lists of the training sets, which torchvision's classes read after the download."""
    match key:
        case "dtd":
            shutil.copy(tree / "dtd/labels/test1.txt", tree / "dtd/labels/train1.txt")
            (tree / "dtd/labels/train1.txt").write_text("banded/banded_0001.jpg\n")
        case "oxford_pets":
            (tree / "oxford_pets/annotations/trainval.txt").write_text("Abyssinian_1 1 1 1\n")
        case "food101":
            (tree / "food-101/meta/train.json").write_text(json.dumps({"apple_pie": ["apple_pie/1"]}))
        case "sun397":
            shutil.copy(tree / "sun397/ClassName.txt", tree / "sun397/SUN397/ClassName.txt")
        case "fgvc_aircraft":
            (tree / "fgvc_aircraft/data/images_variant_trainval.txt").write_text("001 A330-200\n")
        case "caltech101":
            inner = inside(tree / "caltech-101", ("101_ObjectCategories",))
            (tree / "caltech-101/101_ObjectCategories.tar.gz").write_bytes(tar(inner))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that answers requests to any address with the file of that name; nothing leaves this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    opened = urllib.request.urlopen

    def here(request: urllib.request.Request, **settings: Any) -> Any:
        name = PurePosixPath(urlsplit(request.full_url).path).name
        return opened(urllib.request.Request(f"{state.url}/{name}"), **settings)

    monkeypatch.setattr(urllib.request, "urlopen", here)
    with serve() as state:
        yield state


Publish = Callable[..., None]


@pytest.fixture
def publish(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """(content, name, md5=...): offers an archive as ImageNet-A."""

    def offer(content: bytes, name: str = "imagenet-a.tar.gz", md5: str | None = "") -> None:
        server.files[name] = content
        md5 = hashlib.md5(content).hexdigest() if md5 == "" else md5
        monkeypatch.setitem(FREE, "imagenet_a", ("imagenet-a", _archive(f"https://a.invalid/{name}", md5)))

    return offer


PICTURES = {"imagenet-a/n01498041/a.jpg": os.urandom(5000), "imagenet-a/README.txt": b"all of it"}


def fetched(root: Path) -> bool:
    folder = root / "imagenet-a"
    return folder.is_dir() and {f"imagenet-a/{k}": v for k, v in inside(folder, (".",)).items()} == PICTURES


def nothing_is_left(root: Path) -> bool:
    return not (root / "imagenet-a").exists() and not list(root.rglob("*.jpg")) and not list(root.rglob("*.tar*"))


@pytest.mark.parametrize("key", FREE)
def test_a_fetched_dataset_can_be_read(
    key: str, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetched dataset is complete, and its archives are deleted."""
    tree, root = paper_tree(tmp_path / "made", layout=1, keys=[key]), tmp_path / "data"
    if key in SPLITS and key not in ("caltech101", "eurosat"):  # these two have no lists of their own
        write_own_lists(key, tree, layout=1)
    add_what_torchvision_reads(key, tree)
    for name, (folder, parts, prefix) in PUBLISHED[key].items():
        server.files[name] = packed(name, inside(tree / folder, parts, prefix))
    monkeypatch.setattr(
        torchvision_utils, "check_md5", lambda path, md5: Path(path).is_file()
    )  # miniatures have other checksums
    (root / "splits").mkdir(parents=True)
    for split in (f for k in ("caltech101", "eurosat") for f in tree.rglob(SPLITS[k].file)):
        shutil.copy(split, root / "splits")
    folder = fetch(key, root)
    found, made = read_entry(key, root), read_entry(key, tree)
    assert found.store.root.is_relative_to(folder) and not [*folder.glob("*.gz"), *folder.glob("*.zip")]
    assert found.labels() == made.labels()
    assert found.class_names == made.class_names or (key, len(found.class_names)) == (
        "flowers102",
        102,
    )  # torchvision's names
    assert [found.content(n) for n in range(0, len(found), 7)] == [made.content(n) for n in range(0, len(made), 7)]
    with pytest.raises(DataError, match="is already in .*; move it away"):
        fetch(key, root)


def test_a_wrong_checksum(server: FileServer, tmp_path: Path) -> None:
    """torchvision refuses an archive without the published checksum."""
    server.files["dtd-r1.0.1.tar.gz"] = tar({"dtd/images/banded/a.jpg": b"a"})
    with pytest.raises(DataError, match=r"Cannot read the download of Describable Textures .*corrupted.*Nothing of it"):
        fetch("dtd", tmp_path)
    assert not (tmp_path / "dtd").exists() and not list((tmp_path / ".downloads").rglob("dtd-*"))


@pytest.mark.parametrize("md5", ["", None])
@pytest.mark.parametrize("name", ["imagenet-a.tar.gz", "imagenet-a.tar", "imagenet-a.zip"])
def test_a_broken_connection(name: str, md5: str | None, server: FileServer, publish: Publish, tmp_path: Path) -> None:
    """A partial download is never used, with or without a checksum; the next download starts again."""
    content = packed(name, PICTURES)
    publish(content, name, md5)
    server.cut = len(content) // 2
    with pytest.raises(DataError, match="Cannot read the download of ImageNet-A"):
        fetch("imagenet_a", tmp_path)
    assert nothing_is_left(tmp_path)
    server.cut = None
    fetch("imagenet_a", tmp_path)
    assert fetched(tmp_path)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_server_that_refuses(status: int, server: FileServer, publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    server.status = status
    with pytest.raises(DataError, match=rf"\(HTTP Error {status}: .*by hand from https://github.com/hendrycks"):
        fetch("imagenet_a", tmp_path)
    assert nothing_is_left(tmp_path)


def test_no_server_at_all(server: FileServer, publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    server.url = "http://127.0.0.1:9"
    with pytest.raises(DataError, match=r"Cannot read the download of .*refused"):
        fetch("imagenet_a", tmp_path)


def link(target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("imagenet-a/link")
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    return buffer.getvalue()


@pytest.fixture(params=["", "before Python 3.11.4"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This Python, and one whose tarfile module cannot filter what it extracts."""
    if request.param:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<html>Sorry</html>" * 100, "imagenet-a.tar.gz"),
        (b"<html>Sorry</html>" * 100, "imagenet-a.zip"),
        (tar({"other/a.jpg": b"a"}), "imagenet-a.tar.gz"),
        (tar({"imagenet-a/a.jpg": b"a", "../outside.jpg": b"a"}), "imagenet-a.tar.gz"),
        (tar({"imagenet-a/../../outside.jpg": b"a"}), "imagenet-a.tar.gz"),
        (link("/etc"), "imagenet-a.tar.gz"),
        (link("../../../outside"), "imagenet-a.tar.gz"),
        (zipped({"../outside.jpg": b"a"}), "imagenet-a.zip"),
    ],
    ids=["page.tar.gz", "page.zip", "other", "up", "down and up", "link", "link up", "zip up"],
)
def test_a_wrong_archive_is_refused(content: bytes, name: str, publish: Publish, tmp_path: Path) -> None:
    """The checksum is correct, so only the content of the archive can be the reason."""
    publish(content, name)
    with pytest.raises(DataError, match="Cannot read the download of ImageNet-A"):
        fetch("imagenet_a", tmp_path / "data")
    assert nothing_is_left(tmp_path / "data") and not list(tmp_path.rglob("outside*"))


@pytest.mark.usefixtures("python")
def test_a_complete_archive_is_unpacked(publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    before = tarfile.TarFile.extractall
    fetch("imagenet_a", tmp_path)
    assert fetched(tmp_path) and tarfile.TarFile.extractall is before


def test_a_killed_download(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a killed download are not used as a dataset; the next download starts again."""
    publish(tar(PICTURES))
    half = tmp_path / ".downloads" / "imagenet_a" / "imagenet-a"
    half.mkdir(parents=True)
    (half / "half.jpg").write_bytes(b"half")
    with pytest.raises(DataError, match="there is no folder"):
        read_entry("imagenet_a", tmp_path)
    (tmp_path / "imagenet-a").mkdir()  # an empty folder is no obstacle
    fetch("imagenet_a", tmp_path)
    assert fetched(tmp_path)


def test_a_full_disk_is_reported(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tar(PICTURES))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torchvision_utils, "_urlretrieve", full)
    with pytest.raises(DataError, match=r"Cannot read the download of .* into .*No space left on device"):
        fetch("imagenet_a", tmp_path)
    assert nothing_is_left(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot read the download of"):
        fetch("imagenet_a", tmp_path / "file")


def test_one_process_at_a_time(publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    (tmp_path / ".downloads").mkdir()
    lock = FileLock(tmp_path / ".downloads" / "imagenet_a.lock")
    with lock, pytest.raises(DataError, match="Another process is already downloading imagenet_a"):
        fetch("imagenet_a", tmp_path)
    fetch("imagenet_a", tmp_path)
    assert fetched(tmp_path)


def test_the_command(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the dataset's row and how to get the split file; without a terminal, no progress bar."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(torchvision_utils, "check_md5", lambda *_: True)
    tree = paper_tree(tmp_path / "made", layout=1, keys=["dtd"])
    write_own_lists("dtd", tree, layout=1)
    add_what_torchvision_reads("dtd", tree)
    server.files["dtd-r1.0.1.tar.gz"] = tar(inside(tree / "dtd", ("images", "labels"), "dtd"))
    assert main(["fetch", "dtd", "--root", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert f"dtd: in {tmp_path / 'dtd'}" in out and err == "" and "%" not in out
    assert f"cd {tmp_path} && gdown" in out and "-O dtd/split_zhou_DescribableTextures.json" in out
    assert "own: dtd/labels/test1.txt" in out and "6 / 1692" in out
    assert main(["fetch", "dtd", "--root", str(tmp_path)]) == 1
    assert "Error: Describable Textures is already in" in capsys.readouterr().err
    assert main(["fetch", "stanford_cars", "--root", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "Error: Stanford Cars cannot be downloaded without an account or a browser" in err
    assert "kaggle datasets download" in out and "stanford_cars/split_zhou_StanfordCars.json" in out


def test_every_dataset_is_free_or_has_a_command(tmp_path: Path) -> None:
    """Downloads and commands put the dataset and its split file where the catalog looks."""
    assert {*FREE} == {*PUBLISHED}
    for key, entry in PAPER.items():
        assert key not in FREE or FREE[key][0] in entry.folders
        assert key in FREE or by_hand(key, tmp_path)
        split = [command for command in by_hand(key, tmp_path) if "split_zhou" in command]
        assert len(split) == (entry.layout == "split")
        assert all(c.endswith(f" {f}/{entry.split}") for c in split for f in [FREE.get(key, (key,))[0]])
        assert FREE.get(key, (key,))[0].split("/")[0] in entry.folders or key == "imagenet"


def test_limits_apply_only_during_the_download(publish: Publish, tmp_path: Path) -> None:
    import socket

    publish(tar(PICTURES))
    fetch("imagenet_a", tmp_path)
    assert socket.getdefaulttimeout() is None and tarfile.TarFile.extraction_filter is None
    assert fetch_module.TIMEOUT_S > 0
