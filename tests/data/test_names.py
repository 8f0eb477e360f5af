"""File names in archives, in other encodings and of other programs; pipes and devices named like pictures."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Done
from tests.data.archives import UNIX, zip_of_names
from tests.own_data import png
from tests.untrusted import FUZZ
from tpt.data import EpisodeDataModule, image_folder, image_list
from tpt.data.images import EXTENSIONS
from tpt.data.labels import read_names
from tpt.data.names import plain
from tpt.data.store import FileStore
from tpt.errors import BadImageError, DataError
from tpt.files import read_bytes
from tpt.views import Views


@pytest.mark.parametrize("word", ["café", "кошка", "猫"])
def test_zip_names_without_the_flag_may_be_utf8(word: str, tmp_path: Path) -> None:
    """macOS and Linux write UTF-8 names without the flag."""
    found = image_folder(zip_of_names(tmp_path / "t.zip", [f"{word}/a.png".encode(), b"dog/b.png"]))
    assert found.class_names == sorted([word, "dog"]) and found.image(0).mode == found.image(1).mode == "RGB"


@pytest.mark.parametrize(
    ("encoding", "word"), [("cp437", "Zürich"), ("cp1252", "café"), ("cp866", "кошка"), ("cp932", "猫")]
)
def test_zip_names_in_an_unknown_code_page(encoding: str, word: str, tmp_path: Path) -> None:
    """A folder name in an unknown encoding is an error unless class names are given; a file name is accepted."""
    archive = zip_of_names(tmp_path / "t.zip", [f"{word}/a.png".encode(encoding), b"dog/b.png"])
    with pytest.raises(DataError, match=r"Expected folders in .* got .*\\x.*, or not in UTF-8; name all"):
        image_folder(archive)
    named = image_folder(archive, class_names=["other", "dog"])
    assert sorted(named.labels()) == [0, 1] and named.image(0).tobytes() != named.image(1).tobytes()
    files = image_folder(zip_of_names(tmp_path / "f.zip", [f"cat/{word}.png".encode(encoding), b"dog/b.png"]))
    assert files.class_names == ["cat", "dog"] and files.samples[0].path.startswith("cat/") and files.image(0)


def test_a_utf8_name_in_the_extra_field(tmp_path: Path) -> None:
    """Info-ZIP's extra field gives the name in UTF-8, if its checksum matches the stored name."""
    raw, true = b"caf\xe9/a.png", "café/a.png".encode()
    for crc, expected in ((zlib.crc32(raw), "café"), (0, None)):
        field = b"\x01" + struct.pack("<I", crc) + true
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
            member = zipfile.ZipInfo("x" * len(raw))
            member.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(member, png())
        content = (tmp_path / "t.zip").read_bytes().replace(b"x" * len(raw), raw)
        (tmp_path / "t.zip").write_bytes(content)
        if expected is None:
            with pytest.raises(DataError, match=r"got caf\\xe9"):
                image_folder(tmp_path / "t.zip")
        else:
            assert image_folder(tmp_path / "t.zip").class_names == [expected]


def test_backslashes_between_folders(tmp_path: Path) -> None:
    windows = image_folder(zip_of_names(tmp_path / "w.zip", [b"cat\\a.png", b"dog\\more\\b.png"]))
    assert [s.path for s in windows.samples] == ["cat/a.png", "dog/more/b.png"] and windows.image(1).mode == "RGB"
    around = image_folder(zip_of_names(tmp_path / "a.zip", [b"top\\cat\\a.png", b"top\\dog\\b.png"]))
    assert around.class_names == ["cat", "dog"]
    unix = image_folder(zip_of_names(tmp_path / "u.zip", [b"cat\\1/a.png", b"dog/b.png"], UNIX))
    assert unix.class_names == ["cat\\1", "dog"], "there a backslash may be part of a name"


