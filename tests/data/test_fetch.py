"""Downloads from a server on loopback: whole, resumed, refused, never half in place."""

from __future__ import annotations

import errno
import hashlib
import inspect
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torchvision.datasets as tv
from filelock import FileLock

from tests.data.file_server import FileServer, serve
from tests.own_lists import write_own_lists
from tests.paper_tree import paper_tree
from tpt.cli.programs.data import main
from tpt.data import download as download_module
from tpt.data import fetch as fetch_module
from tpt.data import read_entry
from tpt.data.catalog import CATALOG
from tpt.data.download import progress_bar
from tpt.data.fetch import fetch
from tpt.data.sources import SOURCES, Archive, Source
from tpt.errors import DataError

Publish = Callable[..., None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module, "PAUSE_S", 0.001)
    with serve() as state:
        yield state


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


@pytest.fixture
def publish(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """(content, name, md5=..., top=..., then=...): what the server has of DTD."""

    def offer(content: bytes, name: str = "dtd.tar.gz", md5: str | None = "", top: str = "dtd", then: str = "") -> None:
        server.files[f"/{name}"] = content
        md5 = hashlib.md5(content).hexdigest() if md5 == "" else md5
        source = Source("dtd", (Archive(f"{server.url}/{name}", md5),), top, then)
        monkeypatch.setitem(SOURCES, "dtd", source)

    return offer


PICTURES = {"dtd/images/banded/banded_0001.jpg": os.urandom(5000), "dtd/labels/test1.txt": b"banded/banded_0001.jpg\n"}


def fetched(root: Path) -> bool:
    """Whether DTD is there as published, and nothing is left over; False where nothing of it is in its place."""
    assert not (root / "DTD").exists()
    if not (root / "dtd").exists():
        return False
    assert {f"dtd/{p.relative_to(root / 'dtd')}" for p in (root / "dtd").rglob("*.*")} == set(PICTURES)
    assert all((root / name).read_bytes() == content for name, content in PICTURES.items())
    assert [p.name for p in (root / ".downloads").iterdir() if p.is_dir()] == []
    return True


@pytest.fixture(params=["with filters", "without"])
def filters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python whose tarfile refuses what leads outside, and one before 3.11.4."""
    if request.param == "without":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("filters")
@pytest.mark.parametrize("name", ["dtd.tar.gz", "dtd.tar", "dtd.zip"])
def test_a_download_is_unpacked_in_its_place(name: str, publish: Publish, tmp_path: Path) -> None:
    make = {"dtd.tar.gz": tar, "dtd.tar": lambda f: tar(f, "w"), "dtd.zip": zipped}[name]
    publish(make(PICTURES), name)
    assert fetch("dtd", tmp_path / "new root") == tmp_path / "new root" / "dtd"
    assert fetched(tmp_path / "new root")


def test_broken_connections_are_continued(server: FileServer, publish: Publish, tmp_path: Path) -> None:
    """More often than the attempts in vain that are allowed, since each brings something."""
    publish(tar(PICTURES))
    server.cuts = [500] * 8
    fetch("dtd", tmp_path)
    assert fetched(tmp_path)
    assert [asked for _, asked, _ in server.seen] == ["", *(f"bytes={500 * k}-" for k in range(1, 9))]
    assert {version for _, _, version in server.seen[1:]} == {'"one"'}


@pytest.mark.parametrize("md5", ["", None], ids=["checksum", "no checksum"])
def test_a_second_call_continues_the_first(
    server: FileServer, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, md5: str | None
) -> None:
    publish(tar(PICTURES), md5=md5)
    monkeypatch.setattr(download_module, "ATTEMPTS", 1)
    server.cuts = [700, 0]
    with pytest.raises(
        DataError, match=r"failed 1 times \(0 of .* bytes came|failed 1 times .*the first 700 bytes are"
    ):
        fetch("dtd", tmp_path)
    assert not fetched(tmp_path)
    fetch("dtd", tmp_path)
    assert fetched(tmp_path) and server.seen[-1][1:] == ("bytes=700-", '"one"')


def test_a_server_without_ranges_starts_again(server: FileServer, publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    server.cuts, server.ranges = [500, 900], False
    fetch("dtd", tmp_path)
    assert fetched(tmp_path)
    server.cuts = [500] * 20  # never gets further
    (tmp_path / "dtd").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="the connection failed 5 times"):
        fetch("dtd", tmp_path)


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_in_between_is_not_mixed(
    server: FileServer, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honours_if_range: bool
) -> None:
    publish(tar({"dtd/old.jpg": os.urandom(9000)}), md5=None)
    monkeypatch.setattr(download_module, "ATTEMPTS", 1)
    server.cuts = [700, 0]
    with pytest.raises(DataError, match="the connection failed"):
        fetch("dtd", tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(download_module, "PAUSE_S", 0.001)
    server.etag, server.honours_if_range = '"two"', honours_if_range
    with pytest.MonkeyPatch.context() as patch:
        server.files["/dtd.tar.gz"] = tar(PICTURES)
        patch.setitem(SOURCES, "dtd", Source("dtd", (Archive(f"{server.url}/dtd.tar.gz"),), "dtd"))
        fetch("dtd", tmp_path)
    assert fetched(tmp_path)


def test_without_version_and_checksum_nothing_is_continued(
    server: FileServer, publish: Publish, tmp_path: Path
) -> None:
    publish(tar(PICTURES), md5=None)
    server.cuts, server.etag = [500], ""
    fetch("dtd", tmp_path)
    assert fetched(tmp_path) and [asked for _, asked, _ in server.seen] == ["", ""]


def test_all_bytes_were_there(server: FileServer, publish: Publish, tmp_path: Path) -> None:
    """Ended between the last byte and the check: the server says 416, the checksum decides."""
    content = tar(PICTURES)
    publish(content)
    folder = tmp_path / ".downloads" / "dtd"
    folder.mkdir(parents=True)
    (folder / "dtd.tar.gz.part").write_bytes(content)
    fetch("dtd", tmp_path)
    assert fetched(tmp_path) and len(server.seen) == 1


def test_a_wrong_checksum_is_removed(publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES), md5="0" * 32)
    with pytest.raises(DataError, match=r"Expected dtd\.tar\.gz with MD5 0{32}, got [0-9a-f]{32}; it was removed"):
        fetch("dtd", tmp_path)
    assert not fetched(tmp_path) and not list((tmp_path / ".downloads").rglob("dtd.tar.gz*"))


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_gone_is_not_tried_again(
    server: FileServer, publish: Publish, tmp_path: Path, status: int
) -> None:
    publish(tar(PICTURES))
    server.statuses = [status] * 9
    with pytest.raises(DataError, match=rf"its server says {status} .*; get the dataset by hand"):
        fetch("dtd", tmp_path)
    assert len(server.seen) == 1 and not fetched(tmp_path)


def test_a_busy_server_is_tried_again(server: FileServer, publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    server.statuses = [503, 429, 500]
    fetch("dtd", tmp_path)
    assert fetched(tmp_path)


def test_no_server_at_all(
    server: FileServer, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "dtd", Source("dtd", (Archive("http://127.0.0.1:9/x.tar"),), "dtd"))
    with pytest.raises(DataError, match=r"the connection failed 5 times \(.*refused.*\); the first 0 bytes are kept"):
        fetch("dtd", tmp_path)


# What stands in a web page, an archive cut short, one without the folder, and ones that would leave it.
def link(target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("dtd/link")
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.usefixtures("filters")
@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"<html>Sorry</html>" * 100, "dtd.tar.gz", "unpacking failed"),
        (b"<html>Sorry</html>" * 100, "dtd.zip", "unpacking failed"),
        (tar(PICTURES)[:-3000], "dtd.tar.gz", "unpacking failed"),
        (zipped(PICTURES)[:-30], "dtd.zip", "unpacking failed"),
        (tar({"other/a.jpg": b"a"}), "dtd.tar.gz", "Expected dtd in dtd.tar.gz, found none"),
        (tar({"../outside.jpg": b"a"}), "dtd.tar.gz", "unpacking failed .*outside"),
        (tar({"dtd/../../outside.jpg": b"a"}), "dtd.tar.gz", "unpacking failed .*outside"),
        (link("/etc"), "dtd.tar.gz", "unpacking failed .*link"),
        (link("../../../outside"), "dtd.tar.gz", "unpacking failed .*outside"),
        (zipped({"../outside.jpg": b"a"}), "dtd.zip", "'../outside.jpg' would leave its folder"),
        (zipped({"/tmp/outside.jpg": b"a"}), "dtd.zip", "would leave its folder"),
    ],
    ids=["page.tar.gz", "page.zip", "cut.tar.gz", "cut.zip", "other", "up", "down and up", "link", "link up",
         "zip up", "zip absolute"],
)  # fmt: skip
def test_what_is_no_such_archive_is_refused(
    content: bytes, name: str, message: str, publish: Publish, tmp_path: Path
) -> None:
    """With a checksum of those very bytes, so that it is the archive that is looked at."""
    publish(content, name)
    with pytest.raises(DataError, match=message):
        fetch("dtd", tmp_path / "data")
    assert not fetched(tmp_path / "data") and not list(tmp_path.rglob("outside*"))


def test_a_page_without_checksum_is_no_dataset(publish: Publish, tmp_path: Path) -> None:
    """Where the archive itself is the folder, nothing but the archive's format tells."""
    publish(b"<html>Sorry</html>", "dtd.zip", md5=None, top="")
    with pytest.raises(DataError, match="Expected a whole archive in dtd.zip"):
        fetch("dtd", tmp_path)
    assert not fetched(tmp_path)


def test_an_archive_in_the_archive(publish: Publish, tmp_path: Path) -> None:
    inner = tar({name.removeprefix("dtd/"): content for name, content in PICTURES.items()})
    publish(zipped({"dtd/inner.tar.gz": inner}), "dtd.zip", then="dtd/inner.tar.gz")
    fetch("dtd", tmp_path)
    assert fetched(tmp_path)


def test_killed_while_unpacking(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tar(PICTURES))
    whole = fetch_module._unpack

    def ends(file: Path, folder: Path) -> None:
        whole(file, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_module, "_unpack", ends)
    with pytest.raises(KeyboardInterrupt):
        fetch("dtd", tmp_path)
    assert not fetched(tmp_path) and list((tmp_path / ".downloads" / "dtd").rglob("banded_0001.jpg"))
    with pytest.raises(DataError, match="found no such folder"):
        read_entry("dtd", tmp_path)
    monkeypatch.setattr(fetch_module, "_unpack", whole)
    fetch("dtd", tmp_path)
    assert fetched(tmp_path)


def test_a_full_disk_is_said(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tar(PICTURES))
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"Expected [\d,]+ bytes free in .* for dtd\.tar\.gz, got 10; make room"):
        fetch("dtd", tmp_path)
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch_module, "_fetch", full)
    with pytest.raises(DataError, match=r"Expected to write dtd below .*No space left on device; mend that and run"):
        fetch("dtd", tmp_path)


