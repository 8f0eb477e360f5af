"""tpt-data check shows which datasets are installed and complete; tpt-data fetch KEY downloads one."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tpt.cli.errors import NO_SKIPPING, in_words_of, told
from tpt.cli.programs.arguments import new_parser
from tpt.data.catalog import (
    CATALOG,
    CORRUPTED,
    DOMAINS,
    KEYS,
    PAPER,
    SEVERITIES,
    entry_of,
    find_all,
    keys_of,
    read_entry,
)
from tpt.data.dataset import ImageDataset
from tpt.data.fetch import FREE, by_hand, fetch
from tpt.engine.printing import printable, say
from tpt.errors import BadImageError, DataError, Natural, refuse

# What a run's settings are called on this command line.
WORDS = ((r"\bdata\.root\b", "--root"), NO_SKIPPING)
SAMPLE = 8  # images to open per dataset


@told(WORDS)
def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if all requested datasets are usable, 1 if not, 2 for a wrong command line."""
    parser = new_parser("tpt-data", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="count images and classes against the paper's test sets")
    get = commands.add_parser("fetch", help=f"download and unpack: {', '.join(FREE)}")
    check.add_argument(
        "keys", nargs="*", metavar="KEY", help="datasets; default the paper's and all others that are installed"
    )
    check.add_argument(
        "--open", type=int, default=SAMPLE, metavar="N", help=f"open N images per dataset; default {SAMPLE}, 0 for none"
    )
    get.add_argument("keys", nargs="+", metavar="KEY", help="which datasets")
    for command in (check, get):
        command.add_argument(
            "--root", default=os.environ.get("TPT_DATA"), help="folder of all datasets; default $TPT_DATA"
        )
    args = parser.parse_args(arguments)
    known = KEYS if args.command == "check" else tuple(CATALOG)
    unknown = [key for key in args.keys if key not in known]
    sample = refuse("--open", Natural, args.open) if args.command == "check" else SAMPLE
    if not args.root or unknown:
        wanted = f"datasets out of {', '.join(known)}, got {unknown[0]}" if unknown else "--root or TPT_DATA, got none"
        say(f"Error: Expected {wanted}; see docs/datasets.md.", error=True)
        return 2
    root = Path(args.root).expanduser()
    failed = sum(not _fetch(key, root) for key in args.keys) if args.command == "fetch" else 0
    if args.command == "check" and not root.is_dir():
        say(f"Error: {root}, the folder of all datasets, does not exist. Set --root.", error=True)
        return 2
    asked = args.keys or [*PAPER, *(key for key in KEYS if key not in (*PAPER, *DOMAINS) and _is_there(key, root))]
    keys = [one for key in asked for one in keys_of(key, severity=SEVERITIES if _is_there(key, root) else 5)]
    usable = print_check(keys, root, sample)
    return 0 if not failed and usable and (usable == len(keys) or not args.keys) else 1


def _is_there(key: str, root: Path) -> bool:
    """Whether a dataset has a folder, whatever is in it."""
    return bool(find_all(CORRUPTED.get(key) or entry_of(keys_of(key)[0]), root))


def _fetch(key: str, root: Path) -> bool:
    """Whether the dataset is complete now; prints the commands that get the rest."""
    done = False
    try:
        if key in FREE:
            print(f"{key}: downloading", flush=True)
        print(f"{key}: in {fetch(key, root)}", flush=True)
        done = True
    except DataError as error:
        say(f"Error: {error}", error=True)
    for command in by_hand(key, root):
        print(f"{key}: run this yourself: {printable(command)}", flush=True)
    return done


def print_check(keys: list[str], root: Path, sample: int = SAMPLE) -> int:
    """Prints the table, after opening `sample` evenly spread images per dataset; returns how many are usable."""
    table = Table("dataset", "", "images", "classes", "split", show_edge=False, pad_edge=False)
    table.add_column("location, or what is wrong", overflow="fold")
    usable = 0
    for key in keys:
        entry = entry_of(key)
        try:
            with _quiet():
                dataset = read_entry(key, root)
        except DataError as error:
            can = f" Or: tpt-data fetch {key}" if key in FREE and not find_all(entry, root) else ""
            table.add_row(
                key, "-", f"/ {entry.images}", f"/ {entry.classes}", "", printable(f"{in_words_of(error, WORDS)}{can}")
            )
            continue
        bad = _unreadable(dataset, sample)
        usable += not bad
        whole = len(dataset) == entry.images and len(dataset.class_names) == entry.classes
        papers = entry.is_papers(dataset.split)
        images, classes = f"{len(dataset)} / {entry.images}", f"{len(dataset.class_names)} / {entry.classes}"
        state = "unreadable" if bad else "ok" if whole and papers else "differs"
        split = dataset.split or "its folders"
        where = str(dataset.store.root)
        if bad:
            opened = min(sample, len(dataset))
            where = f"{len(bad)} of {opened} images opened cannot be read: {in_words_of(bad[0], WORDS)}"
        table.add_row(key, state, images, classes, split if papers else f"own: {split}", printable(where))
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    # A folder's name may look like markup, such as [old].
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)
    return usable


def _unreadable(dataset: ImageDataset, sample: int) -> list[BadImageError]:
    """The errors of a sample of a dataset's images."""
    count = min(sample, len(dataset))
    found = []
    for index in (k * len(dataset) // count for k in range(count)):
        try:
            dataset.image(index)
        except BadImageError as error:
            found.append(error)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the log, because the table shows its content."""
    logger = logging.getLogger("tpt.data.catalog")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