@FUZZ
@given(
    names=st.lists(st.binary(min_size=4, max_size=12).filter(lambda n: b"x" not in n and b"\0" not in n), max_size=4)
)
def test_any_names_in_an_archive(names: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("zip")
    try:
        found = image_folder(zip_of_names(folder / "t.zip", [b"c" + name + b"/a.png" for name in names]))
    except DataError as error:
        assert "t.zip" in str(error)
        return
    assert all(sample.path.isprintable() or sample.path for sample in found.samples)


def test_composed_and_decomposed_accents_match(tmp_path: Path) -> None:
    """Folders in NFD match a list in NFC, and a table matches files in the other form."""
    nfd = unicodedata.normalize("NFD", "café")
    for name in (nfd, "zoo"):
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "a.png").write_bytes(png())
    assert image_folder(tmp_path / "p").class_names == ["café", "zoo"]
    assert image_folder(tmp_path / "p", class_names=["café\tcoffee house", "zoo\tzoo"]).class_names[0] == "coffee house"
    (tmp_path / "t.csv").write_text("path,label\ncafé/a.png,café\n")
    found = image_list(tmp_path / "t.csv", root=tmp_path / "p", class_names=[nfd, "zoo"])
    assert found.image(0).mode == "RGB" and found.class_names == ["café", "zoo"]
    shutil.move(tmp_path / "p" / nfd, tmp_path / "p" / "café")
    again = image_folder(tmp_path / "p", name="p")
    assert again.file_identity(0) == "p/café/a.png, upright"


def odd_tree(root: Path) -> Path:
    for folder in ("pizza", "cat"):
        (root / folder).mkdir(parents=True)
        (root / folder / "a.png").write_bytes(png())
    with open(os.fsencode(root) + b"/pizza/caf\xe9.png", "wb") as file:  # noqa: PTH123 - bytes
        file.write(png(1))
    return root


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    found = image_folder(odd_tree(tmp_path / "p"))
    assert [s.path for s in found.samples] == ["cat/a.png", "pizza/a.png", "pizza/caf\\xe9.png"]
    assert found.image(2).tobytes() != found.image(1).tobytes()
    module = EpisodeDataModule([found], num_workers=1).use_views(Views(8, 2))
    assert sum(len(batch) for batch in module.test_dataloader()[0]) == 3
    assert plain("caf\udce9") == "caf\\xe9" and plain("café") == "café"
    (Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"/d\xe9j\xe0"))).mkdir()
    with pytest.raises(DataError, match=r"Expected folders in .* got d\\xe9j\\xe0, .* or not in UTF-8; name all"):
        image_folder(tmp_path / "p")
    assert image_folder(tmp_path / "p", class_names=["a", "b", "c"]).class_names == ["a", "b", "c"]


def test_a_run_over_names_that_are_not_utf8(run_script: object, small: list[str], tmp_path: Path) -> None:
    root = odd_tree(tmp_path / "odd")
    done: Done = run_script("test_time.py", *small, f"data.root={root}", "method.steps=0")  # type: ignore[operator]
    assert "results.json" in done.stdout


def test_files_of_other_programs_are_ignored(tmp_path: Path) -> None:
    root = odd_tree(tmp_path / "p")
    left = ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "pizza/@eaDir/a.png/THUMB.jpg", "pizza/._a.png", "cat/.DS_Store",
            "cat/Thumbs.db", "cat/desktop.ini", "#recycle/b.png", "$RECYCLE.BIN/c.png", "__MACOSX/pizza/._a.png",
            "System Volume Information/x.png", ".ipynb_checkpoints/a.png")  # fmt: skip
    for path in left:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png())
    found = image_folder(root)
    assert found.class_names == ["cat", "pizza"] and len(found) == 3 and found.notes == []
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in ("cat/a.png", *left):
            archive.writestr(f"top/{path}", png())
    assert [s.path for s in image_folder(tmp_path / "p.zip").samples] == ["cat/a.png"]


def test_suffixes_of_pictures_and_of_skipped_files(tmp_path: Path) -> None:
    """Files with a suffix that Pillow decodes itself are pictures; skipped files are counted by suffix."""
    (tmp_path / "p" / "cat").mkdir(parents=True)
    for suffix in (".jfif", ".avif", ".JP2", ".tga", ".ico", ".jpe", ".psd", ".qoi"):
        (tmp_path / "p" / "cat" / f"a{suffix}").write_bytes(png())
    for name in ("b.heic", "c.heic", "notes.txt", "README"):
        (tmp_path / "p" / "cat" / name).write_bytes(b"x")
    found = image_folder(tmp_path / "p")
    assert len(found) == 8
    unread, others = found.notes
    assert unread.startswith("2 pictures") and "(2 .heic)" in unread and "pip install pillow-heif" in unread
    assert others == "2 files that are not pictures were skipped (1 .txt, 1 without suffix)"
    assert not {".eps", ".pdf", ".wmf", ".mpg", ".h5"} & set(EXTENSIONS), "they would be handed to other programs"


