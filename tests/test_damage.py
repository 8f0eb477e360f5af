"""Untrusted files: reading any damaged file gives a value or a one-sentence error, and runs no code."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.own_data import png, write_shard
from tests.own_lists import LISTS, remove_splits, write_own_lists
from tests.paper_tree import SPLITS, paper_tree
from tests.results.tables.made_runs import make_run, rows_of, share
from tests.untrusted import FUZZ, JSON, damaged
from tpt.data import ImageDataset, image_folder, image_list, read_entry, tar_shards
from tpt.data.images import decode_image
from tpt.data.labels import read_names
from tpt.errors import BadImageError, UserError
from tpt.files import content_digest
from tpt.results.runs import RunDirectory, read_manifest, records
from tpt.results.runs.training import training_of
from tpt.results.tables.formats import FORMATS, render
from tpt.results.tables.report import make_report
from tpt.results.tables.runs import load_runs


@contextmanager
def sentence() -> Iterator[None]:
    """Suppresses `UserError` after checking that its message is one line that ends with a full stop."""
    try:
        yield
    except UserError as error:
        message = str(error)
        assert message.endswith(".") and "\n" not in message, message


def report(run: Path) -> None:
    made = make_report(load_runs([run]))
    assert all(render(made, format) for format in FORMATS)


def resumed(file: Path) -> None:
    """Reads a manifest as a resumed run and as a report do."""
    manifest, directory = read_manifest(file.parent), RunDirectory(file.parent, resume=True)
    for stored in (directory.stored("division"), directory.stored("encoding")):
        assert stored is None or all(isinstance(value, int) for value in stored.values())
    with suppress(UserError):
        directory.same_run(manifest, {**manifest, "config": {"seed": 0}}, manifest["sessions"][0])
    report(file.parent)


def under_its_digest(file: Path) -> None:
    """Reads the file's content as a shard whose name has the right digest, which anybody can compute."""
    content = file.read_bytes()
    shard = write(file.parents[1] / f"00-a-0000000-{content_digest(content)}.parquet", content)
    try:
        assert records.read_shard(shard).num_rows >= 0
    finally:
        shard.unlink()


def read_all(dataset: ImageDataset) -> None:
    for index in range(len(dataset)):
        with suppress(BadImageError):
            dataset.image(index)


def named(file: Path) -> None:
    assert all(isinstance(name, str) for name in read_names(file))
    image_folder(pictures(file.parent).parent, class_names=file)


def entry(key: str) -> Callable[[Path], None]:
    """Returns a function that reads dataset `key` from the tree that contains the given file."""

    def read(file: Path) -> None:
        root = next(parent for parent in file.parents if parent.name == "paper")
        assert all(".." not in s.path and s.path[0] != "/" for s in read_entry(key, root).samples)

    return read


def run(folder: Path) -> Path:
    rows = {name: rows_of(name, share(50, 4), share(75, 4)) for name in ("a", "dtd")}
    return make_run(folder / "run", rows, backbone="RN50-quickgelu/openai") / "run.json"


def shard(folder: Path) -> Path:
    return sorted((run(folder).parent / "records").iterdir())[0]


def split(folder: Path) -> Path:
    return paper_tree(folder / "paper", keys=["dtd"]) / "splits" / SPLITS["dtd"].file


def aircraft(file: str) -> Callable[[Path], Path]:
    return lambda folder: paper_tree(folder / "paper", keys=["fgvc_aircraft"]) / "fgvc_aircraft" / file


def official(key: str, file: str) -> Callable[[Path], Path]:
    """Returns a function that writes a dataset without its split file, and returns the path of an official list."""

    def make(folder: Path) -> Path:
        root = paper_tree(folder / "paper", keys=[key])
        remove_splits(root)
        write_own_lists(key, root)
        return root / SPLITS[key].folders[0].split("/")[0] / file

    return make


def pictures(folder: Path) -> Path:
    """Writes a folder of two classes, and returns a path in it for a table without its suffix."""
    for number, name in enumerate(("cat", "T-shirt")):
        (folder / "pictures" / name).mkdir(parents=True, exist_ok=True)
        (folder / "pictures" / name / f"{number}.png").write_bytes(png(number))
    return folder / "pictures" / "t"


def table(folder: Path) -> Path:
    path = pictures(folder).with_suffix(".csv")
    path.write_text("path,label\ncat/0.png,cat\nT-shirt/1.png,T-shirt\n")
    return path


def parquet(folder: Path) -> Path:
    path = pictures(folder).with_suffix(".parquet")
    pq.write_table(pa.table({"path": ["cat/0.png", "T-shirt/1.png"], "label": ["cat", "dog"]}), path)
    return path


def names(folder: Path) -> Path:
    path = folder / "names.txt"
    path.write_text("cat\tpussy cat\nT-shirt\tshirt\nhot air balloon\tballon à air\n", "utf-8")
    return path


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(("cat/0.png", "dog/1.png", "dog/2.png")):
            archive.writestr(name, png(number))
    return folder / "t.zip"


