"""Facts about each dataset: where its files are, the paper's split, and the numbers of images and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpt.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One dataset; `images` and `classes` are the numbers of the paper's test set."""

    key: str  # name in logs, results and the published tables
    title: str
    # Possible folders below the data root: as in the code of TPT and CoOp, in torchvision and on Kaggle.  A nested
    # folder of the same name, as unpacking may create, is found too.
    folders: tuple[str, ...]
    # "synsets" (one folder per WordNet id), "numbers" (one per class number), "split" (`split_zhou_*.json`, or else the
    # dataset's own lists), "own" (its own lists, which are the paper's), "domains" (one folder per domain, with one per
    # class inside) or "arrays" (CIFAR's pickles, and NumPy files of its corrupted forms).
    layout: str
    images: int
    classes: int
    source: str  # where to get the dataset
    subfolders: tuple[str, ...] = ("",)  # of `folders`, that may hold the images
    split: str = ""  # name of the split file
    synsets: str = "imagenet"  # label space for "synsets": or imagenet_a, imagenet_r
    # The part of a path that identifies the class: "folder" (the last one), "folders" (SUN397's `a/abbey` and
    # `a/apartment_building/outdoor`), "file" (OxfordPets' `Maine_Coon_10.jpg`), or none.
    class_in: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)  # CoOp's class names for the folders that it renames
    template: str = "a photo of a {}."  # CoOp's prompt (its `trainers/zsclip.py`)
    augmix: bool = False  # whether the paper uses AugMix (section 4.2: the ten datasets of Table 2)
    same_list: str = ""  # name of the dataset's own list with the same test set as CoOp's split
    part: str = ""  # folder of the domain, or corruption and severity ("fog/5")
    group: tuple[str, str] = ("", "")  # for tables of several datasets: title, such as "PACS", and the name in it

    def is_papers(self, split: str) -> bool:
        """Whether a list (or all images of the folder, if empty) gives the paper's test set."""
        return split == self.split or (bool(self.same_list) and split.rsplit("/", 1)[-1] == self.same_list)


# Possible folders of ImageNet's validation images: made by hand, in TPT's and CoOp's code, on Kaggle, or named like the
# archive.
_VAL = (
    "val", "images/val", "val/val", "validation", "images/validation", "ILSVRC2012_img_val",
    "images/ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "",
)  # fmt: skip

# CoOp's class names for folders (its `datasets/caltech101.py` and `datasets/eurosat.py`); EuroSAT's split file has
# either these names or those of the folders.
_CALTECH = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
_EUROSAT = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}

