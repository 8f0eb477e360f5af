"""Files from strangers: whatever is in them ends in one of our errors or in a dataset, and nothing of it is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from tests.data.test_shards import members
from tests.own_data import png, write_shard
from tests.own_lists import LISTS, remove_splits, write_own_lists
from tests.paper_tree import FOLDERS, SPLITS, paper_tree, rows_of
from tests.untrusted import FUZZ, JSON, damaged
from tpt.data import ImageDataset, image_folder, image_list, read_entry, tar_shards
from tpt.data.catalog import matlab
from tpt.data.catalog.matlab import read_table
from tpt.data.folder import read_names
from tpt.data.images import decode_image
from tpt.data.store import MAX_FILE_BYTES, FileStore
from tpt.errors import BadImageError, DataError


@contextmanager
def ours() -> Iterator[None]:
    """Lets through our errors alone, each of them one line that ends in a way out."""
    try:
        yield
    except DataError as error:
        message = str(error)
        assert message.startswith("Expected ") and message.endswith(".") and "\n" not in message, message


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datasets with lists in miniature; a test may overwrite its own one."""
    root = tmp_path_factory.mktemp("paper")
    return paper_tree(root, keys=[*SPLITS, "fgvc_aircraft"])


ROWS = rows_of(SPLITS["dtd"])
SPLIT = json.dumps({"test": ROWS}).encode()
CELL = st.sampled_from(["banded/banded_0001.jpg", "../x.jpg", "/etc/passwd", "a\0", "\ud800", "x" * 300, ""]) | JSON


@FUZZ
@given(content=damaged(SPLIT) | JSON.map(lambda value: json.dumps({"test": value}).encode()))
def test_split_files(tree: Path, content: bytes) -> None:
    (tree / "splits" / SPLITS["dtd"].file).write_bytes(content)
    with ours():
        read_entry("dtd", tree)


@FUZZ
@given(rows=st.lists(st.tuples(CELL, st.integers(-2, 2) | JSON, CELL), max_size=4))
def test_rows_of_split_files(tree: Path, rows: list[object]) -> None:
    (tree / "splits" / SPLITS["dtd"].file).write_text(json.dumps({"test": rows}))
    with ours():
        assert all(".." not in s.path and s.path[0] != "/" for s in read_entry("dtd", tree).samples)


def test_deeply_nested_json(tree: Path) -> None:
    (tree / "splits" / SPLITS["dtd"].file).write_text('{"test": ' + "[" * 100_000)
    with pytest.raises(DataError, match="it cannot be read so"):
        read_entry("dtd", tree)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lists")
    paper_tree(root, keys=LISTS)
    remove_splits(root)
    for key in LISTS:
        write_own_lists(key, root)
    return root


MORE = {
    "flowers102": ["cat_to_name.json"],
    "ucf101": ["ucfTrainTestlist/classInd.txt"],
    "food101": ["meta/classes.txt"],
    "sun397": ["ClassName.txt"],
}


TEXTS = [
    (k, f)
    for k, main in LISTS.items()
    for f in [main, *MORE.get(k, [])]
    if k != "flowers102" and not f.endswith(".mat")
]


@pytest.mark.parametrize(("key", "file"), TEXTS)
@settings(FUZZ, max_examples=25)
@given(data=st.data())
def test_official_lists(lists: Path, key: str, file: str, data: st.DataObject) -> None:
    path = lists / SPLITS[key].folders[0].split("/")[0] / file
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    try:
        with ours():
            read_entry(key, lists)
    finally:
        path.write_bytes(whole)


@settings(FUZZ, max_examples=3)  # each takes processes
@given(data=st.data())
def test_tables_of_matlab(lists: Path, data: st.DataObject) -> None:
    """Their reader may break down; it takes nothing with it."""
    file = data.draw(st.sampled_from(["setid.mat", "imagelabels.mat", "cat_to_name.json"]))
    path = lists / SPLITS["flowers102"].folders[0].split("/")[0] / file
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    try:
        with ours():
            read_entry("flowers102", lists)
    finally:
        path.write_bytes(whole)


