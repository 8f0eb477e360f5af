"""Web-dataset shards, read in place."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from tests.own_data import png, write_shard
from tpt.data import tar_shards
from tpt.data.images import decode_image
from tpt.errors import BadImageError, DataError

SAMPLES = [("000/a", "dog"), ("000/b", "cat"), ("001/a", "dog")]


def members(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards with two samples each."""
    root = tmp_path / "my shards [v1]"
    root.mkdir()
    for n in range(3):
        write_shard(root / f"test-{n:03d}.tar", [(f"{n}a", "dog"), (f"{n}b", "cat")])
    return root


def test_samples_are_read_in_place(tmp_path: Path) -> None:
    found = tar_shards(write_shard(tmp_path / "test.tar", SAMPLES))
    assert found.name == tmp_path.name and found.class_names == ["cat", "dog"]
    assert [(s.path, s.label) for s in found.samples] == [
        ("test/000/a.png", 1), ("test/000/b.png", 0), ("test/001/a.png", 1)
    ]  # fmt: skip
    for n in range(3):
        assert np.array_equal(np.asarray(found.image(n)), np.asarray(decode_image(png(n), "x")))
    assert [p.name for p in tmp_path.iterdir()] == ["test.tar"], "nothing is unpacked"


@pytest.mark.parametrize(
    ("pattern", "shards"),
    [
        ("test-{000..002}.tar", "012"), ("test-{001..002}.tar", "12"), ("test-00{0..1}.tar", "01"),
        ("test-{000..000}.tar", "0"), ("test-{00..00}{0..2}.tar", "012"), ("", "012"), ("test-00[02].tar", "02"),
        ("*-001.tar", "1"), ("test-002.tar", "2"),
    ],
)  # fmt: skip
def test_patterns(folder: Path, pattern: str, shards: str) -> None:
    """Patterns work even if the folder's own name looks like one."""
    expected = [f"test-00{n}/{n}{letter}.png" for n in shards for letter in "ab"]
    escaped = str(folder).replace("[", "[[]") if any(c in pattern for c in "*[") else str(folder)
    assert [s.path for s in tar_shards(f"{escaped}/{pattern}").samples] == expected
    several = tar_shards([f"{folder}/test-002.tar", f"{folder}/test-000.tar"]).samples
    assert [s.path[:8] for s in several] == ["test-002"] * 2 + ["test-000"] * 2


def test_numbered_labels_and_their_names(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "t.tar", [("a", "1\n"), ("b", "0")])
    with pytest.raises(DataError, match=r"are numbers, and there are no class names\. Set data\.class_names"):
        tar_shards(shard)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    assert tar_shards(shard).class_names == ["cat", "dog"] and [s.label for s in tar_shards(shard).samples] == [1, 0]
    assert tar_shards(shard, class_names=["a", "b", "c"], name="mine").class_names == ["a", "b", "c"]
    (tmp_path / "test").mkdir()
    deeper = write_shard(tmp_path / "test" / "t.tar", [("a", "0")])
    assert tar_shards(deeper).class_names == ["cat", "dog"], "one folder above, as CLIP_benchmark writes it"
    with pytest.raises(DataError, match="Expected labels 0 to 0 in"):
        tar_shards(shard, class_names=["a"])


def test_other_files_of_a_sample_are_ignored(tmp_path: Path) -> None:
    files = {"a.jpg": png(), "a.txt": b"dog", "a.json": b"{}", "a.cls": b"7", "readme.md": b"hello"}
    found = tar_shards(members(tmp_path / "t.tar", files), label_key="txt")
    assert found.class_names == ["dog"] and len(found) == 1