_ENTRIES = (
    Entry(
        "imagenet", "ImageNet, validation", ("ImageNet", "imagenet", "ILSVRC2012", "imagenet1k", "ILSVRC"), "synsets",
        50000, 1000,
        "https://image-net.org (an account is needed)", _VAL,
    ),
    Entry(
        "imagenet_a", "ImageNet-A",
        ("imagenet-a", "imagenet-adversarial/imagenet-a", "imagenet-adversarial"), "synsets", 7500, 200,
        "https://github.com/hendrycks/natural-adv-examples", synsets="imagenet_a",
    ),
    Entry(
        "imagenet_v2", "ImageNet-V2, matched frequency",
        (
            "imagenetv2-matched-frequency-format-val",
            "imagenetv2/imagenetv2-matched-frequency-format-val",
            "imagenetv2-matched-frequency",
            "imagenetv2",
        ),
        "numbers", 10000, 1000, "https://github.com/modestyachts/ImageNetV2",
        ("", "imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency"),
    ),
    Entry(
        "imagenet_r", "ImageNet-R",
        ("imagenet-r", "imagenet-rendition/imagenet-r", "imagenet-rendition"), "synsets", 30000, 200,
        "https://github.com/hendrycks/imagenet-r", synsets="imagenet_r",
    ),
    Entry(
        "imagenet_sketch", "ImageNet-Sketch", ("ImageNet-Sketch", "imagenet-sketch"), "synsets", 50889, 1000,
        "https://github.com/HaohanWang/ImageNet-Sketch", ("", "images", "sketch"),
    ),
    Entry(
        "flowers102", "Oxford Flowers 102", ("Flower102", "oxford_flowers", "flowers-102"), "split", 2463, 102,
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102", ("jpg",), "split_zhou_OxfordFlowers.json",
        template="a photo of a {}, a type of flower.", augmix=True,
    ),
    Entry(
        "dtd", "Describable Textures", ("DTD", "dtd"), "split", 1692, 47,
        "https://www.robots.ox.ac.uk/~vgg/data/dtd", ("images", "dtd/images"), "split_zhou_DescribableTextures.json",
        class_in="folder", template="{} texture.", augmix=True,
    ),
    Entry(
        "oxford_pets", "Oxford-IIIT Pets", ("OxfordPets", "oxford_pets", "oxford-iiit-pet"), "split", 3669, 37,
        "https://www.robots.ox.ac.uk/~vgg/data/pets", ("images", ""), "split_zhou_OxfordPets.json",
        same_list="test.txt", class_in="file", template="a photo of a {}, a type of pet.", augmix=True,
    ),
    Entry(
        "stanford_cars", "Stanford Cars", ("StanfordCars", "stanford_cars", "stanford-cars"), "split", 8041, 196,
        "CoOp's DATASETS.md names the current mirrors", ("", "cars_test", "cars_train"), "split_zhou_StanfordCars.json",
        same_list="cars_test_annos_withlabels.mat", augmix=True,
    ),
    Entry(
        "ucf101", "UCF101, middle frames", ("UCF101", "ucf101"), "split", 3783, 101,
        "the frames that CoOp's DATASETS.md links to", ("UCF-101-midframes", ""), "split_zhou_UCF101.json",
        same_list="testlist01.txt", class_in="folder", template="a photo of a person doing {}.", augmix=True,
    ),
    Entry(
        "caltech101", "Caltech101", ("Caltech101", "caltech-101", "caltech101"), "split", 2465, 100,
        "https://data.caltech.edu/records/mzrjq-6wc02", ("101_ObjectCategories", ""), "split_zhou_Caltech101.json",
        class_in="folder", renamed=_CALTECH, augmix=True,
    ),
    Entry(
        "food101", "Food101", ("Food101", "food-101", "food101"), "split", 30300, 101,
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101", ("images",), "split_zhou_Food101.json",
        class_in="folder", template="a photo of {}, a type of food.", augmix=True,
    ),
    Entry(
        "sun397", "SUN397", ("SUN397", "sun397"), "split", 19850, 397,
        "https://vision.princeton.edu/projects/2010/SUN", ("SUN397", ""), "split_zhou_SUN397.json",
        same_list="Testing_01.txt", class_in="folders", augmix=True,
    ),
    Entry(
        "fgvc_aircraft", "FGVC-Aircraft",
        ("fgvc_aircraft", "fgvc-aircraft-2013b", "fgvc_aircraft/fgvc-aircraft-2013b"), "own", 3333, 100,
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft", ("", "data"), "images_variant_test.txt",
        template="a photo of a {}, a type of aircraft.", augmix=True,
    ),
    Entry(
        "eurosat", "EuroSAT", ("eurosat", "EuroSAT", "EuroSAT_RGB"), "split", 8100, 10,
        "https://github.com/phelber/EuroSAT", ("2750", "EuroSAT_RGB", ""), "split_zhou_EuroSAT.json",
        class_in="folder", renamed=_EUROSAT, template="a centered satellite photo of {}.", augmix=True,
    ),
)  # fmt: skip

PAPER: dict[str, Entry] = {entry.key: entry for entry in _ENTRIES}
NATURAL_SHIFT = ("imagenet", "imagenet_a", "imagenet_v2", "imagenet_r", "imagenet_sketch")  # the paper's Table 1
CROSS_DATASET = tuple(key for key in PAPER if key not in NATURAL_SHIFT)  # its Table 2

_CIFAR = (
    Entry(
        "cifar10", "CIFAR-10", ("cifar-10-batches-py", "cifar10", "CIFAR10", "CIFAR-10"), "arrays", 10000, 10,
        "https://www.cs.toronto.edu/~kriz/cifar.html", ("", "cifar-10-batches-py"),
    ),
    Entry(
        "cifar100", "CIFAR-100", ("cifar-100-python", "cifar100", "CIFAR100", "CIFAR-100"), "arrays", 10000, 100,
        "https://www.cs.toronto.edu/~kriz/cifar.html", ("", "cifar-100-python"),
    ),
)  # fmt: skip

# Hendrycks and Dietterich, ICLR 2019: fifteen corruptions for testing, and four for choosing settings.
CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
_ALL_CORRUPTIONS = (*CORRUPTIONS, "speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTED: dict[str, Entry] = {
    "imagenet_c": Entry(
        "imagenet_c", "ImageNet-C", ("ImageNet-C", "imagenet-c", "imagenet_c"), "synsets", 50000, 1000,
        "https://zenodo.org/records/2235448", ("", "noise", "blur", "weather", "digital", "extra"),
    ),
    "cifar10_c": Entry(
        "cifar10_c", "CIFAR-10-C", ("CIFAR-10-C", "cifar-10-c", "cifar10_c"), "arrays", 10000, 10,
        "https://zenodo.org/records/2535967",
    ),
    "cifar100_c": Entry(
        "cifar100_c", "CIFAR-100-C", ("CIFAR-100-C", "cifar-100-c", "cifar100_c"), "arrays", 10000, 100,
        "https://zenodo.org/records/3555552",
    ),
}  # fmt: skip
_CORRUPTIONS_OF = {
    f"{of.key}_{name}_{severity}": replace(
        of,
        key=f"{of.key}_{name}_{severity}",
        title=f"{of.title}, {name} {severity}",
        part=f"{name}/{severity}",
        group=(f"{of.title}, severity {severity}", name),
    )
    for of in CORRUPTED.values()
    for name in _ALL_CORRUPTIONS
    for severity in SEVERITIES
}

