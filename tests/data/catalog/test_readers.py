"""Reading the fifteen datasets in both layouts, and refusing what would give wrong numbers."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.paper_tree import CLASSES, FOLDERS, SPLITS, paper_tree
from tpt.data.__main__ import main
from tpt.data.catalog import CATALOG, CROSS_DATASET, NATURAL_SHIFT, catalog_datasets, read_entry
from tpt.data.catalog.names import imagenet_classes
from tpt.errors import DataError


@pytest.fixture(scope="module", params=[0, 1], ids=["tpt", "coop"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_tree(tmp_path_factory.mktemp("paper"), request.param)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The split datasets alone, to damage."""
    shutil.copytree(paper_tree(tmp_path / "all") / "DTD", tmp_path / "DTD")
    shutil.copytree(tmp_path / "all" / "splits", tmp_path / "splits")
    shutil.copytree(tmp_path / "all" / "imagenet-a", tmp_path / "imagenet-a")
    return tmp_path


def split(root: Path) -> tuple[Path, list[list[object]]]:
    file = root / "splits" / SPLITS["dtd"][0]
    return file, json.loads(file.read_text())["test"]


def test_every_dataset_in_both_layouts(tree: Path) -> None:
    found = catalog_datasets(list(CATALOG), tree)
    assert [d.name for d in found] == list(CATALOG)
    assert len(NATURAL_SHIFT) == 5 and len(CROSS_DATASET) == 10
    for dataset in found:
        image = dataset.image(0)  # the path leads to a file
        assert isinstance(image, Image.Image) and image.mode == "RGB"
        if dataset.name in SPLITS:
            assert dataset.class_names == list(CLASSES) and len(dataset) == 6
            assert [s.label for s in dataset.samples] == [0, 0, 1, 1, 2, 2]


def test_label_spaces_of_imagenet(tree: Path) -> None:
    names = list(imagenet_classes().values())
    assert len(names) == 1000 and names[0] == "tench" and names[999] == "toilet paper"
    for key in FOLDERS:
        dataset = read_entry(key, tree)
        assert len(dataset.class_names) == CATALOG[key].classes == len(dataset)
        by_folder = {s.path.split("/")[0]: dataset.class_names[s.label] for s in dataset.samples}
        if key == "imagenet_v2":  # the folder says the class; as text "10" sorts before "2"
            assert by_folder["2"] == names[2] and by_folder["10"] == names[10]
        else:
            assert by_folder["n01498041"] == "stingray"
    assert read_entry("imagenet_a", tree).class_names != read_entry("imagenet_r", tree).class_names


def test_aircraft_follows_its_own_list(tree: Path) -> None:
    dataset = read_entry("fgvc_aircraft", tree)
    assert dataset.class_names == ["A330-200", "707-320"]
    assert [s.label for s in dataset.samples] == [1, 0, 1, 1]


def test_what_differs_from_the_papers_test_set_is_noted(tree: Path) -> None:
    assert read_entry("dtd", tree).notes == ["6 images of 3 classes, where the paper's test set has 1692 of 47"]
    assert "2 class names stand twice, so their answers tie" in read_entry("imagenet", tree).notes


def test_training_splits(tree: Path) -> None:
    for key in ("imagenet", "fgvc_aircraft", "dtd"):
        train = read_entry(key, tree, "train")
        assert train.class_names == read_entry(key, tree).class_names and train.image(0).mode == "RGB"
    assert read_entry("imagenet", tree, "train").samples[0].path.endswith("two.JPEG")
    assert [s.label for s in read_entry("dtd", tree, "train").samples] == [0, 1, 2] and len(
        read_entry("dtd", tree)
    ) == 6
    assert [s.label for s in read_entry("fgvc_aircraft", tree, "train").samples] == [0, 1]
    with pytest.raises(DataError, match="it is a test set alone"):
        read_entry("imagenet_a", tree, "train")


def test_limit(tree: Path) -> None:
    (dataset,) = catalog_datasets("dtd", tree, limit=2, seed=1)
    assert len(dataset) == 2 and dataset.size == 6