def test_an_unreadable_format_is_used_only_without_another(tmp_path: Path) -> None:
    files = {"a.heic": b"x", "a.cls": b"cat", "b.nef": b"x", "b.jpg": png(), "c.jpg": png(), "c.nef": b"x"}
    found = tar_shards(members(tmp_path / "t.tar", {**files, "b.cls": b"cat", "c.cls": b"dog"}))
    assert [sample.path for sample in found.samples] == ["t/a.heic", "t/b.jpg", "t/c.jpg"]
    with pytest.raises(BadImageError, match="HEIC is not read"):
        decode_image(found.store.read("t/a.heic"), "a.heic")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b"x"}, r"only a label .cls, such as a\. Set data\.label_key"),
        ({"a.jpg": b"x", "a.cls": b" \n"}, "1 samples of .* have only an image or only a label"),
        ({"a.jpg": b"x", "a.cls": b"0", "b.cls": b"1"}, r"such as b\. Set"),
        ({"a.jpg": b"x", "a.seg.png": b"x", "a.cls": b"0"}, "one sample has the images a.jpg and a.seg.png"),
        ({"a.jpg": b"x", "a.cls": b"\xff"}, "Cannot read .*utf-8"),
        ({}, "no images. Check data.root"),
    ],
)
def test_incomplete_shards(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tar_shards(members(tmp_path / "t.tar", files), class_names=["x", "y"])


def test_files_that_are_not_shards(folder: Path, tmp_path: Path) -> None:
    compressed = tmp_path / "test-000.tar.gz"
    compressed.write_bytes(gzip.compress((folder / "test-000.tar").read_bytes()))
    with pytest.raises(DataError, match=r"test-000\.tar\.gz as an uncompressed tar archive.* or decompress it"):
        tar_shards(compressed)
    with pytest.raises(DataError, match=r"No \.tar archives at .* gunzip"):
        tar_shards(tmp_path)
    with pytest.raises(DataError, match=r"1 of the 1 shards are missing, such as .*/x\*\.tar"):
        tar_shards(f"{tmp_path}/x*.tar")
    with pytest.raises(DataError, match=r"1 of the 4 shards are missing, such as .*test-003\.tar"):
        tar_shards(f"{folder}/test-{{000..003}}.tar")
    for pattern in ("{0..999999999999}.tar", "{3..1}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(DataError, match=r"Expected a pattern of 1 to 100,000 shards"):
            tar_shards(pattern)
    with pytest.raises(DataError, match="occurs twice"):
        tar_shards([f"{folder}/test-000.tar"] * 2)
    (tmp_path / "cut.tar").write_bytes((folder / "test-000.tar").read_bytes()[:600])
    with pytest.raises(DataError, match=r"as an uncompressed tar archive .*\. Get it again"):
        tar_shards(tmp_path / "cut.tar")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_and_samples_with_separated_files(tmp_path: Path, form: int) -> None:
    """Samples with long names or separated files keep names, order and labels; hidden files are ignored."""
    deep = f"{'d' * 60}/{'e' * 60}"
    files = {"._b.png": b"x", f"{deep}/b.png": png(1), "a.png": png(2), f"{deep}/b.cls": b"1", "a.cls": b"0"}
    with tarfile.open(tmp_path / "t.tar", "w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found = tar_shards(tmp_path / "t.tar", class_names=["x", "y"])
    assert [(s.path, s.label) for s in found.samples] == [(f"t/{deep}/b.png", 1), ("t/a.png", 0)]
    assert [found.content(n) for n in range(2)] == [png(1), png(2)]


def test_links_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, kind in (("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            archive.addfile(member)
        label = tarfile.TarInfo("a.cls")
        label.size = 1
        archive.addfile(label, io.BytesIO(b"0"))
    with pytest.raises(DataError, match="1 samples of .* have only an image or only a label .*, such as a"):
        tar_shards(tmp_path / "t.tar", class_names=["x"])


def test_a_shard_that_changes_during_a_run(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "t.tar", SAMPLES)
    found = tar_shards(shard)
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(BadImageError, match="t/001/a.png in .*Get the shard again"):
        found.image(2)
    shard.unlink()
    with pytest.raises(BadImageError, match="t/000/a.png in .*Get the shard again"):
        found.image(0)


def test_worker_processes_read_the_same_images(folder: Path) -> None:
    found = tar_shards(folder)
    assert pickle.loads(pickle.dumps(found.store)).read("test-001/1a.png") == png(0)
    loader = DataLoader(range(6), batch_size=None, num_workers=2, collate_fn=lambda n: np.asarray(found.image(n)).sum())  # type: ignore[arg-type]
    assert list(loader) == [np.asarray(found.image(n)).sum() for n in range(6)]


def test_a_folder_given_as_dot_has_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert tar_shards("test-000.tar").name == folder.name
