"""Small copies of corrupted datasets, CIFAR and multi-domain datasets, in the layout of the real ones."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.paper_tree import write
from tpt.data.catalog.names import imagenet_classes

CIFAR_C_EACH = 4  # images per severity; the real files have 10,000
# Class folders of each domain.  OfficeHome has 65 made-up names.
CLASSES = {
    "pacs": ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"),
    "vlcs": ("bird", "car", "chair", "dog", "person"),
    "terra_incognita": ("bird", "bobcat", "cat", "coyote", "dog", "empty", "opossum", "rabbit", "raccoon", "squirrel"),
    "visda": (
        "aeroplane", "bicycle", "bus", "car", "horse", "knife", "motorcycle", "person", "plant", "skateboard", "train",
        "truck",
    ),
    "office_home": tuple(f"Thing_{n:02d}" for n in range(65)),
}  # fmt: skip
FOLDERS = {
    "pacs": ("PACS/kfold", ("art_painting", "cartoon", "photo", "sketch")),
    "vlcs": ("VLCS", ("Caltech101", "LabelMe", "SUN09", "VOC2007")),
    "terra_incognita": ("terra_incognita", ("location_38", "location_43", "location_46", "location_100")),
    "visda": ("visda", ("train", "validation")),
    "office_home": ("OfficeHomeDataset_10072016", ("Art", "Clipart", "Product", "Real World")),
}
DOMAINNET = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def shift_tree(root: Path, corruptions: Sequence[str] = ("fog", "snow"), severities: Sequence[int] = (1, 5)) -> Path:
    """Writes all these datasets below `root`, and returns it."""
    for key, (folder, domains) in FOLDERS.items():
        for domain in domains:
            for number, name in enumerate(CLASSES[key]):
                write(root / folder / domain / name / f"{number:05d}.jpg", number)
    for domain in DOMAINNET:
        rows = [
            (f"{domain}/{name}/{domain}_{k:03d}_000001.jpg", k) for k, name in enumerate(("The_Eiffel_Tower", "axe"))
        ]
        for path, _ in rows:
            write(root / "DomainNet" / path)
        for split in ("train", "test"):
            text = "".join(f"{path} {label}\n" for path, label in rows)
            (root / "DomainNet" / f"{domain}_{split}.txt").write_text(text)
    for corruption in corruptions:
        for severity in severities:
            _imagenet(root / "ImageNet-C" / corruption / str(severity))
    cifar(root, corruptions)
    return root


def _imagenet(folder: Path) -> None:
    first = None
    for name in imagenet_classes():
        file = folder / name / "ILSVRC2012_val_00000001.JPEG"
        if first is None:
            write(file)
            first = file
        else:
            file.parent.mkdir(parents=True)
            file.hardlink_to(first)


def cifar(root: Path, corruptions: Sequence[str]) -> None:
    """Writes CIFAR-10 and CIFAR-100 in their authors' pickle format, and their corrupted versions."""
    for classes, folder, files, key in (
        (10, "cifar-10-batches-py", ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))), "labels"),
        (100, "cifar-100-python", ("test", "train"), "fine_labels"),
    ):
        for number, name in enumerate(files):
            data = np.full((3, 3072), number, dtype=np.uint8)
            data[:, :1024] = np.arange(3)[:, None]  # red
            extra = {"coarse_labels": [0, 0, 0]} if classes == 100 else {}
            write_pickle(root / folder / name, {"data": data, key: [0, 1, classes - 1], **extra})
        corrupted = root / f"CIFAR-{classes}-C"
        corrupted.mkdir()
        pictures = np.arange(5 * CIFAR_C_EACH, dtype=np.uint8)[:, None, None, None] + np.zeros((32, 32, 3), np.uint8)
        for corruption in corruptions:
            np.save(corrupted / f"{corruption}.npy", pictures)
        np.save(corrupted / "labels.npy", np.tile(np.arange(CIFAR_C_EACH, dtype=np.uint8), 5))


def write_pickle(file: Path, content: object) -> None:
    """Pickles `content` with protocol 2 and NumPy's old module names, as in CIFAR's files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core"))
