"""Pictures without labels, wherever they lie: files, folders, patterns, zip archives."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from tpt.data.dataset import ImageDataset, Sample, refuse_duplicates
from tpt.data.folder import read_names
from tpt.data.images import EXTENSIONS
from tpt.data.store import FileStore
from tpt.errors import DataError

LIST = "@"  # before the name of a file that lists pictures
ARCHIVE = ".zip"
SHOWN = 5  # suffixes of files that are no pictures
Source = str | Path


class PictureStore:
    """Files by their path, from `root` where that is relative, and members of zip archives by the archive's and theirs.

    Args:
        root: where relative paths start.
        archives: by their path.
    """

    def __init__(self, root: Path, archives: Mapping[str, FileStore]) -> None:
        self.root = root
        self._files = FileStore(root)
        self._archives = {f"{path}/": store for path, store in archives.items()}

    def read(self, path: str) -> bytes:
        """The bytes of one picture; raises a BadImageError."""
        for prefix, archive in self._archives.items():
            if path.startswith(prefix):
                return archive.read(path.removeprefix(prefix))
        return self._files.read(path)


def pictures(
    root: Source | Sequence[Source],
    class_names: str | Path | Sequence[str],
    name: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Pictures without labels, each once, in the order in which they were named, folders in sorted order.

    A picture's views follow from its pixels, so that its answer is the same under any name and in any company.

    Args:
        root: a file, a folder (taken with all folders in it), a zip archive, a pattern (`*`, `?`, `[]`, `**`), the name
            of a list with `@` before it, which has one of these a line; or several of them.
        class_names: a text file with a name a line, a list, or names with commas between them.
        name: key in logs and results; "pictures" if None.
        limit: takes so many pictures, drawn with `seed`; None takes all.
        seed: of that draw.

    Raises:
        DataError: something is not there, there are no pictures, or class names that cannot be told apart.
    """
    names = class_list(class_names)
    found = find_pictures([root] if isinstance(root, str | PurePath) else root)
    paths = dict.fromkeys(found.paths)
    if not paths:
        shown = str(root) if isinstance(root, str | PurePath) else ", ".join(map(str, root[:SHOWN]))
        raise DataError(f"Expected pictures ({', '.join(EXTENSIONS)}) at {shown}, found {_counted(found.others)}.")
    dataset = ImageDataset(
        name or "pictures", names, [Sample(path) for path in paths], found.store, found.notes, by_content=True
    )
    return dataset.subset(limit, seed)


@dataclass(frozen=True)
class Found:
    """What there is at some places: paths of pictures, where they lie, and how many files of other suffixes."""

    paths: list[str]
    store: PictureStore
    others: Counter[str]

    @property
    def notes(self) -> list[str]:
        """What is to be said of it."""
        return [f"files that are no pictures are left out: {_counted(self.others)}"] if self.others else []


def find_pictures(places: Sequence[Source]) -> Found:
    """The pictures at places as `pictures` takes them, in that order; what is named twice is there twice.

    Raises:
        DataError: there is nothing at one of them.
    """
    archives: dict[str, FileStore] = {}
    others: Counter[str] = Counter()
    paths = [path for place in _places(places) for path in _pictures_at(place, archives, others)]
    return Found(paths, PictureStore(Path.cwd(), archives), others)


def class_list(class_names: str | Path | Sequence[str]) -> list[str]:
    """At least two different class names: of a text file, a name a line; of a list; or of a text with commas.

    Raises:
        DataError: there is no such file, or the names cannot be told apart.
    """
    where = f"in {class_names}" if isinstance(class_names, str | PurePath) else "in data.class_names"
    if isinstance(class_names, str) and "," in class_names and not Path(class_names).expanduser().is_file():
        class_names, where = [part.strip() for part in class_names.split(",")], "in data.class_names"
    names = read_names(class_names)
    names = [name for name in names if name.strip()]
    refuse_duplicates(names, where)
    if len(names) < 2:
        raise DataError(f"Expected at least two class names to choose from {where}, got {len(names)}; add some.")
    return names


def _places(sources: Sequence[Source], in_list: bool = False) -> Iterator[str]:
    """Every path that was named, listed or matched by a pattern."""
    for source in map(str, sources):
        if source.startswith(LIST) and not os.path.lexists(source) and not in_list:
            yield from _places(_listed(Path(source.removeprefix(LIST)).expanduser()), in_list=True)
            continue
        path = os.path.normpath(os.path.expanduser(source))  # noqa: PTH111 -- and a text, so that `..` stays as it is
        if os.path.lexists(path):
            yield path
        elif glob.has_magic(path):
            matched = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 -- takes absolute patterns as well
            if not matched:
                raise DataError(f"Expected pictures that match {source!r}, found none; check the pattern.")
            yield from (os.path.normpath(match) for match in matched)
        else:
            raise DataError(
                f"Expected a picture, folder, zip archive or pattern at {source!r}, found nothing; check the path."
            )


def _listed(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"Expected a list of pictures at {path}, but {error.strerror}; check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 text in {path}, but byte {error.start} is not; save it as UTF-8.") from error


def _pictures_at(place: str, archives: dict[str, FileStore], others: Counter[str]) -> Iterator[str]:
    """Pictures of a folder or archive; a file that was named is one, whatever its suffix."""
    path = Path(place)
    if not path.is_dir() and path.suffix.lower() != ARCHIVE:
        yield place
        return
    store = FileStore(path)
    if store.is_archive:
        archives[place] = store
    for inside in store.paths():
        if inside.lower().endswith(EXTENSIONS):
            yield inside if place == os.curdir else os.path.join(place, inside)  # noqa: PTH118 -- a text, see above
        else:
            others[PurePath(inside).suffix.lower() or "without suffix"] += 1


def _counted(others: Counter[str]) -> str:
    """How many files of each suffix."""
    return ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(SHOWN)) or "none"
