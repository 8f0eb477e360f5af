"""Reads the fifteen datasets in both layouts, and refuses files that would give wrong results."""

import json
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image

from tests.paper_tree import AIRCRAFT, FOLDERS, SPLITS, UNLISTED, paper_tree
from tpt.cli.programs.data import main
from tpt.data import EpisodeDataModule
from tpt.data.catalog import CATALOG, CROSS_DATASET, NATURAL_SHIFT, PAPER, catalog_datasets, read_entry
from tpt.data.catalog.names import imagenet_classes
from tpt.errors import DataError


@pytest.fixture(scope="module", params=[0, 1], ids=["tpt", "coop"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_tree(tmp_path_factory.mktemp("paper"), request.param)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two datasets that a test may damage."""
    return paper_tree(tmp_path, keys=("dtd", "imagenet_a"))


def split(root: Path, key: str = "dtd") -> tuple[Path, list[list[object]]]:
    file = root / "splits" / SPLITS[key].file
    return file, json.loads(file.read_text())["test"]


def test_every_dataset_in_both_layouts(tree: Path) -> None:
    found = catalog_datasets(list(PAPER), tree)
    assert [d.name for d in found] == list(PAPER)
    assert len(NATURAL_SHIFT) == 5 and len(CROSS_DATASET) == 10
    for dataset in found:
        for index in range(min(len(dataset), 6)):  # every kind of path leads to a file
            image = dataset.image(index)
            assert isinstance(image, Image.Image) and image.mode == "RGB"
        if dataset.name in SPLITS:
            assert dataset.class_names == list(SPLITS[dataset.name].classes) and len(dataset) == 6
            assert [s.label for s in dataset.samples] == [0, 0, 1, 1, 2, 2]
            assert dataset.split == SPLITS[dataset.name].file


def test_augmix_and_templates_follow_the_papers(tree: Path) -> None:
    assert {key for key, entry in CATALOG.items() if entry.augmix} == set(CROSS_DATASET)
    assert read_entry("dtd", tree).augmix and read_entry("dtd", tree).template == "{} texture."
    assert all(entry.template.count("{}") == 1 for entry in CATALOG.values())
    assert {CATALOG[key].template for key in NATURAL_SHIFT} == {"a photo of a {}."}


def test_label_spaces_of_imagenet(tree: Path) -> None:
    names = list(imagenet_classes().values())
    assert len(names) == 1000 and names[0] == "tench" and names[999] == "toilet paper"
    for key in FOLDERS:
        dataset = read_entry(key, tree)
        assert len(dataset.class_names) == CATALOG[key].classes == len(dataset)
        by_folder = {s.path.split("/")[0]: dataset.class_names[s.label] for s in dataset.samples}
        if key == "imagenet_v2":  # the folder's number is the class, although "10" sorts before "2" as text
            assert by_folder["2"] == names[2] and by_folder["10"] == names[10]
        else:
            assert by_folder["n01498041"] == "stingray"
    assert read_entry("imagenet_a", tree).class_names != read_entry("imagenet_r", tree).class_names


def test_ids_and_names_of_imagenet_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """WordNet ids and class names, which come from two packages, are in the same order.

    WordNet's words for an id usually share a word with the name of its class, and rarely with the name of the next.
    """
    lemmas = (resources.files("timm.data") / "_info" / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    words = {line.split("\t")[0]: set(re.findall(r"\w+", line.split("\t")[1].lower())) for line in lemmas}
    ids, names = list(imagenet_classes()), list(imagenet_classes().values())

    def agreeing(names: list[str]) -> int:
        return sum(bool(words[i] & set(re.findall(r"\w+", name.lower()))) for i, name in zip(ids, names, strict=True))

    assert ids == sorted(ids) and len(set(ids)) == 1000
    assert agreeing(names) > 850 and agreeing(names[1:] + names[:1]) < 200
    monkeypatch.setattr("open_clip.IMAGENET_CLASSNAMES", names[1:] + names[:1])
    with pytest.raises(DataError, match="Expected open_clip's names of ImageNet's 1000 classes in the order of timm's"):
        imagenet_classes()


@pytest.mark.parametrize("space", ["imagenet_a", "imagenet_r"])
def test_subsets_of_imagenet_keep_its_class_order(space: str) -> None:
    """The 200 classes are in the order of the 1,000, as in the masks of TPT's code."""
    everything, subset = imagenet_classes(), imagenet_classes(space)
    assert len(subset) == 200 and list(subset) == sorted(subset)
    assert all(everything[synset] == name for synset, name in subset.items())
    indices = (resources.files("timm.data") / "_info" / f"{space}_indices.txt").read_text().split()
    assert [list(everything).index(synset) for synset in subset] == sorted(map(int, indices))


def test_aircraft_uses_its_own_list(tree: Path) -> None:
    dataset = read_entry("fgvc_aircraft", tree)
    assert dataset.class_names == list(AIRCRAFT)
    assert [s.label for s in dataset.samples] == [1, 0, 2, 3]
    assert dataset.split == "images_variant_test.txt" and not any("own split" in note for note in dataset.notes)


def test_differences_from_the_papers_test_set_are_noted(tree: Path) -> None:
    assert read_entry("dtd", tree).notes == ["6 images of 3 classes, where the paper's test set has 1692 of 47"]
    tie = "two classes are called 'missile' and two 'sunglasses', so their answers tie"
    assert tie in read_entry("imagenet", tree).notes


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
    (dataset,) = EpisodeDataModule(catalog_datasets("dtd", tree), limit=2, seed=1).datasets
    assert len(dataset) == 2 and dataset.size == 6


def test_a_missing_dataset_names_the_searched_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot find Describable Textures: .*/DTD or .*/dtd\. Get"):
        read_entry("dtd", tmp_path)
    with pytest.raises(DataError, match="Expected a dataset out of imagenet, imagenet_a.*got 'cifar'"):
        read_entry("cifar", tmp_path)
    with pytest.raises(DataError, match="set data.root or the variable TPT_DATA"):
        catalog_datasets("dtd", None)


def test_missing_images_are_counted(small: Path) -> None:
    _, rows = split(small)
    for path, _, _ in rows[:4]:
        (small / "DTD" / "images" / str(path)).unlink()
    with pytest.raises(DataError, match=r"4 of the 6 images .* are missing .*, such as banded/banded_0001\.jpg"):
        read_entry("dtd", small)


def test_missing_split(small: Path) -> None:
    split(small)[0].unlink()
    with pytest.raises(DataError, match=r"Not all lists of .* Put split_zhou_DescribableTextures\.json there"):
        read_entry("dtd", small)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.jpg", "a/../../b.jpg", "a\\..\\b.jpg", "a\0b.jpg", "\ud800.jpg"]
)
def test_paths_cannot_leave_the_dataset(small: Path, path: str) -> None:
    file, rows = split(small)
    file.write_text(json.dumps({"test": [*rows, [path, 0, "banded"]]}))
    with pytest.raises(DataError, match="Expected paths inside the dataset"):
        read_entry("dtd", small)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Cannot read "),
        ('{"train": []}', "Cannot read "),
        ('{"test": [["a.jpg", 0]]}', "Cannot read "),
        ('{"test": [["a.jpg", 0, "x"], ["b.jpg", 0, "y"]]}', "a class has two names"),
        ('{"test": [["a.jpg", 1, "x"]]}', "its labels do not number the classes"),
    ],
)
def test_damaged_split(small: Path, content: str, message: str) -> None:
    split(small)[0].write_text(content)
    with pytest.raises(DataError, match=message):
        read_entry("dtd", small)


