"""What is known of each dataset: where its files lie, the paper's split, its images and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One dataset.

    Args:
        key: as in logs, results and the published tables.
        title: its own name.
        folders: where it may lie below the data root: the names used by the code of TPT, by CoOp's, by torchvision's,
            by Kaggle.  A folder of the same name in it, as unpacking leaves it, counts as well.
        layout: "synsets" (a folder for each WordNet id), "numbers" (a folder for each class number), "split" (a
            `split_zhou_*.json`, else its own lists) or "own" (its own lists, which are the paper's).
        images, classes: of the paper's test set.
        source: where to get it.
        subfolders: of `folders`, that the images may lie in.
        split: name of the split file.
        same_list: name of the dataset's own list of the paper's test set, from which CoOp's split took it.
        synsets: of "synsets": "imagenet", "imagenet_a" or "imagenet_r", the label space.
        class_in: where the path of an image tells its class: "folder" (the last), "folders" (SUN397's `a/abbey` and
            `a/apartment_building/outdoor`), "file" (OxfordPets' `Maine_Coon_10.jpg`), or nowhere.
        renamed: class names of folders that CoOp calls by another name.
        template: CoOp's prompt for it (its `trainers/zsclip.py`).
        augmix: whether the paper's views of it are mixed by AugMix (section 4.2: the ten of Table 2).
    """

    key: str
    title: str
    folders: tuple[str, ...]
    layout: str
    images: int
    classes: int
    source: str
    subfolders: tuple[str, ...] = ("",)
    split: str = ""
    synsets: str = "imagenet"
    class_in: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    template: str = "a photo of a {}."
    augmix: bool = False
    same_list: str = ""

    def is_papers(self, split: str) -> bool:
        """Whether the list that chose the images gives the paper's test set.

        Args:
            split: name of the list; empty if it is the folder itself.
        """
        return split == self.split or (bool(self.same_list) and split.rsplit("/", 1)[-1] == self.same_list)


# Where ImageNet's validation images are put: by hand, by TPT's and CoOp's code, by Kaggle, under their archive's name.
_VAL = (
    "val", "images/val", "val/val", "validation", "images/validation", "ILSVRC2012_img_val",
    "images/ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "",
)  # fmt: skip

# CoOp's names of folders (its `datasets/caltech101.py` and `datasets/eurosat.py`); the split file of EuroSAT comes with
# the long names or with the folders' own.
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

CATALOG: dict[str, Entry] = {entry.key: entry for entry in _ENTRIES}
NATURAL_SHIFT = ("imagenet", "imagenet_a", "imagenet_v2", "imagenet_r", "imagenet_sketch")  # the paper's Table 1
CROSS_DATASET = tuple(key for key in CATALOG if key not in NATURAL_SHIFT)  # its Table 2
