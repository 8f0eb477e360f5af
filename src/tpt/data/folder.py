"""A folder per class: the reader of the bundled data and of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpt.data.dataset import ImageDataset, Sample, refuse_duplicates
from tpt.data.images import EXTENSIONS
from tpt.data.store import FileStore
from tpt.errors import DataError

_NOT_CLASSES = {"train", "training", "val", "valid", "validation", "test", "testing", "images", "annotations", "labels"}


def image_folder(
    root: str | Path,
    name: str | None = None,
    class_names: str | Path | Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Images in one folder per class, `root/<class>/**/<image>`.

    Args:
        root: that folder, or a zip archive of it, which is read without unpacking.
        name: key in logs and results; the last part of `root` if None.
        class_names: None takes the folders' names.  A text file (or list) gives one name a line, either for
            each folder in sorted order, or as `folder<TAB>name` in any order.
        limit: takes so many images, drawn with `seed`; None takes all.
        seed: of that draw.

    Raises:
        DataError: no such folder, no classes, an empty class, names that do not fit or are not distinct.
    """
    store = FileStore(root)
    folders = store.folders()
    images = [p for p in store.paths() if "/" in p and p.lower().endswith(EXTENSIONS)]
    if not folders:
        loose = sum(p.lower().endswith(EXTENSIONS) for p in store.paths())
        instead = f"{loose} images without a folder" if loose else "no folders"
        raise DataError(f"Expected one folder per class in {store.root}, found {instead}; see docs/own_data.md.")
    if {folder.lower() for folder in folders} <= _NOT_CLASSES:
        raise DataError(
            f"Expected one folder per class in {store.root}, found {', '.join(folders)}, which hold splits rather than "
            f"classes; point it at one of them, such as {store.root / folders[-1]}."
        )
    inner = sorted({path.split("/")[1] for path in images if path.count("/") > 1})
    if len(folders) == 1 and len(inner) > 1:
        raise DataError(
            f"Expected one folder per class in {store.root}, found one folder {folders[0]!r} that holds "
            f"{len(inner)} folders, such as {inner[0]!r}; "
            f"{'zip what is inside it' if store.is_archive else f'point data.root at {store.root / folders[0]}'}."
        )
    by_folder: dict[str, list[str]] = {folder: [] for folder in folders}
    for path in images:
        by_folder[path.split("/")[0]].append(path)
    empty = [folder for folder, found in by_folder.items() if not found]
    if empty:
        raise DataError(
            f"Expected images in every class folder of {store.root}, but {', '.join(map(repr, empty[:5]))} "
            f"{'has' if len(empty) == 1 else 'have'} none ({', '.join(EXTENSIONS)}); add images or remove the folder."
        )
    names = _names(folders, class_names, store.root)
    samples = [Sample(path, label) for label, folder in enumerate(folders) for path in by_folder[folder]]
    dataset = ImageDataset(name or store.root.absolute().stem, names, samples, store)
    return dataset.subset(limit, seed)


def _names(folders: list[str], class_names: str | Path | Sequence[str] | None, root: Path) -> list[str]:
    if class_names is None:
        names = [folder.replace("_", " ") for folder in folders]
        refuse_duplicates(names, f"among the folders of {root}")
        return names
    where = f"in {class_names}" if isinstance(class_names, str | Path) else "in data.class_names"
    lines = read_names(class_names)
    if any("\t" in line for line in lines):
        given = dict(line.split("\t", 1) for line in lines if "\t" in line)
        missing = [folder for folder in folders if folder not in given]
        if missing:
            raise DataError(
                f"Expected a name for every folder of {root} {where}, but {', '.join(map(repr, missing[:5]))} "
                f"{'has' if len(missing) == 1 else 'have'} none; add `folder<TAB>name` lines."
            )
        lines = [given[folder].strip() for folder in folders]
    if len(lines) != len(folders):
        raise DataError(
            f"Expected {len(folders)} class names {where}, one for each folder of {root} in sorted order, got "
            f"{len(lines)}; add what is missing, or write `folder<TAB>name` lines."
        )
    refuse_duplicates(lines, where)
    return lines


def read_names(class_names: str | Path | Sequence[str]) -> list[str]:
    """A list of names, or the lines of a text file that are not empty."""
    if not isinstance(class_names, str | Path):
        return [str(name) for name in class_names]
    path = Path(class_names).expanduser()
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"Expected a text file of class names at {path}, but {error.strerror}; check data.class_names."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 text in {path}, but byte {error.start} is not; save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
