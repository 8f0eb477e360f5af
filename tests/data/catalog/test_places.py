"""Finds datasets on disk: every possible folder is tried, and the complete one is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.own_lists import remove_splits, write_own_lists
from tests.paper_tree import FOLDERS, SPLITS, paper_tree, rows_of, write
from tpt.cli.programs.data import main
from tpt.data import EpisodeDataModule, catalog_datasets, read_entry, validation_entry
from tpt.data.catalog import CATALOG
from tpt.data.catalog.names import imagenet_classes
from tpt.data.few_shot import draw_shots
from tpt.errors import DataError

IDS = list(imagenet_classes())


def class_folders(base: Path, names: list[str] = IDS, file: str = "one.JPEG") -> Path:
    """Creates one empty picture per folder, since only names are read."""
    for name in names:
        (base / name).mkdir(parents=True)
        (base / name / file).touch()
    return base


def test_an_unrelated_folder_does_not_hide_the_dataset(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, layout=1, keys=["dtd", "imagenet_a"])
    (root / "DTD" / "x").mkdir(parents=True)
    (root / "imagenet-a" / "n01498041").mkdir(parents=True)  # incomplete
    assert len(read_entry("dtd", root)) == 6 and read_entry("dtd", root).store.root == root / "dtd" / "images"
    assert len(read_entry("imagenet_a", root)) == 200
    (root / "imagenet-adversarial" / "imagenet-a" / "n01498041" / "one.JPEG").unlink()
    with pytest.raises(DataError, match="imagenet-adversarial/imagenet-a the .* empty .* such as n01498041"):
        read_entry("imagenet_a", root)  # the message is about the fuller folder


def test_images_and_split_in_separate_folders(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=["flowers102"])
    (root / "oxford_flowers").mkdir()
    file = SPLITS["flowers102"].file
    shutil.move(root / "splits" / file, root / "oxford_flowers" / file)
    assert len(read_entry("flowers102", root)) == 6
    remove_splits(root)
    write_own_lists("flowers102", root, layout=1)
    assert len(read_entry("flowers102", root)) == 6


PLACES = {
    "stanford_cars": ("StanfordCars/cars_test", "stanford_cars/cars_test/cars_test"),
    "eurosat": ("eurosat", "eurosat/EuroSAT_RGB"),
    "food101": ("Food101/images", "food101/images"),
    "caltech101": ("Caltech101", "caltech-101/caltech-101/101_ObjectCategories"),
    "dtd": ("DTD/images", "dtd/dtd/images"),
    "oxford_pets": ("OxfordPets", "oxford-iiit-pet/images"),
    "flowers102": ("Flower102/jpg", "flowers-102/jpg"),
    "sun397": ("SUN397", "SUN397/SUN397"),
}


@pytest.mark.parametrize("key", PLACES)
def test_folders_of_kaggle_and_torchvision(key: str, tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=[key])
    usual, place = PLACES[key]
    shutil.move(root / usual, root / "moved")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / "moved", root / place)
    found = read_entry(key, root)
    assert len(found) == 6 and found.image(5).mode == "RGB"
    assert found.store.root == (root / place).parent if key == "stanford_cars" else root / place


def test_eurosat_in_a_folder_named_after_its_archive(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=["eurosat"])
    shutil.move(root / "eurosat", root / "EuroSAT_RGB")
    assert len(read_entry("eurosat", root)) == 6


def test_aircraft_in_the_folder_of_its_archive(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, layout=1, keys=["fgvc_aircraft"])
    shutil.move(root / "fgvc_aircraft", root / "moved")
    (root / "fgvc_aircraft").mkdir()
    shutil.move(root / "moved", root / "fgvc_aircraft" / "fgvc-aircraft-2013b")
    assert len(read_entry("fgvc_aircraft", root)) == 4


VAL_PLACES = [
    "imagenet/images/val", "ImageNet/val", "ImageNet", "ImageNet/val/val", "imagenet/validation",
    "ImageNet/ILSVRC2012_img_val", "imagenet/images/validation", "ImageNet/ILSVRC/Data/CLS-LOC/val",
    "ILSVRC/Data/CLS-LOC/val", "ILSVRC2012/val",
]  # fmt: skip


@pytest.mark.parametrize("place", VAL_PLACES)
def test_imagenets_class_folders(place: str, tmp_path: Path) -> None:
    class_folders(tmp_path / place)
    (tmp_path / "ImageNet" / "train").mkdir(parents=True, exist_ok=place != "ImageNet")
    if place == "ImageNet":
        (tmp_path / "ImageNet" / "train").rmdir()  # next to the class folders, it would be a wrong one
    (tmp_path / place / "n01440764" / "._one.JPEG").touch()
    (tmp_path / place / "@eaDir").mkdir()
    found = read_entry("imagenet", tmp_path)
    assert len(found) == 1000 and found.store.root == tmp_path / place and found.samples[0].path == "n01440764/one.JPEG"


FLAT = ["n01498041", "n01440764", "n15075141"]  # WordNet ids of images 1, 2, 3


def flat(base: Path) -> Path:
    base.mkdir(parents=True)
    for number in range(1, 4):
        write(base / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    return base


def kaggle(root: Path) -> None:
    flat(root / "ImageNet" / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    rows = [f"ILSVRC2012_val_{n:08d},{synset} 1 2 3 4 {synset} 5 6 7 8 " for n, synset in enumerate(FLAT, 1)]
    (root / "ImageNet" / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows[::-1]]))


def devkit(root: Path) -> None:
    flat(root / "imagenet" / "val")
    data = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", float), ("WNID", object), ("words", object)]
    order = ["n15075141", "n01440764", "n01498041"]  # the devkit's own numbers, not the order of the sorted ids
    rows = [(k, synset, "x") for k, synset in enumerate(order, 1)]
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    numbers = [str(order.index(synset) + 1) for synset in FLAT]
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(numbers) + "\n")


def tensorflow(root: Path) -> None:
    flat(root / "ImageNet" / "ILSVRC2012_img_val")
    (root / "ImageNet" / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(FLAT) + "\n")


@pytest.mark.parametrize("lay", [kaggle, devkit, tensorflow])
def test_imagenets_validation_images_in_one_folder(lay: Callable[[Path], None], tmp_path: Path) -> None:
    lay(tmp_path)
    found = read_entry("imagenet", tmp_path)
    labelled = zip(found.samples, found.labels(), strict=True)
    names = {sample.path[-6]: found.class_names[label] for sample, label in labelled}
    assert names == {"1": "stingray", "2": "tench", "3": "toilet paper"} and found.image(0).mode == "RGB"
    assert len(found.class_names) == 1000 and CATALOG["imagenet"].is_papers(found.split)


def test_flat_images_whose_list_is_damaged_or_missing(tmp_path: Path) -> None:
    kaggle(tmp_path)
    listing = tmp_path / "ImageNet" / "LOC_val_solution.csv"
    listing.write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n")
    with pytest.raises(DataError, match=r"WordNet id of every image of .* in .*LOC_val_solution.csv \("):
        read_entry("imagenet", tmp_path)
    listing.unlink()
    with pytest.raises(DataError, match=r"No class folders of ImageNet, .*docs/dataset_layouts.md"):
        read_entry("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("key", "place", "names"),
    [
        ("imagenet_v2", "imagenetv2-matched-frequency", [str(k) for k in range(1000)]),
        ("imagenet_v2", "imagenetv2/imagenetv2-matched-frequency-format-val", IDS),
        ("imagenet_a", "imagenet-adversarial", list(imagenet_classes("imagenet_a"))),
        ("imagenet_r", "imagenet-rendition", list(imagenet_classes("imagenet_r"))),
        ("imagenet_sketch", "ImageNet-Sketch/sketch", IDS),
    ],
)
def test_imagenets_variants(key: str, place: str, names: list[str], tmp_path: Path) -> None:
    class_folders(tmp_path / place, names)
    found = read_entry(key, tmp_path)
    space = list(imagenet_classes("imagenet" if key == "imagenet_v2" else CATALOG[key].synsets).values())
    assert found.class_names == space and found.labels() == list(range(len(names)))
    assert found.samples[2].path == f"{names[2]}/one.JPEG"


def test_a_missing_split_names_every_searched_folder(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=["eurosat"])
    remove_splits(root)
    with pytest.raises(DataError) as caught:
        read_entry("eurosat", root)
    assert all(str(place) in str(caught.value) for place in (root / "eurosat", root / "splits", root / "data_splits"))
    (root / "splits" / SPLITS["eurosat"].file).write_text("<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(DataError, match=r"Cannot read .*\. Get the file again"):
        read_entry("eurosat", root)


def test_splits_and_halves_at_test_time(tmp_path: Path) -> None:
    root = paper_tree(tmp_path, keys=["dtd", "eurosat"])
    (val,) = catalog_datasets("dtd", root, split="val")
    assert [s.path for s in val.samples] == [path for path, _, _ in rows_of(SPLITS["dtd"])[1::2]]
    assert "the val split, not the test set" in val.notes
    both = catalog_datasets(["dtd", "eurosat"], root)
    base, new = (EpisodeDataModule(both, classes=half).datasets for half in ("base", "new"))  # type: ignore[arg-type]
    assert [d.class_names for d in base] == [["banded", "blotchy"], ["Annual Crop Land", "Forest"]]
    assert [d.class_names for d in new] == [["polka-dotted"], ["Sea or Lake"]]
    assert [d.labels() for d in new] == [[0, 0], [0, 0]] and "new classes: 1 of 3" in new[0].notes
    assert [len(d) for d in EpisodeDataModule(both, classes="base", limit=1).datasets] == [1, 1]


def test_validation_images_as_in_coop(tmp_path: Path) -> None:
    """Validation images are drawn after the training images, from the split's `val`, as in CoOp's programs."""
    root = paper_tree(tmp_path, keys=["dtd", "imagenet_a", "oxford_pets"])
    shots = draw_shots(read_entry("dtd", root, "train"), validation_entry("dtd", root), 1, seed=1)
    assert shots.val is not None
    assert [s.path for s in shots.val.samples] == [path for path, _, _ in rows_of(SPLITS["dtd"])[1::2]]
    assert validation_entry("imagenet_a", root) is None, "it is a test set alone"
    remove_splits(root)
    write_own_lists("oxford_pets", root)
    assert validation_entry("oxford_pets", root) is None
    file = root / "splits" / SPLITS["dtd"].file
    file.write_text(json.dumps({"train": []}))
    with pytest.raises(DataError, match="under 'val' in"):
        validation_entry("dtd", root)


def test_check_opens_some_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    root = paper_tree(tmp_path, keys=["dtd"])
    for path, _, _ in rows_of(SPLITS["dtd"])[2:4]:
        (root / "DTD" / "images" / path).write_bytes(b"")
    assert main(["check", "dtd", "--root", str(root)]) == 1
    out = capsys.readouterr().out
    assert "unreadable" in out and "2 of 6 images opened cannot be read" in out and "(empty)" in out
    assert main(["check", "dtd", "--root", str(root), "--open", "0"]) == 0
    assert main(["check", "dtd", "--root", str(root), "--open", "1"]) == 0, "the first is whole"
    with pytest.raises(SystemExit):
        main(["check", "dtd", "--root", str(root), "--open", "-1"])
    assert "--open: expected it to be a whole number of at least 0, got '-1'" in capsys.readouterr().err


def test_check_names_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["check", "dtd", "--root", str(tmp_path)]) == 1
    assert "or set --root" in (said := capsys.readouterr().out) and "data.root" not in said


def test_a_pipe_among_the_images(tmp_path: Path) -> None:
    base = class_folders(tmp_path / FOLDERS["imagenet_a"][0], list(imagenet_classes("imagenet_a")))
    first = base / "n01498041" / "one.JPEG"
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(DataError, match="it is a named pipe, not a file"):
        read_entry("imagenet_a", tmp_path).image(0)
