"""Reads lists as the datasets' authors publish them, for FGVC-Aircraft and if the paper's split file is missing.

MATLAB's `.mat` files are read in a separate process, because scipy's compiled reader may crash on a damaged file.  No
code in such a file is run.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets import Flowers102

from tpt.data.catalog.places import Listing, image_files
from tpt.data.dataset import Sample
from tpt.data.store import FileStore, lines_of
from tpt.errors import UserError
from tpt.files import is_file, read_bytes, readable
from tpt.files.lists import decode_text

log = logging.getLogger(__name__)

_NUMBERED = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG", re.IGNORECASE)
KAGGLE = "LOC_val_solution.csv"  # of Kaggle's copy: name and WordNet id of each image
TRUTHS = [  # of the devkit: one number per line, explained by `meta.mat`
    f"{folder}/ILSVRC2012_validation_ground_truth.txt"
    for folder in ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", "ILSVRC2012_devkit_t12", ".")
]
SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # of TensorFlow's tools: one WordNet id per line
LIMIT_S = 120.0
# Numbers and texts of a vector, or of each field of a vector of structures, as JSON.
_READ = """
import json, sys
import numpy as np
from scipy.io import loadmat
file, name = sys.argv[1:]
table = np.atleast_1d(loadmat(file, squeeze_me=True, variable_names=[name])[name])
fields = table.dtype.names
def plain(value):
    value = np.asarray(value)
    return value.item() if value.ndim == 0 and value.dtype.kind in "biuf" else str(value)
rows = [{f: plain(row[f]) for f in fields} if fields else plain(row) for row in table.ravel()]
print(json.dumps(rows))
"""
# A list, its class names in label order and in CoOp's spelling, and the path and label of every image.
Official = tuple[Path, list[str], list[tuple[str, int]]]


def official_lists(key: str, own: Path, split: str) -> Official | None:
    """The list of a split in a dataset's folder; None if there is none, a DataError if it cannot be used."""
    if key not in _READERS:
        return None
    what = f"the lists of {key} below {own} as their authors publish them"
    with readable(what, "Get them again, or get the paper's split file"):
        try:
            file, names, rows = _READERS[key](own, split)
        except FileNotFoundError:
            return None
        if strange := [label for _, label in rows if not 0 <= label < len(names)]:
            raise UserError(f"class {strange[0] + 1} of {len(names)}")
        return file, names, rows


def classes_of(rows: Sequence[tuple[str, int, str]]) -> list[str]:
    """The class names of rows of path, label and class name; a UserError if the labels do not number the classes."""
    classes = sorted({(label, name) for _, label, name in rows})
    if [label for label, _ in classes] != list(range(len(classes))):
        raise UserError("its labels do not number the classes, or a class has two names")
    return [name for _, name in classes]


def _first(own: Path, *names: str) -> Path:
    """The first file that exists; raises a FileNotFoundError if there is none."""
    if (found := next((own / name for name in names if is_file(own / name)), None)) is None:
        raise FileNotFoundError
    return found


def _by_class(file: Path, names: list[str], found: list[tuple[str, str]], keys: list[str] | None = None) -> Official:
    """A list from (path, class) pairs; `keys` are the list's own names of the classes, if they differ."""
    number = {key: label for label, key in enumerate(keys or names)}
    if strange := [(path, key) for path, key in found if key not in number]:
        raise UserError(f"{strange[0][0]} is of {strange[0][1]!r}, which is not a class")
    return file, names, [(path, number[key]) for path, key in found]


def _dtd(own: Path, split: str) -> Official:
    """`labels/test1.txt`: the first of ten splits, lines `class/image.jpg`."""
    file = _first(own, f"labels/{split}1.txt", f"dtd/labels/{split}1.txt")
    found = [(path, path.split("/")[0]) for path in lines_of(file)]
    return _by_class(file, sorted({name for _, name in found}), found)


def _pets(own: Path, split: str) -> Official:
    """`annotations/test.txt`: lines `Abyssinian_201 1 1 1`, the second number is the class."""
    file = _first(own, f"annotations/{'trainval' if split == 'train' else split}.txt")
    found = [line.split()[:2] for line in lines_of(file) if not line.startswith("#")]
    rows = [(f"{image}.jpg", int(number) - 1, image.rpartition("_")[0].lower()) for image, number in found]
    return file, classes_of(rows), [(path, label) for path, label, _ in rows]


def _ucf(own: Path, split: str) -> Official:
    """`ucfTrainTestlist/testlist01.txt`: lines `ApplyEyeMakeup/v_...avi`; the frames are in `Apply_Eye_Makeup`."""
    file, index = _first(own, f"ucfTrainTestlist/{split}list01.txt"), _first(own, "ucfTrainTestlist/classInd.txt")
    actions = [line.split()[1] for line in sorted(lines_of(index), key=lambda line: int(line.split()[0]))]
    spaced = {action: "_".join(re.findall("[A-Z][^A-Z]*", action)) for action in actions}
    videos = [line.split()[0].split("/") for line in lines_of(file)]
    found = [(f"{spaced[action]}/{Path(name).stem}.jpg", spaced[action]) for action, name in videos]
    return _by_class(file, list(spaced.values()), found)


def _food(own: Path, split: str) -> Official:
    """`meta/test.txt`: lines `apple_pie/1011328`."""
    file, classes = _first(own, f"meta/{split}.txt"), _first(own, "meta/classes.txt")
    return _by_class(file, lines_of(classes), [(f"{path}.jpg", path.split("/")[0]) for path in lines_of(file)])


