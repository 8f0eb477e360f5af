"""Untrusted files: any content gives a dataset or one of this project's errors, and no code in it is run."""

from __future__ import annotations

import json
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from tests.data.test_shards import members
from tests.own_data import png
from tests.paper_tree import FOLDERS, SPLITS, paper_tree, rows_of
from tests.untrusted import FUZZ, JSON
from tpt.data import image_folder, read_entry, tar_shards
from tpt.data.catalog import official
from tpt.data.catalog.official import read_table
from tpt.data.images import decode_image
from tpt.data.store import MAX_FILE_BYTES, FileStore
from tpt.errors import BadImageError, DataError, UserError
from tpt.files import readable


@contextmanager
def ours() -> Iterator[None]:
    """Suppresses a DataError, whose message must be one line and end with a full stop."""
    try:
        yield
    except DataError as error:
        message = str(error)
        assert message.endswith(".") and "\n" not in message, message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two\nlines"), "two lines"),
        (KeyError("label"), "KeyError: 'label'"),
        (OSError(2, "No such file or directory", "x"), "No such file or directory"),
        (EOFError(), "EOFError"),
        (UserError("one name twice"), "one name twice"),
    ],
)
def test_damage_is_reported_in_one_line(error: Exception, said: str) -> None:
    with pytest.raises(DataError) as caught, readable("the list x"):
        raise error
    assert str(caught.value) == f"Cannot read the list x ({said}). Get it again."
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [DataError("Expected a whole sentence."), NameError("a bug"), AssertionError()])
def test_data_errors_and_bugs_are_passed_on_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, readable("the list x"):
        raise error
    assert caught.value is error


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Miniatures of the datasets with lists; a test may overwrite the list of its own dataset."""
    root = tmp_path_factory.mktemp("paper")
    return paper_tree(root, keys=[*SPLITS, "fgvc_aircraft"])


ROWS = rows_of(SPLITS["dtd"])
CELL = st.sampled_from(["banded/banded_0001.jpg", "../x.jpg", "/etc/passwd", "a\0", "\ud800", "x" * 300, ""]) | JSON


@FUZZ
@given(rows=st.lists(st.tuples(CELL, st.integers(-2, 2) | JSON, CELL), max_size=4))
def test_rows_of_split_files(tree: Path, rows: list[object]) -> None:
    (tree / "splits" / SPLITS["dtd"].file).write_text(json.dumps({"test": rows}))
    with ours():
        assert all(".." not in s.path and s.path[0] != "/" for s in read_entry("dtd", tree).samples)


def test_deeply_nested_json(tree: Path) -> None:
    (tree / "splits" / SPLITS["dtd"].file).write_text('{"test": ' + "[" * 100_000)
    with pytest.raises(DataError, match="Cannot read "):
        read_entry("dtd", tree)


def test_a_crash_of_the_matlab_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat(tmp_path / "t.mat", {"a": np.arange(3)})
    assert read_table(tmp_path / "t.mat", "a") == [0, 1, 2]
    monkeypatch.setattr(official, "_READ", "import os; os.abort()")
    with pytest.raises(ValueError, match="t.mat: its reader broke down"):
        read_table(tmp_path / "t.mat", "a")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, tarfile.REGTYPE])
@pytest.mark.parametrize("size", [2**62, 2**33, -1])
def test_headers_that_claim_too_much(tmp_path: Path, kind: bytes, size: int) -> None:
    """Headers claim members of impossible sizes, whose content is missing."""
    member = tarfile.TarInfo("a.jpg")
    member.type, member.size = kind, size
    (tmp_path / "t.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"12 path=x\n" * 100)
    with pytest.raises(DataError, match="t.tar"):
        tar_shards(tmp_path / "t.tar")


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_formats_that_call_other_programs_are_not_opened() -> None:
    """Pillow would pass PostScript to an interpreter, whatever the file's name."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(BadImageError, match="no picture"):
        decode_image(eps, "x.jpg")


def test_members_of_a_zip_that_point_elsewhere(tmp_path: Path) -> None:
    """Members with absolute paths or `..` are neither pictures nor classes."""
    files = {"../outside/x.png": png(), "/absolute/x.png": png(), "cat/0.png": png(), "dog/../../y.png": png()}
    found = image_folder(zip_of(tmp_path / "t.zip", {**files, "dog/1.png": png()}))
    assert found.class_names == ["cat", "dog"] and [s.path for s in found.samples] == ["cat/0.png", "dog/1.png"]


def test_a_member_that_claims_to_be_huge(tmp_path: Path) -> None:
    """The header claims a size above the limit, although the content is small."""
    path = zip_of(tmp_path / "t.zip", {"cat/0.png": png(), "dog/0.png": png()})
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x01\x02"))
    struct.pack_into("<I", content, central + 24, MAX_FILE_BYTES + 1)
    path.write_bytes(bytes(content))
    found = image_folder(path)
    with pytest.raises(BadImageError, match="it would unpack to 536,870,913 bytes"):
        found.image(0)
    assert found.image(1).mode == "RGB"


def test_links_to_a_parent_folder_are_not_followed_forever(image_tree: Path) -> None:
    (image_tree / "cat" / "again").symlink_to(image_tree)
    (image_tree / "cat" / "more").symlink_to(image_tree / "T-shirt")  # links to other folders are followed
    found = [s.path for s in image_folder(image_tree).samples if s.path.startswith("cat")]
    assert found == [f"cat/{n}.png" for n in range(4)] + [f"cat/more/{n}.png" for n in range(4)]


def test_paths_in_shards_are_only_names(tmp_path: Path) -> None:
    found = tar_shards(members(tmp_path / "t.tar", {"../../etc/x.jpg": png(), "../../etc/x.cls": b"cat"}))
    assert found.image(0).mode == "RGB" and sorted(p.name for p in tmp_path.iterdir()) == ["t.tar"]
    with pytest.raises(BadImageError):
        FileStore(tmp_path).read("absent.jpg")


def test_class_folders_of_any_name(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=["imagenet_a"])
    (root / FOLDERS["imagenet_a"][0] / "[bold]n00000000").mkdir()
    with pytest.raises(DataError, match=r"such as \[bold\]n00000000;"):
        read_entry("imagenet_a", root)