def test_a_reader_of_matlab_tables_that_breaks_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat(tmp_path / "t.mat", {"a": np.arange(3)})
    assert read_table(tmp_path / "t.mat", "a") == [0, 1, 2]
    monkeypatch.setattr(matlab, "_READ", "import os; os.abort()")
    with pytest.raises(ValueError, match="t.mat: its reader broke down"):
        read_table(tmp_path / "t.mat", "a")


@FUZZ
@given(data=st.data())
def test_lists_of_the_aircraft(tree: Path, data: st.DataObject) -> None:
    path = tree / "fgvc_aircraft" / data.draw(st.sampled_from(["variants.txt", "images_variant_test.txt"]))
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    try:
        with ours():
            read_entry("fgvc_aircraft", tree)
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shard(tmp_path_factory.mktemp("shards") / "t.tar", [("a", "cat"), ("b", "dog")])


def read_all(dataset: ImageDataset) -> None:
    for index in range(len(dataset)):
        try:
            dataset.image(index)
        except BadImageError:
            continue


@settings(FUZZ, max_examples=200)
@given(data=st.data())
def test_shards(shard: Path, data: st.DataObject) -> None:
    path = shard.parent / "damaged.tar"
    path.write_bytes(data.draw(damaged(shard.read_bytes())))
    with ours():
        read_all(tar_shards(path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, tarfile.REGTYPE])
@pytest.mark.parametrize("size", [2**62, 2**33, -1])
def test_headers_that_claim_too_much(tmp_path: Path, kind: bytes, size: int) -> None:
    """Members of any size, none of which is there."""
    member = tarfile.TarInfo("a.jpg")
    member.type, member.size = kind, size
    (tmp_path / "t.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"12 path=x\n" * 100)
    with pytest.raises(DataError, match="Expected"):
        tar_shards(tmp_path / "t.tar")


TABLE = b"path,label\ncat/0.png,cat\nT-shirt/1.png,T-shirt\n"


@FUZZ
@given(content=damaged(TABLE))
def test_csv_tables(image_tree: Path, content: bytes) -> None:
    (image_tree / "t.csv").write_bytes(content)
    with ours():
        assert all(".." not in s.path for s in image_list(image_tree / "t.csv").samples)


@pytest.fixture(scope="module")
def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"path": ["cat/0.png", "cat/1.png"], "label": ["cat", "dog"]}), buffer)
    return buffer.getvalue()


@FUZZ
@given(data=st.data())
def test_parquet_tables(image_tree: Path, parquet: bytes, data: st.DataObject) -> None:
    (image_tree / "t.parquet").write_bytes(data.draw(damaged(parquet)))
    with ours():
        image_list(image_tree / "t.parquet")


@FUZZ
@given(content=damaged("cat\tpussy cat\nT-shirt\tshirt\nhot air balloon\tballon à air\n".encode()))
def test_files_of_class_names(image_tree: Path, content: bytes) -> None:
    names = image_tree.parent / "names.txt"
    names.write_bytes(content)
    with ours():
        assert all(isinstance(name, str) for name in read_names(names))
    with ours():
        image_folder(image_tree, class_names=names)


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zip")
    return zip_of(folder / "t.zip", {"cat/0.png": png(), "dog/1.png": png(1), "dog/2.png": png(2)})


@settings(FUZZ, max_examples=200)
@given(data=st.data())
def test_zip_archives(zipped: Path, data: st.DataObject) -> None:
    path = zipped.parent / "damaged.zip"
    path.write_bytes(data.draw(damaged(zipped.read_bytes())))
    with ours():
        read_all(image_folder(path))


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    decode_image(png(), "x").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@given(data=st.data())
@FUZZ
def test_images(kind: str, data: st.DataObject) -> None:
    with ours():
        assert decode_image(data.draw(damaged(picture(kind))), "x.jpg").mode == "RGB"