def special(folder: Path) -> dict[str, str]:
    """Creates pipes, devices, links, a socket and a huge file named like pictures; returns the error for each."""
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "link.png").symlink_to("pipe.png")
    with open(folder / "sparse.png", "wb") as file:  # noqa: PTH123
        file.truncate(3 * 2**30)
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # a socket's address must be short
    server.bind("socket.png")
    os.chdir(here)
    server.close()
    return {
        "pipe.png": "it is a named pipe", "zero.png": "it is a device", "link.png": "it is a named pipe",
        "sparse.png": "it has 3,221,225,472 bytes, more than 536,870,912", "socket.png": "it is a device or socket",
    }  # fmt: skip


def test_pipes_devices_and_sockets_are_not_opened(tmp_path: Path) -> None:
    root = odd_tree(tmp_path / "p")
    said = special(root / "cat")
    found = image_folder(root)
    for index, sample in enumerate(found.samples):
        name = sample.path.split("/")[1]
        if name in said:
            with pytest.raises(BadImageError, match=f"Cannot read cat/{name} .*{said[name]}"):
                found.image(index)
    module = EpisodeDataModule([found], on_bad_image="skip").use_views(Views(8, 2))
    batches = list(module.test_dataloader()[0])
    assert sum(len(batch) for batch in batches) == 3 and sum(len(batch.bad) for batch in batches) == len(said)


def test_lists_and_archives_that_are_pipes_or_devices(tmp_path: Path) -> None:
    special(tmp_path)
    for name in ("pipe.png", "zero.png", "sparse.png"):
        with pytest.raises(DataError, match="Cannot read the class names"):
            read_names(tmp_path / name)
        with pytest.raises(DataError, match="Cannot read "):
            image_list(tmp_path / name)
    for name in ("pipe.png", "zero.png", "socket.png"):
        with pytest.raises(DataError, match=r"no folder or .zip archive\. .* unpack it"):
            FileStore(tmp_path / name)
    assert read_bytes(tmp_path / "sparse.png", most=2**40, first=4) == bytes(4)
    (tmp_path / "t.csv").write_text("path,label\npipe.png,cat\n")
    with pytest.raises(DataError, match="1 of the 1 images .* are missing in .*, such as pipe.png"):
        image_list(tmp_path / "t.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-32"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_tables_in_other_encodings_and_separators(encoding: str, separator: str, tmp_path: Path) -> None:
    """Spreadsheets save UTF-16 with tabs, and semicolons where the comma is the decimal separator."""
    (tmp_path / "é.png").write_bytes(png())
    text = separator.join(["label", "path"]) + "\r\n" + separator.join(["café", "é.png"]) + "\r\n"
    content = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-mark" else text.encode(encoding)
    (tmp_path / "t.tsv").write_bytes(content)
    found = image_list(tmp_path / "t.tsv")
    assert found.class_names == ["café"] and found.image(0).mode == "RGB"


def test_tables_in_an_unknown_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,label\né.png,café\n".encode("cp1252"))
    with pytest.raises(DataError, match="table .*byte 11 is not in UTF-8; save it as UTF-8"):
        image_list(tmp_path / "t.csv")


def test_a_table_of_files_in_an_archive(tmp_path: Path) -> None:
    archive = zip_of_names(tmp_path / "t.zip", [b"a/1.png", b"b/2.png"])
    (tmp_path / "t.csv").write_text("path,label\nb/2.png,dog\na/1.png,cat\n")
    found = image_list(tmp_path / "t.csv", root=archive)
    assert found.class_names == ["cat", "dog"] and found.labels() == [1, 0] and found.image(0).mode == "RGB"


def test_splits_in_a_folder_or_an_archive(tmp_path: Path) -> None:
    names = [f"{split}/{name}/a.png" for split in ("train", "validation", "test") for name in ("cat", "dog")]
    archive = zip_of_names(tmp_path / "t.zip", [f"pets/{name}".encode() for name in names])
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    for root in (archive, tmp_path / "pets"):
        with pytest.raises(
            DataError, match=r"'test' and 'train' and 'validation' in .* seem to hold .* pass data\.split=test"
        ):
            image_folder(root)
        found = image_folder(root, split="val").half("new")
        assert (found.class_names, found.split, len(found)) == (["dog"], "val", 1)
    with pytest.raises(DataError, match=r"Expected `data\.split` to be test, val, train or null, got 'dev'"):
        image_folder(archive, split="dev")
    shutil.rmtree(tmp_path / "pets" / "test")
    with pytest.raises(DataError, match="holds train and validation, not one folder test or testing"):
        image_folder(tmp_path / "pets", split="test")
