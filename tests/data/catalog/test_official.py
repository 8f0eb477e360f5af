"""The datasets' own lists, and the order of classes in every kind of list."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.own_lists import LISTS, remove_splits, write_cars_annos, write_own_lists
from tests.paper_tree import AIRCRAFT, SPLITS, paper_tree
from tpt.data import read_entry
from tpt.data.catalog import CATALOG
from tpt.errors import DataError


def own_tree(root: Path, key: str, layout: int = 0) -> Path:
    """Creates a miniature dataset with only its own lists; returns the dataset's folder."""
    paper_tree(root, layout, keys=[key])
    remove_splits(root)
    return write_own_lists(key, root, layout)


# CoOp's split was made from these datasets' own test lists: the same images under the same names.
SAME_LISTS = ("oxford_pets", "stanford_cars", "ucf101", "sun397")


MATLAB = ("flowers102", "stanford_cars")  # read in a process of their own, so that one layout is enough


@pytest.mark.parametrize(
    ("key", "layout"),
    [pytest.param(key, layout, marks=pytest.mark.slow if key in MATLAB and layout else (), id=f"{key}-{name}")
     for key in LISTS for layout, name in enumerate(("tpt", "coop"))],
)  # fmt: skip
def test_own_lists_agree_with_the_papers_split(
    key: str, layout: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Images, names and labels are equal; the log and the notes name the own list if the real lists differ."""
    paper_tree(tmp_path, layout, keys=[key])
    paper = read_entry(key, tmp_path)
    remove_splits(tmp_path)
    write_own_lists(key, tmp_path, layout)
    with caplog.at_level(logging.WARNING):
        own = read_entry(key, tmp_path)
    assert (own.class_names, own.samples, own.store.root) == (paper.class_names, paper.samples, paper.store.root)
    assert own.split == LISTS[key] and own.image(5).mode == "RGB"
    note = f"the dataset's own split {LISTS[key]}, not the paper's {SPLITS[key].file}"
    differs = key not in SAME_LISTS
    assert CATALOG[key].is_papers(own.split) is not differs
    assert (note in own.notes) is differs and (f"{key}: {note}." in caplog.messages) is differs


@pytest.mark.parametrize("key", ["caltech101", "eurosat"])
def test_datasets_without_lists_need_the_papers_split(key: str, tmp_path: Path) -> None:
    paper_tree(tmp_path, keys=[key])
    remove_splits(tmp_path)
    with pytest.raises(
        DataError, match=f"Not all lists of the test images .* Put {SPLITS[key].file} there, which CoOp's DATASETS.md"
    ):
        read_entry(key, tmp_path)


def test_training_lists(tmp_path: Path) -> None:
    own_tree(tmp_path, "oxford_pets")
    assert [s.label for s in read_entry("oxford_pets", tmp_path, "train").samples] == [0, 1, 2]
    with pytest.raises(DataError, match="Not all lists of the val images"):
        read_entry("oxford_pets", tmp_path, "val")


@pytest.mark.parametrize(
    ("split", "numbers"), [("train", (0, 2, 4)), pytest.param("test", (1, 3, 5), marks=pytest.mark.slow)]
)
def test_the_older_list_of_stanford_cars(split: str, numbers: tuple[int, ...], tmp_path: Path) -> None:
    paper_tree(tmp_path, keys=["stanford_cars"])
    remove_splits(tmp_path)
    write_cars_annos(tmp_path / "StanfordCars")
    found = read_entry("stanford_cars", tmp_path, split)
    assert found.class_names == list(SPLITS["stanford_cars"].classes)
    assert [s.path for s in found.samples] == [f"car_ims/{n:06d}.jpg" for n in numbers]
    assert [s.label for s in found.samples] == [0, 1, 2] and found.image(0).mode == "RGB"


def test_flowers_without_names_use_torchvisions(tmp_path: Path) -> None:
    """Its list of validation images has one image of each of three classes."""
    (own_tree(tmp_path, "flowers102") / "cat_to_name.json").unlink()
    found = read_entry("flowers102", tmp_path, "val")
    assert [s.label for s in found.samples] == [0, 1, 2]
    assert len(found.class_names) == 102 and found.class_names[:2] == ["pink primrose", "hard-leaved pocket orchid"]


DAMAGE = [
    (
        "oxford_pets",
        "annotations/test.txt",
        "Maine_Coon_21 1 1 1\nAbyssinian_1 1 1 1\n",
        "its labels do not number the classes",
    ),
    ("oxford_pets", "annotations/test.txt", "Abyssinian_1 1 1 1\nMaine_Coon_21 3 1 1\n", "its labels do not number"),
    ("oxford_pets", "annotations/test.txt", "Abyssinian_1 one 1 1\n", "invalid literal"),
    ("ucf101", "ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n", "KeyError"),
    ("ucf101", "ucfTrainTestlist/testlist01.txt", "ApplyEyeMakeup\n", "not enough values"),
    ("food101", "meta/classes.txt", "apple_pie\nbaby_back_ribs\n", "is of 'beef_tartare', which is not a class"),
    ("sun397", "ClassName.txt", "/a/abbey\n/b/bistro/indoor\n", "is of '/a/apartment_building/outdoor', which is not"),
    ("dtd", "labels/test1.txt", "banded/\udce9.jpg\n", "byte 7 is not in UTF-8"),
    ("stanford_cars", "cars_test_annos_withlabels.mat", "MATLAB 5.0 MAT-file, but not really", "cars_test_annos"),
    ("flowers102", "setid.mat", "", "setid.mat: "),
]


@pytest.mark.parametrize(("key", "file", "content", "message"), DAMAGE)
def test_damaged_lists(key: str, file: str, content: str, message: str, tmp_path: Path) -> None:
    (own_tree(tmp_path, key) / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"Cannot read the lists of {key} .*{message}.*\. Get them again"):
        read_entry(key, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("000 Boeing\n", "000.jpg is of 'Boeing', which is not a class"),
        ("009 F/A-18\n", "1 of the 1 images .* are missing in .*, such as"),
    ],
)
def test_damaged_lists_of_aircraft(content: str, message: str, tmp_path: Path) -> None:
    base = paper_tree(tmp_path, keys=["fgvc_aircraft"]) / "fgvc_aircraft"
    (base / "images_variant_test.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_entry("fgvc_aircraft", tmp_path)
    (base / "images_variant_test.txt").write_text("000 F/A-18\n")
    (base / "variants.txt").write_text("\n".join([*AIRCRAFT, AIRCRAFT[0]]))
    with pytest.raises(DataError, match="are the same prompt to the model: 'A330-200' and"):
        read_entry("fgvc_aircraft", tmp_path)
    (base / "variants.txt").unlink()
    with pytest.raises(DataError, match=r"Not all lists of the test images of FGVC-Aircraft are in"):
        read_entry("fgvc_aircraft", tmp_path)


def test_missing_images_of_own_lists_are_named(tmp_path: Path) -> None:
    own = own_tree(tmp_path, "ucf101")
    for name in ("v_YoYo_g01_c21.jpg", "v_YoYo_g01_c22.jpg"):
        (own / "Yo_Yo" / name).unlink()
    with pytest.raises(DataError, match=r"2 of the .* are missing in .*, such as Yo_Yo/v_YoYo_g01_c21\.jpg"):
        read_entry("ucf101", tmp_path)


TELLING = [key for key in SPLITS if key not in ("flowers102", "stanford_cars")]  # their paths contain the class


@pytest.mark.parametrize("key", TELLING)
def test_names_in_a_different_order_than_the_folders(key: str, tmp_path: Path) -> None:
    """Labels match the folders, but names are rotated, so every prompt would describe the next class."""
    paper_tree(tmp_path, keys=[key])
    file = tmp_path / "splits" / SPLITS[key].file
    rows, names = json.loads(file.read_text())["test"], list(SPLITS[key].classes)
    file.write_text(json.dumps({"test": [[path, label, names[(label + 1) % 3]] for path, label, _ in rows]}))
    with pytest.raises(DataError, match=r"but its folder or other images .* in different orders"):
        read_entry(key, tmp_path)


@pytest.mark.parametrize("key", TELLING)
def test_one_image_with_a_wrong_label(key: str, tmp_path: Path) -> None:
    """A wrong label is found even if folders and classes have different names, such as CoOp's short ones."""
    paper_tree(tmp_path, keys=[key])
    file = tmp_path / "splits" / SPLITS[key].file
    rows = json.loads(file.read_text())["test"]
    strange = [[path, label, f"thing {label}"] for path, label, _ in rows]
    file.write_text(json.dumps({"test": strange}))
    assert read_entry(key, tmp_path).class_names == ["thing 0", "thing 1", "thing 2"]  # a user may choose other names
    strange[0][1:] = strange[5][1:]
    file.write_text(json.dumps({"test": strange}))
    with pytest.raises(DataError, match=r"but its folder or other images .* in different orders"):
        read_entry(key, tmp_path)


@pytest.mark.parametrize("key", ["flowers102", "stanford_cars"])
def test_paths_without_the_class_are_not_checked(key: str, tmp_path: Path) -> None:
    paper_tree(tmp_path, keys=[key])
    file = tmp_path / "splits" / SPLITS[key].file
    rows, names = json.loads(file.read_text())["test"], list(SPLITS[key].classes)
    file.write_text(json.dumps({"test": [[path, label, names[2 - label]] for path, label, _ in rows]}))
    assert read_entry(key, tmp_path).class_names == names[::-1]


def test_eurosats_folder_names_become_the_papers_names(tmp_path: Path) -> None:
    """Some copies of the split file have the folders' names, which are replaced by the paper's."""
    paper_tree(tmp_path, keys=["eurosat"])
    file = tmp_path / "splits" / SPLITS["eurosat"].file
    rows = json.loads(file.read_text())["test"]
    file.write_text(json.dumps({"test": [[path, label, path.split("/")[0]] for path, label, _ in rows]}))
    assert read_entry("eurosat", tmp_path).class_names == ["Annual Crop Land", "Forest", "Sea or Lake"]


def test_an_official_list_with_an_unknown_class(tmp_path: Path) -> None:
    own = own_tree(tmp_path, "food101")
    listing = own / "meta" / "test.txt"
    names = listing.read_text().replace("apple_pie", "no_such_food")
    (own / "meta" / "classes.txt").write_text("no_such_food\nbaby_back_ribs\nbeef_tartare\n")
    listing.write_text(names)
    with pytest.raises(DataError, match="2 of the 6 images .* are missing in .*, such as no_such_food/1.jpg"):
        read_entry("food101", tmp_path)
