"""Reads WebDataset shards: tar archives of images and labels, without unpacking."""

from __future__ import annotations

import glob
import re
import tarfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from tpt.data.dataset import ImageDataset, Sample
from tpt.data.folder import SPLITS
from tpt.data.images import EXTENSIONS, SUFFIXES, Orientation
from tpt.data.labels import ClassNames, json_label, number_labels
from tpt.data.names import is_data, is_left_behind, plain
from tpt.data.store import MAX_FILE_BYTES
from tpt.errors import BadImageError, DataError, Filled, checked
from tpt.files import is_file, readable

NAMES_FILE = "classnames.txt"  # next to the shards or one folder above, as in CLIP_benchmark
MAX_LABEL_BYTES = 4096
MAX_SHARDS = 100_000
_SPLIT_NAMES = {name for names in SPLITS.values() for name in names}
_HERE = re.compile(r"^(\.{0,2}/)+")  # prefix from `tar` for names relative to its working directory


@checked
def tar_shards(
    shards: Filled | Path | Sequence[str],
    name: str | None = None,
    class_names: ClassNames | None = None,
    label_key: str = "cls",
    split: str | None = None,
    orientation: Orientation = "apply",
    first_label: Literal[0, 1] | None = None,
) -> ImageDataset:
    """Images in tar archives, which are indexed once from headers and labels; images are read on demand.

    Files of one sample share their name up to the first dot, as in `000017.jpg` and `000017.cls`.

    Args:
        shards: an archive, a folder of `.tar` files, a folder with one such folder per split, a pattern with `*` or
            `{000..012}`, or a list of these.
        name: name in logs and results; None uses the name of the first shard's folder, or of the folder above if that
            is named like a split.
        class_names: as for `image_list`.  None looks for `classnames.txt` next to the shards or one folder above, and
            otherwise uses the sorted labels, which must then be text.
        label_key: the part after the first dot in the name of a label's file; if it ends in `json`, the label is read
            from the JSON.
        orientation: as for `image_folder`.
        first_label: as for `image_list`.
        split: split in a folder of folders; None uses the only one, or "test".

    Raises:
        DataError: there are no shards, a shard is damaged or compressed, or a sample has no image or label.
    """
    files = _files([shards] if isinstance(shards, str | Path) else shards, split)
    places: dict[str, tuple[int, int, int]] = {}
    labels: list[str] = []
    for number, file in enumerate(files):
        for image, label in _index(file, label_key):
            path = f"{file.stem}/{image.name}"
            if path in places:
                raise DataError(f"Sample {path} occurs twice, the second time in {file}. Rename one shard.")
            places[path] = (number, image.offset_data, image.size)
            labels.append(label)
    beside = (folder / NAMES_FILE for folder in (files[0].parent, files[0].parent.parent))
    class_names = next(filter(is_file, beside), None) if class_names is None else class_names
    names, numbers = number_labels(labels, class_names, files[0], first_label)
    samples = [Sample(path, label) for path, label in zip(places, numbers, strict=True)]
    folder = files[0].absolute().parent
    is_split = folder.name.lower() in _SPLIT_NAMES and folder.parent.name
    own = plain((folder.parent if is_split else folder).name)
    store = TarStore(files[0].parent, files, places)
    return ImageDataset(name or own, names, samples, store, upright=orientation == "apply").noted()


class TarStore:
    """Reads members of uncompressed tar archives; `places` maps each path to its archive, first byte and size."""

    def __init__(self, root: Path, files: Sequence[Path], places: dict[str, tuple[int, int, int]]) -> None:
        self.root = root
        self._files, self._places = list(files), places

    def read(self, path: str, first: int | None = None) -> bytes:
        """See `Store.read`."""
        number, offset, size = self._places[path]
        size = size if first is None else min(first, size)
        what = f"{path} in {self._files[number]}"
        with readable(what, "Get the shard again", BadImageError), self._files[number].open("rb") as file:
            file.seek(offset)
            if len(content := file.read(size)) < size:
                raise EOFError(f"{len(content)} of {size} bytes")
            return content


