"""Small copies of the paper's fifteen datasets, with the names, lists and oddities of the real files."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import noise_image
from tpt.data.catalog import PAPER
from tpt.data.catalog.names import imagenet_classes


@dataclass(frozen=True)
class Split:
    """A dataset with a split file.

    Args:
        file: name of the split file.
        folders: image folders below the data root, in TPT's and in CoOp's layout.
        classes: class name -> pattern of the image paths.
    """

    file: str
    folders: tuple[str, str]
    classes: dict[str, str]


SPLITS = {
    "flowers102": Split(
        "split_zhou_OxfordFlowers.json", ("Flower102/jpg", "oxford_flowers/jpg"),
        dict.fromkeys(("pink primrose", "hard-leaved pocket orchid", "canterbury bells"), "image_{n:05d}.jpg"),
    ),
    "dtd": Split(
        "split_zhou_DescribableTextures.json", ("DTD/images", "dtd/images"),
        {name: f"{name}/{name}_{{n:04d}}.jpg" for name in ("banded", "blotchy", "polka-dotted")},
    ),
    "oxford_pets": Split(
        "split_zhou_OxfordPets.json", ("OxfordPets", "oxford_pets/images"),
        {"abyssinian": "Abyssinian_{n}.jpg", "american_pit_bull_terrier": "american_pit_bull_terrier_{n}.jpg",
         "maine_coon": "Maine_Coon_{n}.jpg"},
    ),
    "stanford_cars": Split(
        "split_zhou_StanfordCars.json", ("StanfordCars", "stanford_cars"),
        dict.fromkeys(
            ("2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan", "2012 smart fortwo Convertible"),
            "cars_test/{n:05d}.jpg",
        ),
    ),
    "ucf101": Split(
        "split_zhou_UCF101.json", ("UCF101", "ucf101/UCF-101-midframes"),
        {"Apply_Eye_Makeup": "Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c{n:02d}.jpg",
         "Handstand_Pushups": "Handstand_Pushups/v_HandStandPushups_g01_c{n:02d}.jpg",
         "Yo_Yo": "Yo_Yo/v_YoYo_g01_c{n:02d}.jpg"},
    ),
    "caltech101": Split(
        "split_zhou_Caltech101.json", ("Caltech101", "caltech-101/101_ObjectCategories"),
        {"face": "Faces/image_{n:04d}.jpg", "accordion": "accordion/image_{n:04d}.jpg",
         "airplane": "airplanes/image_{n:04d}.jpg"},
    ),
    "food101": Split(
        "split_zhou_Food101.json", ("Food101/images", "food-101/images"),
        {name: f"{name}/{{n}}.jpg" for name in ("apple_pie", "baby_back_ribs", "beef_tartare")},
    ),
    "sun397": Split(
        "split_zhou_SUN397.json", ("SUN397", "sun397/SUN397"),
        {"abbey": "a/abbey/sun_{n}.jpg", "outdoor apartment_building": "a/apartment_building/outdoor/sun_{n}.jpg",
         "indoor bistro": "b/bistro/indoor/sun_{n}.jpg"},
    ),
    "eurosat": Split(
        "split_zhou_EuroSAT.json", ("eurosat", "eurosat/2750"),
        {"Annual Crop Land": "AnnualCrop/AnnualCrop_{n}.jpg", "Forest": "Forest/Forest_{n}.jpg",
         "Sea or Lake": "SeaLake/SeaLake_{n}.jpg"},
    ),
}  # fmt: skip
FOLDERS = {  # image folders in TPT's and in CoOp's layout
    "imagenet": ("ImageNet/val", "imagenet/images/val"),
    "imagenet_a": ("imagenet-a", "imagenet-adversarial/imagenet-a"),
    "imagenet_v2": ("imagenetv2-matched-frequency-format-val", "imagenetv2/imagenetv2-matched-frequency-format-val"),
    "imagenet_r": ("imagenet-r", "imagenet-rendition/imagenet-r"),
    "imagenet_sketch": ("ImageNet-Sketch", "imagenet-sketch/images"),
}
AIRCRAFT = ("A330-200", "707-320", "F/A-18", "Hawk T1")  # in the order of variants.txt, not alphabetical
UNLISTED = ("BACKGROUND_Google", "Faces_easy")  # folders of Caltech101 that are not in its split


def picture(kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """Returns the bytes of a small image file."""
    buffer = io.BytesIO()
    noise_image(0, (8, 8)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


# Files named .jpg in the real datasets also contain other formats, and grey, CMYK and palette images.
PICTURES = [
    picture(), picture("PNG"), picture("JPEG", "L"), picture("JPEG", "CMYK"), picture("GIF", "P"), picture("BMP")
]  # fmt: skip


def write(path: Path, number: int = 0) -> None:
    """Writes an image file; `number` chooses its format from `PICTURES`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PICTURES[number % len(PICTURES)])


def paper_tree(root: Path, layout: int = 0, keys: Collection[str] = PAPER) -> Path:
    """Writes datasets below `root`, and returns it; layout 0 follows TPT's code, 1 CoOp's DATASETS.md."""
    for key in keys:
        if key in FOLDERS:
            _folders(key, root, layout)
        elif key in SPLITS:
            _split(SPLITS[key], root, layout)
        else:
            _aircraft(root / "fgvc_aircraft" / ("data" if layout else ""))
    return root


def rows_of(split: Split) -> list[tuple[str, int, str]]:
    """Returns (path, label, class name) of two images per class."""
    return [
        (pattern.format(n=10 * label + n), label, name)
        for label, (name, pattern) in enumerate(split.classes.items())
        for n in (1, 2)
    ]


def _folders(key: str, root: Path, layout: int) -> None:
    space = key if key in ("imagenet_a", "imagenet_r") else "imagenet"
    names = [str(k) for k in range(1000)] if key == "imagenet_v2" else list(imagenet_classes(space))
    folder = root / FOLDERS[key][layout]
    for name in names:
        write(folder / name / "one.JPEG")
        if key == "imagenet":
            write(folder.parent / "train" / name / "two.JPEG")
    (folder / "README.txt").write_text("as in ImageNet-R\n")


def _split(split: Split, root: Path, layout: int) -> None:
    rows = rows_of(split)
    for number, (path, _, _) in enumerate(rows):
        write(root / split.folders[layout] / path, number)
    top = root / split.folders[layout].split("/")[0]
    place = top if layout else root / "splits"
    place.mkdir(exist_ok=True)
    (place / split.file).write_text(json.dumps({"train": rows[::2], "val": rows[1::2], "test": rows}))
    if "Caltech" in split.file:
        for folder in UNLISTED:
            write(root / split.folders[layout] / folder / "image_0001.jpg")


def _aircraft(base: Path) -> None:
    for n in range(4):
        write(base / "images" / f"00{n}.jpg", n)
    (base / "variants.txt").write_text("".join(f"{name}\n" for name in AIRCRAFT))
    (base / "images_variant_train.txt").write_text("001 A330-200\n002 707-320\n")
    (base / "images_variant_test.txt").write_text("000 707-320\n001 A330-200\n002 F/A-18\n003 Hawk T1\n")