def test_wrong_class_folders_are_refused(small: Path) -> None:
    (small / "imagenet-a" / "n00000000").mkdir()
    with pytest.raises(DataError, match=r"such as n00000000; .*a wrong set of classes would shift every label"):
        read_entry("imagenet_a", small)
    (small / "imagenet-a" / "n00000000").rmdir()
    shutil.rmtree(small / "imagenet-a" / "n01498041")
    with pytest.raises(DataError, match="1 that are missing, .* such as n01498041"):
        read_entry("imagenet_a", small)
    (small / "imagenet-a" / "n01498041").mkdir()
    with pytest.raises(DataError, match="empty .*, such as n01498041"):
        read_entry("imagenet_a", small)


def test_blank_lines_and_empty_or_hidden_folders_are_ignored(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, layout=1)
    (root / "DTD").mkdir()  # empty, and tried first
    (root / "imagenet-adversarial" / "imagenet-a" / ".ipynb_checkpoints").mkdir()
    listing = root / "fgvc_aircraft" / "data" / "images_variant_test.txt"
    listing.write_text(listing.read_text() + "\n\n")
    file = root / "dtd" / SPLITS["dtd"].file
    file.write_text("\ufeff" + file.read_text())
    assert [len(read_entry(key, root)) for key in ("dtd", "imagenet_a", "fgvc_aircraft")] == [6, 200, 4]
    Image.new("RGB", (4, 4)).save(root / "fgvc_aircraft" / "outside.jpg")
    listing.write_text("../../outside 707-320\n")
    with pytest.raises(DataError, match="Expected paths inside the dataset"):
        read_entry("fgvc_aircraft", root)


def test_pictures_without_class_folders_are_refused(tmp_path: Path) -> None:
    """ImageNet's validation images, unpacked into one folder without a list of classes, are refused."""
    (tmp_path / "ImageNet" / "val").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "ImageNet" / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match="No class folders of ImageNet, validation, such as n01440764"):
        read_entry("imagenet", tmp_path)


def test_caltechs_unlisted_folders_are_not_used(tree: Path) -> None:
    """BACKGROUND_Google and Faces_easy are on the disk but are not classes; Faces is the class `face`."""
    dataset = read_entry("caltech101", tree)
    assert all((dataset.store.root / folder).is_dir() for folder in UNLISTED)
    assert not {s.path.split("/")[0] for s in dataset.samples} & set(UNLISTED)
    assert dataset.class_names[0] == "face" and dataset.samples[0].path.startswith("Faces/")


def test_a_root_with_spaces_and_brackets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    root = paper_tree(tmp_path / "my data [old] (1)", keys=["dtd"])
    assert read_entry("dtd", root).image(0).mode == "RGB"
    assert main(["check", "dtd", "--root", str(root)]) == 0
    assert f"{root}/DTD/images" in capsys.readouterr().out


def test_check_prints_a_table(small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.delenv("TPT_DATA", raising=False)
    assert main(["check", "--root", str(small)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "differs" in lines["dtd"] and "6 / 1692" in lines["dtd"]
    assert "200 / 7500" in lines["imagenet_a"]
    assert "Cannot find EuroSAT: there is no folder" in lines["eurosat"]
    assert "Or: tpt-data fetch eurosat" in lines["eurosat"] and "fetch" not in lines["stanford_cars"]
    assert main(["check", "eurosat", "--root", str(small)]) == 1
    for wrong, message in (
        (["check"], "--root"),
        (["check", "cifar", "--root", str(small)], "got 'cifar'"),
        (["fetch", "cifar", "--root", str(small)], "'cifar'"),
        (["check", "--root", str(small / "nowhere")], "the folder of all datasets, does not exist"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert message in capsys.readouterr().err
