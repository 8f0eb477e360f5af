"""The paper's fifteen datasets in miniature, with the names and lists they have on disk."""

from __future__ import annotations

import io
import json
from pathlib import Path

from tests.conftest import noise_image
from tpt.data.catalog.names import imagenet_classes

SPLITS = {  # file, images below the dataset's folder (TPT's names, CoOp's names), path of an image, classes
    "flowers102": ("split_zhou_OxfordFlowers.json", "Flower102/jpg", "oxford_flowers/jpg", "image_0{n}.jpg"),
    "dtd": ("split_zhou_DescribableTextures.json", "DTD/images", "dtd/images", "{name}/{name}_{n}.jpg"),
    "oxford_pets": ("split_zhou_OxfordPets.json", "OxfordPets", "oxford_pets/images", "Maine_Coon_{n}.jpg"),
    "stanford_cars": ("split_zhou_StanfordCars.json", "StanfordCars", "stanford_cars", "cars_test/0{n}.jpg"),
    "ucf101": ("split_zhou_UCF101.json", "UCF101", "ucf101/UCF-101-midframes", "Apply_Eye/v_{n}.jpg"),
    "caltech101": (
        "split_zhou_Caltech101.json", "Caltech101", "caltech-101/101_ObjectCategories", "{name}/image_{n}.jpg"
    ),
    "food101": ("split_zhou_Food101.json", "Food101/images", "food-101/images", "{name}/{n}.jpg"),
    "sun397": ("split_zhou_SUN397.json", "SUN397", "sun397/SUN397", "a/{name}/sun_{n}.jpg"),
    "eurosat": ("split_zhou_EuroSAT.json", "eurosat", "eurosat/2750", "Forest/Forest_{n}.jpg"),
}  # fmt: skip
FOLDERS = {  # of TPT, of CoOp
    "imagenet": ("ImageNet/val", "imagenet/images/val"),
    "imagenet_a": ("imagenet-a", "imagenet-adversarial/imagenet-a"),
    "imagenet_v2": ("imagenetv2-matched-frequency-format-val", "imagenetv2/imagenetv2-matched-frequency-format-val"),
    "imagenet_r": ("imagenet-r", "imagenet-rendition/imagenet-r"),
    "imagenet_sketch": ("ImageNet-Sketch", "imagenet-sketch/images"),
}
CLASSES = ("banded", "Faces (easy)", "it's 2 words")


def paper_tree(root: Path, layout: int = 0) -> Path:
    """All fifteen below `root`; layout 0 is the one of TPT's code, 1 that of CoOp's DATASETS.md."""
    buffer = io.BytesIO()
    noise_image(0, (8, 8)).save(buffer, "PNG")  # bytes of another format under the name .jpg, as the real ones have
    picture = buffer.getvalue()

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)

    for key, folders in FOLDERS.items():
        space = key if key in ("imagenet_a", "imagenet_r") else "imagenet"
        names = [str(k) for k in range(1000)] if key == "imagenet_v2" else list(imagenet_classes(space))
        for name in names:
            write(root / folders[layout] / name / "one.JPEG")
            if key == "imagenet":
                write(root / folders[layout].replace("val", "train") / name / "two.JPEG")
    for file, *folders, pattern in SPLITS.values():
        rows = []
        for label, name in enumerate(CLASSES):
            for n in range(2):
                path = pattern.format(name=name, n=10 * label + n)
                rows.append([path, label, name])
                write(root / folders[layout] / path)
        top = root / folders[layout].split("/")[0]
        place = top if layout else root / "splits"
        place.mkdir(exist_ok=True)
        (place / file).write_text(json.dumps({"train": rows[::2], "val": rows[1::2], "test": rows}))
    base = root / "fgvc_aircraft" / ("data" if layout else "")
    for n in range(4):
        write(base / "images" / f"00{n}.jpg")
    (base / "variants.txt").write_text("A330-200\n707-320\n")  # not in sorted order
    (base / "images_variant_train.txt").write_text("001 A330-200\n002 707-320\n")
    (base / "images_variant_test.txt").write_text("000 707-320\n001 A330-200\n002 707-320\n003 707-320\n")
    return root
