"""Reads pictures without labels: from files, folders, patterns and zip archives, or in memory."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tpt.data.dataset import ImageDataset, Sample
from tpt.data.images import EXTENSIONS, SUFFIXES, Orientation
from tpt.data.labels import ClassNames, read_names
from tpt.data.names import counted_suffixes, is_data, plain
from tpt.data.store import FileStore
from tpt.errors import BadImageError, DataError, UserError, checked, refuse_one_prompt, text_key
from tpt.files import is_file, read_bytes, readable
from tpt.files.lists import decode_text

LIST = "@"  # before the name of a file that lists pictures
ARCHIVE = ".zip"
SHOWN = 5  # maximum sources named in an error
CHANNELS = (1, 3, 4)  # of an array
Source = str | Path
Picture = str | Path | Image.Image | Any  # Any: an array or a tensor


class PictureStore:
    """Reads single files by path, relative to `root`, and files in folders and archives by their path inside.

    Args:
        places: folders and zip archives, by the prefix of their pictures' paths.
        named: real paths of single files whose names are not UTF-8, by their path as text.
    """

    def __init__(self, root: Path, places: Mapping[str, FileStore], named: Mapping[str, str]) -> None:
        self.root = root
        self._files = FileStore(root)
        self._places = dict(sorted(places.items(), key=lambda item: -len(item[0])))  # inner folders first
        self._named = dict(named)

    def read(self, path: str, first: int | None = None) -> bytes:
        """See `Store.read`."""
        for prefix, store in self._places.items():
            if path.startswith(prefix) and path not in self._named:
                return store.read(path.removeprefix(prefix), first)
        return self._files.read(self._named.get(path, path), first)


@checked
def pictures(
    root: Source | Sequence[Source],
    class_names: ClassNames,
    name: str | None = None,
    orientation: Orientation = "apply",
) -> ImageDataset:
    """Pictures without labels, each once, in the order in which they were named, folders in sorted order.

    An answer depends only on the pixels, not on the file name or the batch.

    Args:
        root: a file, a folder (including its subfolders), a zip archive, a pattern (`*`, `?`, `[]`, `**`), `@` and the
            name of a list with one of these per line; or several of them.
        class_names: a file in any form of `tpt.files.lists.parse_list`, a list, or names separated by commas.
        name: name in logs and results; "pictures" if None.
        orientation: as for `image_folder`.

    Raises:
        DataError: a source does not exist, there are no pictures, or two class names have the same meaning.
    """
    names = class_list(class_names)
    sources = [root] if isinstance(root, str | PurePath) else root
    found = find_pictures(sources)
    samples = [Sample(path) for path in dict.fromkeys(found.paths)]
    if not samples:
        shown = ", ".join(map(str, sources[:SHOWN]))
        raise DataError(f"No pictures at {shown} ({found.left_out or 'no files'}). Check data.root.")
    notes = [f"files that are no pictures are left out: {found.left_out}"] if found.left_out else []
    upright = orientation == "apply"
    return ImageDataset(name or "pictures", names, samples, found.store, notes, by_content=True, upright=upright)


class Found(NamedTuple):
    """Pictures from several sources, their store, and counts of other files by suffix."""

    paths: list[str]
    store: PictureStore
    left_out: str


def find_pictures(places: Sequence[Source]) -> Found:
    """The pictures at sources as for `pictures`, in that order; those named twice are listed twice."""
    stores: dict[str, FileStore] = {}
    named: dict[str, str] = {}
    others: list[str] = []
    paths = [path for place in _places(places) for path in _pictures_at(place, stores, named, others)]
    return Found(paths, PictureStore(Path.cwd(), stores, named), counted_suffixes(others))


def class_list(class_names: ClassNames) -> list[str]:
    """At least two different class names, from a file (see `read_names`), a list, or a text with commas."""
    if isinstance(class_names, str | PurePath) and not is_file(class_names):
        class_names = [part.strip() for part in str(class_names).split(",")]
    names = [name for name in read_names(class_names) if name.strip()]
    refuse_one_prompt(names, [text_key(name) for name in names], "in data.class_names", DataError)
    if len(names) < 2:
        raise DataError(
            f"Expected at least two class names to choose from in data.class_names, got {len(names)}, "
            f"{str(names)[:200]}; put commas between, or check the path of a file of names."
        )
    return names


def _places(sources: Sequence[Source], in_list: bool = False) -> Iterator[str]:
    """Every path that was named, listed or matched by a pattern."""
    for source in map(str, sources):
        if source.startswith(LIST) and not os.path.lexists(source) and not in_list:
            listed = Path(source.removeprefix(LIST)).expanduser()
            with readable(f"the list of pictures {listed}", "Check the path"):
                lines = [line for line in decode_text(read_bytes(listed)).splitlines() if line.strip()]
            yield from _places(lines, in_list=True)
            continue
        path = _tidy(os.path.expanduser(source))  # noqa: PTH111 -- kept as text
        if os.path.lexists(path):
            yield path
        elif glob.has_magic(path):
            matched = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 -- also accepts absolute patterns
            if not matched:
                raise DataError(f"No pictures match {source!r}. Check the pattern.")
            own = set(path.split("/"))  # parts that the user named are kept, even if hidden
            yield from (m for m in map(_tidy, matched) if is_data("/".join(set(m.split("/")) - own) or "a"))
        else:
            raise DataError(f"There is no picture, folder, zip archive or pattern {source!r}. Check the path.")


def _tidy(path: str) -> str:
    """The path without `.` and `a/..`; unchanged if it then leads elsewhere, because `a` is a link."""
    short = os.path.normpath(path)
    return short if os.path.realpath(short) == os.path.realpath(path) else path


def _pictures_at(place: str, stores: dict[str, FileStore], named: dict[str, str], others: list[str]) -> Iterator[str]:
    """The pictures in a folder or archive; a file that the user named is a picture, whatever its suffix."""
    path, text = Path(place), plain(place)
    if not path.is_dir() and path.suffix.lower() != ARCHIVE:
        if text != place:
            named[text] = place
        yield text
        return
    prefix = "" if place == os.curdir else f"{text.removesuffix('/')}/"
    store = stores[prefix] = FileStore(path.absolute())  # the program may change its working directory
    for inside in store.paths():
        if inside.lower().endswith((*EXTENSIONS, *SUFFIXES)):
            yield prefix + inside
        else:
            others.append(inside)


def is_one(images: Any) -> bool:
    """Whether `images` is one picture: a path, an image, or an array or tensor without a batch axis."""
    return isinstance(images, str | PurePath | Image.Image) or len(getattr(images, "shape", (0,) * 4)) in (2, 3)


def as_image(picture: Any, number: int) -> Image.Image:
    """A PIL image of a picture in memory, which is the `number`-th of those given.

    It may be an array or tensor (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, which come first in PyTorch's
    tensors.  Values are integers from 0 to 255, booleans, or floats from 0 to 1.
    """
    if isinstance(picture, Image.Image):
        return picture
    first = hasattr(picture, "detach")  # PyTorch has channels first
    if first:
        picture = picture.detach().cpu()
        picture = picture.float() if picture.is_floating_point() else picture  # NumPy has no bfloat16
    array = np.asarray(picture if hasattr(picture, "shape") else None)
    axes = [axis for axis in ((0, 2) if first else (2, 0)) if array.ndim == 3 and array.shape[axis] in CHANNELS]
    last = np.moveaxis(array, axes[0], -1) if axes else array
    last = last[..., 0] if axes and last.shape[-1] == 1 else last
    most = 1 if array.dtype.kind in "bf" else 65_535 if array.dtype == np.uint16 and last.ndim == 2 else 255
    fits = array.size and array.dtype.kind in "biuf" and (array.ndim == 2 or axes)
    if not fits or not (array.min() >= 0 and array.max() <= most):
        values = f" from {array.min():g} to {array.max():g}" if fits else f" {array.shape}"
        raise UserError(
            "Expected a path, a PIL image, or an array or tensor (H, W), (H, W, C) or (C, H, W) of 1, 3 or 4 channels "
            f"of integers from 0 to 255 or floats from 0 to 1 as picture {number}, got {type(picture).__name__} of "
            f"{array.dtype}{values}; convert it, or undo the normalization."
        )
    if most != 65_535:  # Pillow supports greys of 16 bits
        last = np.rint(last * (255 / most)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(last))


def as_file(image: Image.Image) -> bytes:
    """The pixels as an encoded file, rotated by its EXIF orientation, so that it is read like any other file."""
    try:
        upright = ImageOps.exif_transpose(image)
        buffer = io.BytesIO()
        upright.save(buffer, "PPM" if upright.mode == "RGB" else "TIFF")  # fast to write and to read
        return buffer.getvalue()
    except Exception as error:  # many causes: a closed or damaged file, or a mode that no format supports
        raise BadImageError(f"Cannot read the image ({error}). Open it again.", f"cannot be read: {error}") from error


def given_pictures(images: Sequence[Picture], class_names: list[str]) -> ImageDataset:
    """A dataset of pictures without labels, each as often as it is given; a UserError if an item is no picture."""
    store = GivenPictures()
    samples: list[Sample] = []
    for number, image in enumerate(images, start=1):
        if isinstance(image, str | PurePath):
            found = find_pictures([str(image)])
            paths, reads = found.paths, [partial(found.store.read, path) for path in found.paths]
        else:
            paths, reads = [f"image {number}"], [partial(as_file, as_image(image, number))]
        store.update(zip(paths, reads, strict=True))
        samples += map(Sample, paths)
    return ImageDataset("pictures", class_names, samples, store, by_content=True, upright=True)


class GivenPictures(dict[str, Callable[[], bytes]]):
    """A store of pictures by path or position."""

    root = Path()

    def read(self, path: str, first: int | None = None) -> bytes:
        """See `Store.read`."""
        return self[path]()[:first]