def test_missing_dataset_names_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"Expected Describable Textures in .*/DTD or .*/dtd, found no such folder; get"
    ):
        read_entry("dtd", tmp_path)
    with pytest.raises(DataError, match="Expected a dataset out of imagenet, imagenet_a.*got 'cifar'"):
        read_entry("cifar", tmp_path)
    with pytest.raises(DataError, match="set data.root or the variable TPT_DATA"):
        catalog_datasets("dtd", None)


def test_missing_images_are_counted(small: Path) -> None:
    _, rows = split(small)
    for path, _, _ in rows[:4]:
        (small / "DTD" / "images" / str(path)).unlink()
    with pytest.raises(DataError, match=r"Expected the 6 images .* but 4 are missing, such as banded/banded_0\.jpg"):
        read_entry("dtd", small)


def test_missing_split(small: Path) -> None:
    split(small)[0].unlink()
    with pytest.raises(DataError, match=r"Expected split_zhou_DescribableTextures\.json, the paper's split"):
        read_entry("dtd", small)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.jpg", "a/../../b.jpg", "a\\..\\b.jpg"])
def test_paths_cannot_leave_the_dataset(small: Path, path: str) -> None:
    file, rows = split(small)
    file.write_text(json.dumps({"test": [*rows, [path, 0, CLASSES[0]]]}))
    with pytest.raises(DataError, match="Expected paths inside the dataset"):
        read_entry("dtd", small)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it cannot be read so"),
        ('{"train": []}', "it cannot be read so"),
        ('{"test": [["a.jpg", 0]]}', "it cannot be read so"),
        ('{"test": [["a.jpg", 0, "x"], ["b.jpg", 0, "y"]]}', "Expected one name for class 0"),
        ('{"test": [["a.jpg", 1, "x"]]}', "Expected classes numbered 0 to 0"),
    ],
)
def test_damaged_split(small: Path, content: str, message: str) -> None:
    split(small)[0].write_text(content)
    with pytest.raises(DataError, match=message):
        read_entry("dtd", small)


def test_wrong_class_folders_fail_loudly(small: Path) -> None:
    (small / "imagenet-a" / "n00000000").mkdir()
    with pytest.raises(DataError, match="n00000000 is not one of them; a wrong set of classes would shift every label"):
        read_entry("imagenet_a", small)
    (small / "imagenet-a" / "n00000000").rmdir()
    shutil.rmtree(small / "imagenet-a" / "n01498041")
    with pytest.raises(DataError, match="1 are missing, such as n01498041"):
        read_entry("imagenet_a", small)
    (small / "imagenet-a" / "n01498041").mkdir()
    with pytest.raises(DataError, match="1 are empty, such as n01498041"):
        read_entry("imagenet_a", small)


def test_what_does_not_belong_to_the_data_is_passed_over(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, layout=1)
    (root / "DTD").mkdir()  # empty, and first to be looked at
    (root / "imagenet-adversarial" / "imagenet-a" / ".ipynb_checkpoints").mkdir()
    listing = root / "fgvc_aircraft" / "data" / "images_variant_test.txt"
    listing.write_text(listing.read_text() + "\n\n")
    file = root / "dtd" / SPLITS["dtd"][0]
    file.write_text("\ufeff" + file.read_text())
    assert [len(read_entry(key, root)) for key in ("dtd", "imagenet_a", "fgvc_aircraft")] == [6, 200, 4]
    Image.new("RGB", (4, 4)).save(root / "fgvc_aircraft" / "outside.jpg")
    listing.write_text("../../outside 707-320\n")
    with pytest.raises(DataError, match="Expected paths inside the dataset"):
        read_entry("fgvc_aircraft", root)


def test_check_prints_a_table(small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.delenv("TPT_DATA", raising=False)
    assert main(["check", "--root", str(small)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "differs" in lines["dtd"] and "6 / 1692" in lines["dtd"]
    assert "200 / 7500" in lines["imagenet_a"]
    assert "found no such folder; get it from" in lines["eurosat"]
    assert main(["check", "eurosat", "--root", str(small)]) == 1
    assert main(["check"]) == 2 and "--root or TPT_DATA" in capsys.readouterr().err
    assert main(["check", "cifar", "--root", str(small)]) == 2
