"""Web-dataset shards: tar archives of images and labels, read in place."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tpt.data.dataset import ImageDataset, Sample, refuse_duplicates
from tpt.data.folder import read_names
from tpt.data.images import EXTENSIONS
from tpt.data.listing import number_labels
from tpt.data.store import MAX_FILE_BYTES
from tpt.errors import BadImageError, DataError

NAMES_FILE = "classnames.txt"  # beside the shards or one folder above, as CLIP_benchmark writes it
MAX_LABEL_BYTES = 4096


def tar_shards(
    shards: str | Path | Sequence[str],
    name: str | None = None,
    class_names: str | Path | Sequence[str] | None = None,
    label_key: str = "cls",
    limit: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Images in tar archives, nothing of which is unpacked: the archives are indexed once, and each image is read at
    its place when its turn comes.

    Files of one sample share their name up to the first dot, as in `000017.jpg` and `000017.cls`.

    Args:
        shards: an archive, a folder of `.tar` files, a pattern with `*` or `{000..012}`, or a list of these.
        name: key in logs and results; that of the first shard's folder if None.
        class_names: a text file (a name a line) or list.  Labels that are whole numbers count into it, from 0; labels
            that are text must stand in it.  None looks for `classnames.txt` beside the shards or one folder above,
            and else takes the sorted labels, which then must be text.
        label_key: what follows the first dot in the name of a label's file.
        limit: takes so many images, drawn with `seed`; None takes all.
        seed: of that draw.

    Raises:
        DataError: no shards, a damaged or compressed one, a sample without image or label.
    """
    files = _files([shards] if isinstance(shards, str | Path) else shards)
    entries, places, labels = [], {}, []
    for number, file in enumerate(files):
        for sample in _index(file, label_key):
            path = f"{file.stem}/{sample.image}"
            if path in places:
                raise DataError(f"Expected different samples, but {path} stands twice in {file}; rename one shard.")
            places[path] = (number, sample.offset, sample.size)
            entries.append(path)
            labels.append(sample.label)
    numbered = [int(x) for x in labels] if all(re.fullmatch(r"\d+", x) for x in labels) else labels
    names, numbers = number_labels(numbered, _names(files[0], class_names), files[0])
    refuse_duplicates(names, f"for {files[0].parent}")
    samples = [Sample(path, label) for path, label in zip(entries, numbers, strict=True)]
    store = TarStore(files[0].parent, files, places)
    return ImageDataset(name or files[0].parent.name, names, samples, store).subset(limit, seed)


class TarStore:
    """Members of uncompressed tar archives.

    Args:
        root: named in errors and results.
        files: the archives.
        places: path -> (number of the archive, first byte, bytes).
    """

    def __init__(self, root: Path, files: Sequence[Path], places: dict[str, tuple[int, int, int]]) -> None:
        self.root = root
        self._files, self._places = list(files), places

    def read(self, path: str) -> bytes:
        """The bytes of one image.

        Raises:
            BadImageError: its shard is gone or shorter than it was.
        """
        number, offset, size = self._places[path]
        try:
            with self._files[number].open("rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise BadImageError(f"Expected to read {path} from {self._files[number]}, but {error}.") from error
        if len(content) < size:
            raise BadImageError(
                f"Expected {size} bytes of {path} in {self._files[number]}, got {len(content)}; get the shard again."
            )
        return content


@dataclass
class _Found:
    image: str = ""
    offset: int = 0
    size: int = 0
    label: str | None = None


@dataclass(frozen=True)
class _Complete:
    image: str
    offset: int
    size: int
    label: str


def _index(file: Path, label_key: str) -> list[_Complete]:
    """Every sample of one archive, in its order."""
    samples: dict[str, _Found] = {}
    try:
        with tarfile.open(file, "r:") as archive:  # plain tar alone: members of a compressed one have no place
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, kind = base.partition(".")
                sample = samples.setdefault(f"{folder}/{stem}", _Found())
                if f".{kind.lower()}".endswith(EXTENSIONS):
                    if member.size > MAX_FILE_BYTES:
                        raise DataError(f"Expected an image, got {member.size:,} bytes: {member.name} in {file}.")
                    sample.image, sample.offset, sample.size = member.name, member.offset_data, member.size
                elif kind == label_key:
                    content = archive.extractfile(member)
                    assert content is not None
                    sample.label = content.read(MAX_LABEL_BYTES).decode("utf-8").strip()
    except (tarfile.TarError, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"Expected an uncompressed tar archive at {file}, but it cannot be read so ({error}); get it again, or "
            "decompress it."
        ) from error
    half = [key for key, s in samples.items() if bool(s.image) != (s.label is not None)]
    if half:
        raise DataError(
            f"Expected an image and a label .{label_key} for every sample of {file}, but {len(half)} have one of the "
            f"two, such as {half[0].lstrip('/')}; set data.label_key, or complete the shard."
        )
    return [_Complete(s.image, s.offset, s.size, s.label) for s in samples.values() if s.label is not None]


def _files(patterns: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        for text in _expand(str(Path(pattern).expanduser())):
            path = Path(text)
            if path.is_dir():
                found += sorted(path.glob("*.tar"))
            elif any(c in path.name for c in "*?["):
                found += sorted(path.parent.glob(path.name))
            else:
                found.append(path)
    if not found:
        raise DataError(f"Expected tar archives at {', '.join(map(str, patterns))}, found none; check data.shards.")
    absent = [path for path in found if not path.is_file()]
    if absent:
        raise DataError(
            f"Expected {len(found)} shards, but {len(absent)} are missing, such as {absent[0]}; complete them."
        )
    return found


def _expand(pattern: str) -> list[str]:
    """`a-{000..002}.tar` -> its three names."""
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    choices = [parts[i : i + 1] for i in range(0, len(parts), 3)]
    ranges = [
        [f"{k:0{len(first)}d}" for k in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3], strict=True)
    ]
    ordered = [choices[0], *(x for pair in zip(ranges, choices[1:], strict=True) for x in pair)]
    return ["".join(choice) for choice in product(*ordered)]


def _names(first: Path, class_names: str | Path | Sequence[str] | None) -> list[str] | None:
    if class_names is not None:
        return read_names(class_names)
    beside = (first.parent / NAMES_FILE, first.parent.parent / NAMES_FILE)
    return next((read_names(path) for path in beside if path.is_file()), None)