def _sun(own: Path, split: str) -> Official:
    """`Testing_01.txt`: lines `/a/abbey/sun_x.jpg`; `/a/apartment_building/outdoor` is called "outdoor ..."."""
    name = {"test": "Testing_01.txt", "train": "Training_01.txt"}.get(split, "")
    file = _first(own, name, f"Partitions/{name}")
    folders = lines_of(_first(own, "ClassName.txt", "Partitions/ClassName.txt", "SUN397/ClassName.txt"))
    names = [" ".join(reversed(folder.strip("/").split("/")[1:])) for folder in folders]
    return _by_class(file, names, [(path.lstrip("/"), path.rsplit("/", 1)[0]) for path in lines_of(file)], folders)


def _cars(own: Path, split: str) -> Official:
    """The devkit's lists next to `cars_test`, or the older `cars_annos.mat`; CoOp writes the year first."""
    lists = {"test": "cars_test_annos_withlabels.mat", "train": "cars_train_annos.mat"}
    if split not in lists:
        raise FileNotFoundError
    try:
        file = _first(own, lists[split], f"devkit/{lists[split]}")
        meta = _first(own, "devkit/cars_meta.mat", "cars_meta.mat")
        rows = [(f"cars_{split}/{car['fname']}", int(car["class"]) - 1) for car in read_table(file, "annotations")]
    except FileNotFoundError:
        file = meta = _first(own, "cars_annos.mat", "devkit/cars_annos.mat")
        cars = [car for car in read_table(file, "annotations") if bool(car["test"]) == (split == "test")]
        rows = [(str(car["relative_im_path"]), int(car["class"]) - 1) for car in cars]
    names = [str(name) for name in read_table(meta, "class_names")]
    return file, [" ".join([year, *words]) for *words, year in (name.split(" ") for name in names)], rows


def _flowers(own: Path, split: str) -> Official:
    """`setid.mat` lists image numbers, `imagelabels.mat` their classes; `cat_to_name.json` may name the classes."""
    file, labels_file = _first(own, "setid.mat"), _first(own, "imagelabels.mat")
    labels = dict(enumerate(read_table(labels_file, "labels"), 1))
    numbers = read_table(file, {"train": "trnid", "val": "valid", "test": "tstid"}[split])
    names = list(Flowers102.classes)
    if is_file(named := own / "cat_to_name.json"):
        by_number = json.loads(decode_text(read_bytes(named)))
        names = [str(by_number[str(k + 1)]) for k in range(len(by_number))]
    return file, names, [(f"image_{int(n):05d}.jpg", int(labels[int(n)]) - 1) for n in numbers]


def _aircraft(own: Path, split: str) -> Official:
    """`images_variant_test.txt`: lines `0012 707-320`; `variants.txt` orders the classes."""
    listing = f"images_variant_{split}.txt"
    file, classes = _first(own, listing, f"data/{listing}"), _first(own, "variants.txt", "data/variants.txt")
    found = [(f"images/{image}.jpg", name) for image, _, name in (line.partition(" ") for line in lines_of(file))]
    return _by_class(file, lines_of(classes), found)


_READERS: dict[str, Callable[[Path, str], Official]] = {
    **{"flowers102": _flowers, "dtd": _dtd, "oxford_pets": _pets, "stanford_cars": _cars, "ucf101": _ucf},
    **{"food101": _food, "sun397": _sun, "fgvc_aircraft": _aircraft},
}


def flat_validation(places: Sequence[Path], root: Path, classes: Mapping[str, str]) -> Listing | None:
    """The images in one of the places, with their classes from a list; None if there are no images or no list.

    Lists are searched for from the images up to `root`; a damaged or incomplete one is a DataError.
    """
    label = {synset: k for k, synset in enumerate(classes)}
    for base in (place for place in places if place.is_dir()):
        numbers = {name: int(found[1]) for name in image_files(base) if (found := _NUMBERED.fullmatch(name))}
        folders = [base, *(parent for parent in base.parents if parent.is_relative_to(root))]
        lists = (folder / name for folder in folders for name in (KAGGLE, *TRUTHS, SYNSETS))
        if not numbers or (listed := next(filter(is_file, lists), None)) is None:
            continue
        with readable(f"the WordNet id of every image of {base} in {listed}"):
            synsets = _synsets(listed)
            rows = sorted((label[synsets[number]], name) for name, number in numbers.items())
        if absent := len(classes) - len({k for k, _ in rows}):
            log.warning("imagenet: %d of %d classes have no image in %s.", absent, len(classes), base)
        return Listing(FileStore(base), list(classes.values()), [Sample(name, k) for k, name in rows])
    return None


def _synsets(file: Path) -> dict[int, str]:
    """The WordNet id of each image by its number, from 1."""
    lines = lines_of(file)
    if file.name == KAGGLE:
        return {
            int(row["ImageId"].removesuffix(".JPEG").rsplit("_", 1)[1]): row["PredictionString"].split()[0]
            for row in csv.DictReader(lines)
        }
    if file.name == SYNSETS:
        return dict(enumerate(lines, 1))
    known = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in read_table(file.parent / "meta.mat", "synsets")}
    return {n: known[int(line)] for n, line in enumerate(lines, 1)}


def read_table(file: Path, name: str) -> list[Any]:
    """The rows of a variable: numbers, texts, or dictionaries of them; raises a UserError if it cannot be read."""
    command = [sys.executable, "-I", "-c", _READ, str(file), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{file.name}: reading it takes too long") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "its reader broke down"
        raise UserError(f"{file.name}: {reason[:200]}")
    return list(json.loads(done.stdout))
