"""The folder reader: the layouts it accepts, and its errors for other layouts."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import noise_image
from tpt.data import image_folder
from tpt.errors import BadImageError, DataError


def zipped(tree: Path, inside: str = "") -> Path:
    path = tree.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*.png")):
            archive.write(file, f"{inside}{file.relative_to(tree).as_posix()}")
    return path


def test_folder_names_are_class_names(image_tree: Path) -> None:
    dataset = image_folder(image_tree)
    assert dataset.name == "pictures"
    assert dataset.class_names == ["T-shirt", "cat", "hot air balloon"]
    assert len(dataset) == dataset.size == 12
    assert [s.label for s in dataset.samples] == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.samples[4].path == "cat/0.png"
    assert np.array_equal(np.asarray(dataset.image(4)), np.asarray(noise_image(0)))


def test_a_zip_archive_reads_the_same(image_tree: Path) -> None:
    folder, archive = image_folder(image_tree), image_folder(zipped(image_tree))
    assert (folder.class_names, folder.samples) == (archive.class_names, archive.samples)
    for i in range(len(folder)):
        assert np.array_equal(np.asarray(folder.image(i)), np.asarray(archive.image(i)))


def test_an_extra_folder_around_the_classes(image_tree: Path) -> None:
    """An extra folder is an error, not a single class."""
    with pytest.raises(
        DataError, match=r"'pictures' in .* seem to hold the folders of classes.* point data.root at .*/pictures"
    ):
        image_folder(image_tree.parent)


def test_a_zip_with_a_folder_around_the_classes(image_tree: Path) -> None:
    """Images, labels and paths are the same as in a zip without that folder."""
    inner, outer = image_folder(zipped(image_tree)), image_folder(zipped(image_tree, "pictures/"))
    assert (inner.class_names, inner.samples) == (outer.class_names, outer.samples)
    assert outer.image(4).tobytes() == image_folder(image_tree).image(4).tobytes()


def test_pictures_outside_class_folders_are_counted(image_tree: Path) -> None:
    noise_image(1).save(image_tree / "loose.png")
    for found in (image_folder(image_tree), image_folder(zipped(image_tree))):
        assert len(found) == 12 and found.notes == ["1 pictures outside the class folders were skipped"]


def test_wordnet_ids_mixed_with_names(image_tree: Path) -> None:
    (image_tree / "cat").rename(image_tree / "n02123045")
    with pytest.raises(DataError, match="all by WordNet ids of ImageNet, got T-shirt, .*; name"):
        image_folder(image_tree)


def test_a_folder_given_as_dot_has_a_name(image_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_tree)
    assert image_folder(".").name == "pictures"


def test_names_with_spaces_and_brackets(image_tree: Path) -> None:
    (image_tree / "cat").rename(image_tree / "kite (bird of prey)")
    (image_tree / "T-shirt").rename(image_tree / "[a] 100% {cotton} T-shirt")
    assert image_folder(image_tree).class_names[::2] == ["[a] 100% {cotton} T-shirt", "kite (bird of prey)"]


def test_nested_hidden_and_other_files(image_tree: Path) -> None:
    (image_tree / "cat" / "more" / "deep").mkdir(parents=True)
    noise_image(9).save(image_tree / "cat" / "more" / "deep" / "z.JPG", "JPEG")
    (image_tree / "cat" / "notes.txt").write_text("not an image")
    (image_tree / "cat" / ".hidden.png").write_bytes(b"x")
    (image_tree / ".cache").mkdir()
    (image_tree / "readme.md").write_text("not a class")
    assert [s.path for s in image_folder(image_tree).samples if s.label == 1][-1] == "cat/more/deep/z.JPG"
    assert len(image_folder(image_tree)) == 13


def test_names_from_a_list_in_order(image_tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\ufeffshirt\n\npussy cat\nballoon (hot air)\n", "utf-8")
    assert image_folder(image_tree, class_names=file).class_names == ["shirt", "pussy cat", "balloon (hot air)"]
    assert image_folder(image_tree, class_names=["a", "b", "c"]).class_names == ["a", "b", "c"]


def test_names_by_folder(image_tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\tpussy cat\nhot air balloon\tballoon\nT-shirt\tshirt\nunused\tthing\n")
    assert image_folder(image_tree, class_names=file).class_names == ["shirt", "pussy cat", "balloon"]
    file.write_text("cat\tpussy cat\n")
    with pytest.raises(DataError, match="no name in data.class_names: 'T-shirt', 'hot air balloon'"):
        image_folder(image_tree, class_names=file)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder or .zip archive\. Check data\.root"):
        image_folder(tmp_path / "absent")


def test_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no folder or .zip archive\. .* unpack it"):
        image_folder(tmp_path / "x.tar")


def test_no_class_folders(tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match="no folder per class"):
        image_folder(tmp_path)


def test_empty_class(image_tree: Path) -> None:
    """A class without images remains a possible answer; a class folder with only other files is an error."""
    (image_tree / "dog").mkdir()
    found = image_folder(image_tree)
    assert found.class_names == ["T-shirt", "cat", "dog", "hot air balloon"] and len(found) == 12
    assert found.notes == ["1 of 4 classes have no image, such as 'dog'; they stay among the answers"]
    (image_tree / "dog" / "1.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"can be read: 'dog'\. Convert the files, or move"):
        image_folder(image_tree)


def test_duplicate_names(image_tree: Path) -> None:
    (image_tree / "hot_air_balloon").mkdir()
    noise_image(0).save(image_tree / "hot_air_balloon" / "0.png")
    with pytest.raises(DataError, match="same prompt .*'hot air balloon' and 'hot_air_balloon'"):
        image_folder(image_tree)


def test_wrong_number_of_names(image_tree: Path) -> None:
    with pytest.raises(DataError, match=r"Expected 3 class names in data\.class_names.*got 2"):
        image_folder(image_tree, class_names=["a", "b"])
    with pytest.raises(DataError, match=r"same prompt .*'a' and 'a' \(classes 0 and 2\)"):
        image_folder(image_tree, class_names=["a", "b", "a"])
    with pytest.raises(DataError, match="class names in .*absent.txt"):
        image_folder(image_tree, class_names="absent.txt")


def test_a_deleted_file_is_named_in_the_error(image_tree: Path) -> None:
    dataset = image_folder(image_tree)
    (image_tree / "cat" / "2.png").unlink()
    with pytest.raises(BadImageError, match=r"cat/2\.png"):
        dataset.image(6)