def test_a_root_that_is_a_file(publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Expected to write dtd below"):
        fetch("dtd", tmp_path / "file")


def test_one_process_at_a_time(publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    (tmp_path / ".downloads").mkdir()
    with FileLock(tmp_path / ".downloads" / "dtd.lock"), pytest.raises(DataError, match="another process is at it"):
        fetch("dtd", tmp_path)
    fetch("dtd", tmp_path)
    assert fetched(tmp_path)


def test_what_is_there_is_left_alone(publish: Publish, tmp_path: Path) -> None:
    publish(tar(PICTURES))
    (tmp_path / "dtd").mkdir()  # empty: in nobody's way
    fetch("dtd", tmp_path)
    (tmp_path / ".downloads" / "dtd").mkdir()  # as left where a process ended after the move
    with pytest.raises(DataError, match=r"Expected no Describable Textures below .*, found .*/dtd; move it away"):
        fetch("dtd", tmp_path)
    assert fetched(tmp_path)
    (tmp_path / "dtd").rename(tmp_path / "DTD")  # the other layout counts as well
    with pytest.raises(DataError, match=r"found .*/DTD; move it away"):
        fetch("dtd", tmp_path)


@pytest.mark.slow
def test_a_killed_process_leaves_no_dataset_and_no_lock(server: FileServer, publish: Publish, tmp_path: Path) -> None:
    """A real process, killed amid a download; the next one goes on from there."""
    content = tar({**PICTURES, "dtd/images/big.jpg": os.urandom(2**20)}, "w")
    publish(content, "dtd.tar")
    server.cuts = [2**19, *([0] * 5)]
    program = (
        "import sys, time; from pathlib import Path; from tpt.data import download, sources\n"
        "from tpt.data.fetch import fetch\n"
        "download.PAUSE_S = 600\n"
        f"sources.SOURCES['dtd'] = {SOURCES['dtd']!r}\n"
        "fetch('dtd', Path(sys.argv[1]))\n"
    )
    preamble = "from tpt.data.sources import Archive, Source\n"
    process = subprocess.Popen([sys.executable, "-c", preamble + program, str(tmp_path)], stderr=subprocess.PIPE)
    partial, deadline = tmp_path / ".downloads" / "dtd" / "dtd.tar.part", time.monotonic() + 100
    while not (partial.is_file() and partial.stat().st_size == 2**19) and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DataError, match="another process is at it"):
        fetch("dtd", tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "dtd").exists() and partial.stat().st_size == 2**19
    server.cuts = []
    fetch("dtd", tmp_path)
    assert server.seen[-1][1] == f"bytes={2**19}-" and (tmp_path / "dtd" / "images" / "big.jpg").stat().st_size == 2**20


def test_the_command(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fetched, counted in the table, by its own list since the paper's is not there; no bar where no terminal is."""
    monkeypatch.setenv("COLUMNS", "300")
    paper_tree(tmp_path / "made", layout=1, keys=["dtd"])
    own = write_own_lists("dtd", tmp_path / "made", layout=1)
    (own / "split_zhou_DescribableTextures.json").unlink()
    files = {f"dtd/{p.relative_to(own)}": p.read_bytes() for p in own.rglob("*.*")}
    publish(tar(files))
    assert main(["fetch", "dtd", "--root", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "dtd: http://127.0.0.1" in out and f"dtd: in {tmp_path / 'dtd'}" in out and err == ""
    assert "own: labels/test1.txt" in out and "6 / 1692" in out and "%" not in out
    assert main(["fetch", "dtd", "--root", str(tmp_path)]) == 1
    assert "Error: Expected no Describable Textures" in capsys.readouterr().err
    assert main(["fetch", "stanford_cars", "--root", str(tmp_path)]) == 1
    assert "Expected a dataset that is free to download, out of imagenet_a" in capsys.readouterr().err


def test_the_bar_needs_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(key, raising=False)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with progress_bar() as progress:
            progress.update(progress.add_task("dtd.tar.gz", total=10), advance=5)
        out, err = capsys.readouterr()
        assert out == "" and ("dtd.tar.gz" in err) == terminal


TORCHVISION = {  # (address, checksum) of its own classes; private names, so a release may rename them
    "flowers102": lambda: [(tv.Flowers102._download_url_prefix + n, m) for n, m in tv.Flowers102._file_dict.values()],
    "dtd": lambda: [(tv.DTD._URL, tv.DTD._MD5)],
    "oxford_pets": lambda: list(tv.OxfordIIITPet._RESOURCES),
    "food101": lambda: [(tv.Food101._URL, tv.Food101._MD5)],
    "sun397": lambda: [(tv.SUN397._DATASET_URL, tv.SUN397._DATASET_MD5)],
    "fgvc_aircraft": lambda: [(tv.FGVCAircraft._URL, None)],
}


@pytest.mark.parametrize("key", TORCHVISION)
def test_addresses_and_checksums_are_torchvisions(key: str) -> None:
    assert {(a.url, a.md5) for a in SOURCES[key].archives} >= set(TORCHVISION[key]())


@pytest.mark.parametrize(("key", "torchvision"), [("caltech101", tv.Caltech101), ("eurosat", tv.EuroSAT)])
def test_addresses_in_torchvisions_code(key: str, torchvision: type) -> None:
    (archive,) = SOURCES[key].archives
    code = inspect.getsource(torchvision.download)  # type: ignore[attr-defined]
    assert archive.url in code and str(archive.md5) in code


def test_sources_are_complete() -> None:
    assert set(SOURCES) < set(CATALOG)
    for key, source in SOURCES.items():
        assert source.folder in CATALOG[key].folders, "where the catalogue looks for it"
        names = [archive.name for archive in source.archives]
        assert len(set(names)) == len(names) and all(
            name.endswith((".tar", ".tgz", ".tar.gz", ".zip", ".mat")) for name in names
        )