# Datasets with several domains: title, number of classes, source, possible folders, subfolders that may hold the
# domains, and the folder and number of images of each domain.
_OF_DOMAINS: dict[str, tuple[str, int, str, tuple[str, ...], tuple[str, ...], dict[str, int]]] = {
    "office_home": (
        "Office-Home", 65, "https://www.hemanthdv.org/officeHomeDataset.html",
        ("office_home", "OfficeHomeDataset_10072016", "OfficeHome", "office-home"), ("", "OfficeHomeDataset_10072016"),
        {"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
    ),
    "pacs": (
        "PACS", 7, "https://dali-dl.github.io/project_iccv2017.html", ("PACS", "pacs"), ("", "kfold", "images"),
        {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929},
    ),
    "vlcs": (
        "VLCS", 5, "the VLCS.tar.gz that DomainBed's download script names", ("VLCS", "vlcs"), ("",),
        {"Caltech101": 1415, "LabelMe": 2656, "SUN09": 3282, "VOC2007": 3376},
    ),
    "visda": (
        "VisDA-2017", 12, "https://ai.bu.edu/visda-2017", ("visda", "VisDA-2017", "visda-2017", "VISDA-C"), ("",),
        {"validation": 55388},
    ),
    "domainnet": (
        "DomainNet", 345, "https://ai.bu.edu/M3SDA, the cleaned version and its lists",
        ("DomainNet", "domainnet", "domain_net"), ("",),
        {"clipart": 14604, "infograph": 15582, "painting": 21850, "quickdraw": 51750, "real": 52041, "sketch": 20916},
    ),
    "terra_incognita": (
        "TerraIncognita", 10, "DomainBed's download script, which sorts the images into these folders",
        ("terra_incognita", "TerraIncognita"), ("",),
        {"location_38": 9736, "location_43": 3970, "location_46": 5883, "location_100": 4741},
    ),
}  # fmt: skip


def _domains(key: str) -> tuple[Entry, ...]:
    title, classes, source, folders, within, images = _OF_DOMAINS[key]
    found = []
    for part, count in images.items():
        name, whole = part.lower().replace(" ", "_"), f"{title}, {part}"
        group = (title, name) if len(images) > 1 else ("", "")
        entry = Entry(
            f"{key}_{name}", whole, folders, "domains", count, classes, source, within, part=part, group=group
        )
        found.append(replace(entry, split=f"{part}_test.txt", class_in="folder") if key == "domainnet" else entry)
    return tuple(found)


DOMAINS: dict[str, tuple[Entry, ...]] = {key: _domains(key) for key in _OF_DOMAINS}
CATALOG: dict[str, Entry] = {
    **PAPER, **{entry.key: entry for entries in (_CIFAR, *DOMAINS.values()) for entry in entries}
}  # fmt: skip
KEYS = (*CATALOG, *CORRUPTED, *DOMAINS)  # all keys that a user may give


def keys_of(key: str, corruption: str | Sequence[str] = "all", severity: int | Sequence[int] = 5) -> list[str]:
    """The datasets behind one of `KEYS`: its domains, its corruptions ("all": fifteen), or only the key itself."""
    if key not in CORRUPTED:
        return [entry.key for entry in DOMAINS[key]] if key in DOMAINS else [key]
    chosen = CORRUPTIONS if corruption == "all" else (corruption,) if isinstance(corruption, str) else corruption
    severities = (severity,) if isinstance(severity, int) else severity
    if unknown := [name for name in chosen if name not in _ALL_CORRUPTIONS]:
        raise DataError(
            f"Expected corruptions out of {', '.join(_ALL_CORRUPTIONS)} or all, got {unknown[0]}; set data.corruption."
        )
    return [f"{key}_{name}_{degree}" for degree in severities for name in chosen]


def entry_of(key: str) -> Entry:
    """The entry of a dataset in `CATALOG`, or of a corruption such as imagenet_c_fog_5; raises a DataError if none."""
    if (found := CATALOG.get(key) or _CORRUPTIONS_OF.get(key)) is None:
        raise DataError(f"Expected a dataset out of {', '.join(KEYS)}, got {key!r}; see docs/datasets.md.")
    return found


def group_of(key: str) -> tuple[str, str]:
    """The group of a dataset, if any, and its name in it, for tables: ("ImageNet-C, severity 5", "fog")."""
    found = CATALOG.get(key) or _CORRUPTIONS_OF.get(key)
    return found.group if found is not None and found.group[0] else ("", key)
