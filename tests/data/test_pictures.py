"""Pictures without labels: where they are found, and views that depend only on pixels."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from tests.conftest import noise_image
from tpt.data import EpisodeDataModule, Sample, draw_shots, image_folder, pictures
from tpt.data.pictures import class_list, find_pictures
from tpt.errors import DataError
from tpt.views import Views

CLASSES = ["cat", "dog"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures in nested folders and an archive, among other files."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "sub/b.jpg", "sub/deeper/c d.png", "sub/[e].png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(number).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("x")
    (tmp_path / "photos" / "sub" / ".hidden.png").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for name in ("z.png", "in/y.png"):
            archive.write(tmp_path / "photos" / "a.png", name)
    return tmp_path


A, B, C, E = (f"photos/{name}" for name in ("a.png", "sub/b.jpg", "sub/deeper/c d.png", "sub/[e].png"))


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("photos", [A, E, B, C]),
        ("./photos/", [A, E, B, C]),
        (A, [A]),
        (["photos/sub", A, "photos"], [E, B, C, A]),  # each once, in the order in which they are first named
        ("photos/**/*.png", [A, E, C]),
        ("photos/sub/[e].png", [E]),  # an existing file, although its name looks like a pattern
        ("photos/sub/[ab].*", [B]),
        ("more.zip", ["more.zip/in/y.png", "more.zip/z.png"]),
        (["*.zip", "photos/?.png"], ["more.zip/in/y.png", "more.zip/z.png", A]),
        ("photos/notes.txt", ["photos/notes.txt"]),  # a file named explicitly counts as a picture
        ("@list.txt", [A, C]),
    ],
)
def test_where_pictures_are_found(root: str | list[str], expected: list[str], tree: Path) -> None:
    (tree / "list.txt").write_text(f"{A}\n\n{C}\n")
    dataset = pictures(root, CLASSES)
    assert [sample.path for sample in dataset.samples] == expected
    assert not dataset.labelled and dataset.class_names == CLASSES
    if "notes" not in str(root):
        assert all(dataset.image(i).size == (48, 40) for i in range(len(dataset)))


def test_other_files_are_counted(tree: Path) -> None:
    assert pictures("photos", CLASSES).notes == ["files that are no pictures are left out: 1 .txt"]
    assert pictures(A, CLASSES).notes == []


def test_a_link_to_its_own_folder_is_not_followed_forever(tree: Path) -> None:
    (tree / "photos" / "loop").symlink_to(tree / "photos")
    assert len(pictures("photos", CLASSES)) == 4


@pytest.mark.parametrize("end", ["a.png", "*.png", ""])
def test_dots_after_a_link_lead_where_the_system_says(end: str, tree: Path) -> None:
    """`link/..` is the folder above the link's target, not the one that contains the link."""
    (tree / "elsewhere" / "inner").mkdir(parents=True)
    noise_image(9).save(tree / "elsewhere" / "a.png")
    noise_image(8).save(tree / "a.png")
    (tree / "link").symlink_to(tree / "elsewhere" / "inner")
    found = find_pictures([f"link/../{end}"])
    assert [found.store.read(path) for path in found.paths] == [(tree / "elsewhere" / "a.png").read_bytes()]
    assert find_pictures(["photos/../photos/./a.png"]).paths == [A]


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("phots", r"no picture, folder, zip archive or pattern 'phots'\. Check the path\."),
        ("phots/*.png", r"No pictures match 'phots/\*\.png'"),
        ("@none.txt", r"Cannot read the list of pictures none\.txt"),
        ("empty", r"No pictures at empty"),
        ("texts", r"No pictures at texts \(1 \.txt\)"),
        ("broken.zip", r"broken\.zip is no folder or \.zip archive"),
        ([], r"No pictures at "),
    ],
)
def test_no_pictures(root: str | list[str], message: str, tree: Path) -> None:
    (tree / "empty").mkdir()
    (tree / "texts").mkdir()
    (tree / "texts" / "a.txt").write_text("x")
    (tree / "broken.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=message):
        pictures(root, CLASSES)


def test_class_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n\nhot air balloon\n")
    assert class_list(tmp_path / "names.txt") == class_list("cat, hot air balloon") == ["cat", "hot air balloon"]
    assert class_list(["cat", "a, b"]) == ["cat", "a, b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("names.txt", r"choose from in data.class_names, got 1, \['names\.txt'\]"),
        ("x" * 5000, r"got 1, \['x{198}; put commas between, or check the path"),
        ("", r"got 0, \[\]; put commas"),
        ("cat,dog,cat", r"Two classes .*'cat'"),
        (["cat"], r"Expected at least two class names to choose from in data\.class_names, got 1"),
        ("cat, ,", r"Expected at least two class names .*got 1"),
    ],
)
def test_invalid_class_names(names: str | list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_list(names)


def views_of(root: Path | str | list[str]) -> dict[str, torch.Tensor]:
    dataset = pictures(root, CLASSES)
    data = EpisodeDataModule([dataset], batch_size=3).use_views(Views(8, num_views=4))
    batches = list(data.test_dataloader()[0])
    assert all(batch.labels is None for batch in batches)
    return {path: views for batch in batches for path, views in zip(batch.paths, batch.views, strict=True)}


def test_views_depend_only_on_pixels(tree: Path) -> None:
    """Views do not depend on file name, folder, format or batch; other pixels have other random crops."""
    shutil.copy(A, tree / "other name.png")
    noise_image(0).save(tree / "same.bmp")
    found = views_of(["photos", "other name.png", "same.bmp", "more.zip"])
    alone = views_of("other name.png")["other name.png"]
    for path in (A, "other name.png", "same.bmp", "more.zip/z.png", "more.zip/in/y.png"):
        assert torch.equal(found[path], alone), path
    assert not torch.equal(found[C], alone)


def test_a_dataset_is_labelled_as_a_whole_or_not_at_all(image_tree: Path) -> None:
    dataset = image_folder(image_tree)
    samples = [*dataset.samples[:-1], Sample(dataset.samples[-1].path)]
    with pytest.raises(DataError, match=r"1 of the 12 images of dataset .* have no label"):
        type(dataset)(dataset.name, dataset.class_names, samples, dataset.store)


def test_shots_need_labels(tree: Path) -> None:
    with pytest.raises(DataError, match=r"Expected labelled images in dataset 'pictures', got pictures without labels"):
        draw_shots(pictures("photos", CLASSES), None, 1)


def test_paths_remain_readable_from_another_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and absolute paths can be read after the current folder has changed."""
    relative, absolute = pictures("photos", CLASSES), pictures(str(tree / "photos"), CLASSES)
    assert [s.path for s in absolute.samples] == [f"{tree}/{s.path}" for s in relative.samples]
    monkeypatch.chdir(os.sep)
    assert relative.content(0) == absolute.content(0) == (tree / A).read_bytes()


def test_find_pictures_keeps_duplicates(tree: Path) -> None:
    assert find_pictures([A, B, A]).paths == [A, B, A]


@pytest.mark.parametrize("place", [".", "photos", "photos/", "photos/caf\udce9.png", "photos/*.png", "@list.txt"])
def test_a_name_that_is_not_utf8_is_read_and_shown_as_text(place: str, tree: Path) -> None:
    odd = "photos/caf\udce9.png"  # Latin-1 on the disk
    shutil.copy(A, odd)
    (tree / "list.txt").write_text("photos\n")
    dataset = pictures(place, CLASSES)
    (index,) = (i for i, sample in enumerate(dataset.samples) if sample.path.endswith("photos/caf\\xe9.png"))
    assert dataset.image(index).tobytes() == noise_image(0).tobytes()


@pytest.mark.parametrize("place", ["photos", "photos/turned.jpg", "turned.zip"])
def test_photographs_are_turned_upright(place: str, tree: Path) -> None:
    exif = noise_image(0).getexif()
    exif[0x0112] = 6  # the camera was held on its side
    noise_image(0).resize((40, 20)).save("photos/turned.jpg", exif=exif)
    with zipfile.ZipFile("turned.zip", "w") as archive:
        archive.write("photos/turned.jpg", "turned.jpg")
    for orientation, size in (("apply", (20, 40)), ("ignore", (40, 20))):
        dataset = pictures(place, CLASSES, orientation=orientation)
        (index,) = (i for i, sample in enumerate(dataset.samples) if sample.path.endswith("turned.jpg"))
        assert dataset.image(index).size == size
        notes = " ".join(dataset.all_notes())
        assert ("1 of" in notes and "turned upright" in notes) is (orientation == "apply")
