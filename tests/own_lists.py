"""Writes the official test lists of the paper's datasets, for the miniature datasets of `paper_tree`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from tests.paper_tree import SPLITS, rows_of, write

LISTS = {  # dataset -> its test list, relative to its folder
    "flowers102": "setid.mat",
    "dtd": "labels/test1.txt",
    "oxford_pets": "annotations/test.txt",
    "stanford_cars": "cars_test_annos_withlabels.mat",
    "ucf101": "ucfTrainTestlist/testlist01.txt",
    "food101": "meta/test.txt",
    "sun397": "Testing_01.txt",
}


def remove_splits(root: Path) -> None:
    """Deletes every `split_zhou_*.json` below `root`."""
    for file in root.rglob("split_zhou_*.json"):
        file.unlink()


def write_own_lists(key: str, root: Path, layout: int = 0) -> Path:
    """Writes the dataset's official lists of the images of `paper_tree`, and returns the dataset's folder."""
    own = root / SPLITS[key].folders[layout].split("/")[0]
    rows = rows_of(SPLITS[key])
    globals()[f"_{key}"](own, rows, list(SPLITS[key].classes))
    return own


Rows = list[tuple[str, int, str]]


def _text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n\n")


def _dtd(own: Path, rows: Rows, names: list[str]) -> None:
    _text(own / "labels" / "test1.txt", [path for path, _, _ in rows])


def _oxford_pets(own: Path, rows: Rows, names: list[str]) -> None:
    lines = [f"{Path(path).stem} {label + 1} 1 {label + 1}" for path, label, _ in rows]
    _text(own / "annotations" / "test.txt", ["#Image CLASS-ID SPECIES BREED ID", *lines])
    _text(own / "annotations" / "trainval.txt", lines[::2])


def _ucf101(own: Path, rows: Rows, names: list[str]) -> None:
    lists = own / "ucfTrainTestlist"
    _text(lists / "classInd.txt", [f"{k} {name.replace('_', '')}" for k, name in enumerate(names, 1)])
    _text(lists / "testlist01.txt", [f"{name.replace('_', '')}/{Path(path).stem}.avi" for path, _, name in rows])


def _food101(own: Path, rows: Rows, names: list[str]) -> None:
    _text(own / "meta" / "classes.txt", names)
    _text(own / "meta" / "test.txt", [path.removesuffix(".jpg") for path, _, _ in rows])


def _sun397(own: Path, rows: Rows, names: list[str]) -> None:
    _text(own / "ClassName.txt", [f"/{Path(path).parent}" for path, _, _ in rows[::2]])
    _text(own / "Testing_01.txt", [f"/{path}" for path, _, _ in rows])


def year_last(name: str) -> str:
    """Moves the year to the end of a car's class name, as in the devkit of Stanford Cars."""
    year, *words = name.split(" ")
    return " ".join([*words, year])


def _cells(names: list[str]) -> np.ndarray:
    return np.array(names, dtype=object)


def _structs(rows: list[dict[str, Any]]) -> np.ndarray:
    table = np.zeros((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for n, row in enumerate(rows):
        for key, value in row.items():
            table[key][0, n] = value
    return table


def _stanford_cars(own: Path, rows: Rows, names: list[str]) -> None:
    (own / "devkit").mkdir()
    savemat(own / "devkit" / "cars_meta.mat", {"class_names": _cells([year_last(name) for name in names])})
    cars = [{"bbox_x1": 1, "class": label + 1, "fname": Path(path).name} for path, label, _ in rows]
    savemat(own / "cars_test_annos_withlabels.mat", {"annotations": _structs(cars)})


def write_cars_annos(own: Path) -> None:
    """Writes the older list, with training and test images in one folder `car_ims`."""
    rows = rows_of(SPLITS["stanford_cars"])
    cars = []
    for n, (_, label, _) in enumerate(rows):
        path = f"car_ims/{n:06d}.jpg"
        write(own / path, n)
        cars.append({"relative_im_path": path, "class": label + 1, "test": n % 2})
    names = [year_last(name) for name in SPLITS["stanford_cars"].classes]
    savemat(own / "cars_annos.mat", {"annotations": _structs(cars), "class_names": _cells(names)})


def _flowers102(own: Path, rows: Rows, names: list[str]) -> None:
    numbers = [int(Path(path).stem.removeprefix("image_")) for path, _, _ in rows]
    labels = np.ones(max(numbers), dtype=np.uint8)
    for number, (_, label, _) in zip(numbers, rows, strict=True):
        labels[number - 1] = label + 1
    savemat(own / "imagelabels.mat", {"labels": labels})
    savemat(own / "setid.mat", {"tstid": numbers, "trnid": numbers[::2], "valid": numbers[1::2]})
    (own / "cat_to_name.json").write_text(json.dumps({str(k): name for k, name in enumerate(names, 1)}))