def _index(file: Path, label_key: str) -> list[tuple[tarfile.TarInfo, str]]:
    """The image and label of every sample in one archive, in order."""
    samples: dict[str, dict[str, Any]] = {}  # by name: `image` and `label`
    with (
        readable(f"{file} as an uncompressed tar archive", "Get it again, or decompress it"),
        tarfile.open(file, "r:") as archive,  # uncompressed only: a compressed archive has no random access
    ):
        for member in archive:
            if member.isfile() and is_data(_HERE.sub("", member.name)):
                _add(samples, archive, member, label_key)
    if half := [key for key, sample in samples.items() if len(sample) == 1]:
        raise DataError(
            f"{len(half)} samples of {file} have only an image or only a label .{label_key}, such as "
            f"{half[0].lstrip('/')}. Set data.label_key, or complete the shard."
        )
    return [(sample["image"], sample["label"]) for sample in samples.values() if sample]


def _add(samples: dict[str, dict[str, Any]], archive: tarfile.TarFile, member: tarfile.TarInfo, label_key: str) -> None:
    """Adds a member to its sample as image or label; other members are ignored."""
    folder, _, base = member.name.rpartition("/")
    stem, _, kind = base.partition(".")
    sample = samples.setdefault(f"{folder}/{stem}", {})
    if kind == label_key:
        content = archive.extractfile(member)
        assert content is not None  # it is a file
        text = content.read(MAX_LABEL_BYTES).decode("utf-8").strip()
        if text:
            sample["label"] = json_label(text) if kind.lower().endswith("json") else text
    elif f".{kind.lower()}".endswith(EXTENSIONS):
        if "image" in sample and sample["image"].name.lower().endswith(EXTENSIONS):
            raise tarfile.ReadError(f"one sample has the images {sample['image'].name} and {member.name}")
        if member.size > MAX_FILE_BYTES or member.issparse():
            raise tarfile.ReadError(f"the image {member.name} has holes or {member.size:,} bytes")
        sample["image"] = member
    elif f".{kind.lower()}".endswith(SUFFIXES):
        sample.setdefault("image", member)  # decoding will report its format


def _files(patterns: Sequence[str | Path], split: str | None) -> list[Path]:
    found: list[Path] = []
    for text in (text for pattern in patterns for text in _expand(str(Path(pattern).expanduser()))):
        path = Path(text)
        if path.is_dir():
            found += _in_folder(path, split)
        else:  # a file's own name may look like a pattern
            matches = [] if is_file(path) else sorted(glob.glob(text))  # noqa: PTH207 - the pattern may start anywhere
            found += map(Path, matches or [text])
    if not found:
        raise DataError(
            f"No .tar archives at {', '.join(map(str, patterns))}. Check data.shards, and gunzip archives that are "
            "compressed."
        )
    if absent := [path for path in found if not is_file(path)]:
        raise DataError(f"{len(absent)} of the {len(found)} shards are missing, such as {absent[0]}. Restore them.")
    return found


def _in_folder(folder: Path, split: str | None) -> list[Path]:
    """The shards in a folder, or those of a split in it."""
    own, inner = (
        [path for path in sorted(folder.glob(pattern)) if not is_left_behind(path.name)]
        for pattern in ("*.tar", "*/*.tar")
    )
    if own:
        return own
    wanted = {split, *SPLITS.get(split or "test", ())}
    found = {name: list(paths) for name, paths in groupby(inner, key=lambda path: path.parent.name)}
    by_split = {name: paths for name, paths in found.items() if {name, name.lower()} & {split, *_SPLIT_NAMES}}
    named = [name for name in by_split if {name, name.lower()} & wanted] or ([*by_split] if split is None else [])
    if by_split and len(named) != 1:
        raise DataError(
            f"Cannot choose the shards of one split in {folder}, which holds {', '.join(by_split)}. Set data.split, "
            "or point data.shards at one of these folders."
        )
    return by_split[named[0]] if named else []


def _expand(pattern: str) -> list[str]:
    """`a-{000..002}.tar` -> its three names."""
    if not (found := re.search(r"\{(\d+)\.\.(\d+)\}", pattern)):
        return [pattern]
    first, last = found.groups()
    rest, count = _expand(pattern[found.end() :]), int(last) - int(first) + 1
    if not 1 <= count * len(rest) <= MAX_SHARDS:
        raise DataError(f"Expected a pattern of 1 to {MAX_SHARDS:,} shards, got {pattern}; write {{000..012}}.")
    numbers = (f"{k:0{len(first)}d}" for k in range(int(first), int(last) + 1))
    return [f"{pattern[: found.start()]}{number}{end}" for number in numbers for end in rest]