def test_formats_that_call_other_programs_are_not_opened() -> None:
    """PostScript under the name of a picture would be handed to an interpreter."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(BadImageError, match="it is no picture"):
        decode_image(eps, "x.jpg")


def test_members_of_a_zip_that_point_elsewhere(tmp_path: Path) -> None:
    """Read in memory under their own names, never written, and not counted as classes."""
    files = {"../outside/x.png": png(), "/absolute/x.png": png(), "cat/0.png": png(), "dog/../../y.png": png()}
    found = image_folder(zip_of(tmp_path / "t.zip", {**files, "dog/1.png": png()}))
    assert found.class_names == ["cat", "dog"] and [s.path for s in found.samples] == ["cat/0.png", "dog/1.png"]


def test_a_member_that_claims_to_be_huge(tmp_path: Path) -> None:
    """Its header says more than is let in; the bytes themselves are few."""
    path = zip_of(tmp_path / "t.zip", {"cat/0.png": png(), "dog/0.png": png()})
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x01\x02"))
    struct.pack_into("<I", content, central + 24, MAX_FILE_BYTES + 1)
    path.write_bytes(bytes(content))
    found = image_folder(path)
    with pytest.raises(BadImageError, match="it would unpack to 536,870,913 bytes"):
        found.image(0)
    assert found.image(1).mode == "RGB"


def test_links_back_up_are_not_followed_for_ever(image_tree: Path) -> None:
    (image_tree / "cat" / "again").symlink_to(image_tree)
    (image_tree / "cat" / "more").symlink_to(image_tree / "T-shirt")  # a link elsewhere is a user's own
    found = [s.path for s in image_folder(image_tree).samples if s.path.startswith("cat")]
    assert found == [f"cat/{n}.png" for n in range(4)] + [f"cat/more/{n}.png" for n in range(4)]


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_nothing_pickled_is_loaded(tmp_path: Path, lists: Path) -> None:
    """As a list, a table, an image, a shard, a list of names: under every name that a reader opens."""
    bomb = pickle.dumps(Bomb(tmp_path / "went off"))
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(tmp_path / "went off")], dtype=object), allow_pickle=True)
    for content in (bomb, buffer.getvalue()):
        for suffix, read in (
            (".csv", image_list),
            (".parquet", image_list),
            (".tar", tar_shards),
            (".txt", read_names),
        ):
            path = tmp_path / f"bomb{suffix}"
            path.write_bytes(content)
            with ours():
                read(path)  # type: ignore[operator]
        with pytest.raises(BadImageError):
            decode_image(content, "x.jpg")
        for key, file in (("flowers102", "setid.mat"), ("stanford_cars", "devkit/cars_meta.mat")):
            path = lists / SPLITS[key].folders[0].split("/")[0] / file
            whole = path.read_bytes()
            path.write_bytes(content)
            with pytest.raises(DataError):
                read_entry(key, lists)
            path.write_bytes(whole)
    savemat(tmp_path / "t.mat", {"a": np.frombuffer(bomb, np.uint8)})
    assert not (tmp_path / "went off").exists()
    pickle.loads(bomb)
    assert (tmp_path / "went off").exists(), "the bomb works"


def test_paths_in_shards_are_names_alone(tmp_path: Path) -> None:
    found = tar_shards(members(tmp_path / "t.tar", {"../../etc/x.jpg": png(), "../../etc/x.cls": b"cat"}))
    assert found.image(0).mode == "RGB" and sorted(p.name for p in tmp_path.iterdir()) == ["t.tar"]
    with pytest.raises(BadImageError):
        FileStore(tmp_path).read("absent.jpg")


def test_class_folders_of_any_name(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=["imagenet_a"])
    (root / FOLDERS["imagenet_a"][0] / "[bold]n00000000").mkdir()
    with pytest.raises(DataError, match=r"but \[bold\]n00000000 is not one of them"):
        read_entry("imagenet_a", root)