def picture(kind: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        decode_image(png(), "x").save(folder / "x.jpg", kind)
        return folder / "x.jpg"

    return make


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Args:
        make: writes a valid file in a folder, and returns its path.
        read: reads the file.
        examples: number of damaged versions to try.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    examples: int = 25


MORE = {"flowers102": ["cat_to_name.json", "setid.mat", "imagelabels.mat"], "food101": ["meta/classes.txt"],
        "ucf101": ["ucfTrainTestlist/classInd.txt"], "sun397": ["ClassName.txt"]}  # fmt: skip
OFFICIAL = {
    f"{file} of {key}": Reader(
        official(key, file), entry(key), 1 if key == "flowers102" or file.endswith(".mat") else 25
    )
    for key, main in LISTS.items()
    for file in dict.fromkeys((main, *MORE.get(key, ())))
}  # few examples: MATLAB files are read in a process of their own
READERS = {
    "run.json": Reader(run, resumed, 60),
    "records": Reader(shard, lambda file: report(file.parent.parent)),
    "records under their digest": Reader(shard, under_its_digest, 60),
    "training.json": Reader(
        lambda folder: write(folder / "training.json", b'{"config": {"shots": {"k": 1, "key": "dtd"}}}'),
        lambda file: training_of(str(file.with_name("context.safetensors"))),
    ),
    "a split": Reader(split, entry("dtd"), 60),
    **{f"{file} of the aircraft": Reader(aircraft(file), entry("fgvc_aircraft"), 30) for file in
       ("variants.txt", "images_variant_test.txt")},
    **OFFICIAL,
    "shards of pictures": Reader(
        lambda folder: write_shard(folder / "t.tar", [("a", "cat"), ("b", "dog")]),
        lambda file: read_all(tar_shards(file)),
        200,
    ),
    "a table": Reader(table, image_list, 60),
    "a Parquet table": Reader(parquet, image_list, 60),
    "class names": Reader(names, named, 60),
    "a zip archive": Reader(zipped, lambda file: read_all(image_folder(file)), 200),
    **{f"a {kind}": Reader(picture(kind), lambda file: decode_image(file.read_bytes(), "x.jpg"), 60) for kind in
       ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")},
}  # fmt: skip


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths (keys and indices) of all values in nested dictionaries and lists."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def replaced(whole: bytes) -> st.SearchStrategy[bytes]:
    """JSON files in which one value, or the whole content, is replaced by an arbitrary one."""

    def put(change: tuple[tuple[Any, ...], Any]) -> bytes:
        (*path, last), content = change[0], json.loads(whole)
        node = content
        for key in path:
            node = node[key]
        node[last] = change[1]
        return json.dumps(content).encode()

    one = st.tuples(st.sampled_from(places(json.loads(whole))[1:]), JSON).map(put)
    return one | JSON.map(lambda value: json.dumps(value).encode())


SLOW = ("setid.mat of flowers102", "cars_test_annos_withlabels.mat of stanford_cars")  # as imagelabels.mat


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in READERS])
def test_any_damage_gives_one_sentence(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    file = reader.make(tmp_path)
    whole = file.read_bytes()
    reader.read(file)
    kinds = damaged(whole) | replaced(whole) if file.suffix == ".json" else damaged(whole)

    @settings(FUZZ, max_examples=reader.examples)
    @given(content=kinds)
    def check(content: bytes) -> None:
        file.write_bytes(content)
        with sentence():
            reader.read(file)

    check()


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "dataset": st.sampled_from(["a", "dtd", "other", None, ""]),
    "index": st.integers(-(2**63), 2**63 - 1),
    **dict.fromkeys(("path", "content", "problem"), st.none() | st.text(max_size=5)),
    **dict.fromkeys(("label", "pred"), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "rank": st.none() | st.integers(-(2**31), 2**31 - 1),
    **dict.fromkeys(("confidence", "entropy"), st.none() | st.floats(width=32)),
    "selected": st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=3),
    "seconds": st.none() | st.floats(),
}


@settings(FUZZ, max_examples=25)
@given(changes=st.fixed_dictionaries({}, optional=VALUES), number=st.integers(0, 3))
def test_a_report_reads_records_with_any_values(tmp_path: Path, changes: dict[str, Any], number: int) -> None:
    folder = run(tmp_path).parent
    shutil.rmtree(folder / "records")
    rows = rows_of("a", share(50, 4), share(75, 4))
    rows[number] |= changes
    with suppress(ValueError):  # some values cannot be written
        records.write_shard(rows, folder / "records", "00-a-0000001")
    with sentence():
        report(folder)


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_no_reader_unpickles(tmp_path: Path) -> None:
    """The code in a pickle does not run, whichever kind of file it replaces."""
    bomb, buffer = Bomb(tmp_path / "went off"), io.BytesIO()
    np.save(buffer, np.array([bomb], dtype=object), allow_pickle=True)
    for number, (name, reader) in enumerate(READERS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = reader.make(folder)
        contents = [pickle.dumps(bomb), buffer.getvalue()]
        for content in contents[: 1 if name in SLOW or "flowers102" in name else 2]:
            file.write_bytes(content)
            with sentence():
                reader.read(file)
    assert not bomb.path.exists()
    pickle.loads(pickle.dumps(bomb))
    assert bomb.path.exists(), "the bomb works"
