"""What is free to download: addresses, checksums and how archives become a dataset's folder."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Args:
        url: of it.
        md5: of its bytes; None if its publishers name none.
    """

    url: str
    md5: str | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        return PurePosixPath(urllib.parse.urlparse(self.url).path).name


@dataclass(frozen=True)
class Source:
    """What makes up a dataset.

    Args:
        folder: below the data root, as in CoOp's layout.
        archives: to unpack; a `.mat` file is kept as it is.
        top: the folder in the archives that becomes `folder`; empty if that is all they hold.
        then: an archive inside the first one, to be unpacked as well.
    """

    folder: str
    archives: tuple[Archive, ...]
    top: str = ""
    then: str = ""


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
_HUB = "https://huggingface.co/datasets"

# Addresses and checksums of the ten of Table 2 are those of torchvision.datasets, kept equal by a test; those of the
# variants of ImageNet stand on their own pages.
SOURCES: dict[str, Source] = {
    "imagenet_a": Source(
        "imagenet-adversarial/imagenet-a",
        (Archive(f"{_HENDRYCKS}/imagenet-a.tar", "c3e55429088dc681f30d81f4726b6595"),),
        "imagenet-a",
    ),
    "imagenet_v2": Source(
        "imagenetv2/imagenetv2-matched-frequency-format-val",
        (Archive(f"{_HUB}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz"),),
        "imagenetv2-matched-frequency-format-val",
    ),
    "imagenet_r": Source(
        "imagenet-rendition/imagenet-r",
        (Archive(f"{_HENDRYCKS}/imagenet-r.tar", "a61312130a589d0ca1a8fca1f2bd3337"),),
        "imagenet-r",
    ),
    "imagenet_sketch": Source(
        "imagenet-sketch", (Archive(f"{_HUB}/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"),)
    ),
    "flowers102": Source(
        "oxford_flowers",
        (
            Archive(f"{_VGG}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            Archive(f"{_VGG}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
            Archive(f"{_VGG}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
    ),
    "dtd": Source(
        "dtd", (Archive(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1"),), "dtd"
    ),
    "oxford_pets": Source(
        "oxford_pets",
        (
            Archive(f"{_VGG}/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Archive(f"{_VGG}/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
    ),
    "caltech101": Source(
        "caltech-101",
        (
            Archive(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
            ),
        ),
        "caltech-101",
        then="caltech-101/101_ObjectCategories.tar.gz",
    ),
    "food101": Source(
        "food-101",
        (Archive("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87"),),
        "food-101",
    ),
    "sun397": Source(
        "sun397",
        (
            Archive("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz", "8ca2778205c41d23104230ba66911c7a"),
            Archive("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip"),
        ),
    ),
    "fgvc_aircraft": Source(
        "fgvc_aircraft",
        (Archive(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"),),
        "fgvc-aircraft-2013b",
    ),
    "eurosat": Source(
        "eurosat",
        (
            Archive(
                f"{_HUB}/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "c8fa014336c82ac7804f0398fcb19387",
            ),
        ),
    ),
}
