"""tpt-data check shows which datasets are installed and complete; tpt-data fetch KEY downloads one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rich.table import Table

from tpt.cli.errors import NO_SKIPPING, in_words_of, told
from tpt.cli.programs.arguments import new_parser, whole
from tpt.data import catalog
from tpt.data.dataset import ImageDataset
from tpt.data.fetch import FREE, by_hand, fetch
from tpt.engine.printing import printable, say, show_table
from tpt.errors import BadImageError, DataError, Natural

# What a run's settings are called on this command line.
WORDS = ((r"\bdata\.root\b", "--root"), NO_SKIPPING)
SAMPLE = 8  # images to open per dataset


@told(WORDS)
def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if all requested datasets are usable and 1 if not."""
    parser = new_parser("tpt-data", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="count images and classes against the paper's test sets")
    get = commands.add_parser("fetch", help=f"download and unpack: {', '.join(FREE)}")
    check.add_argument("keys", nargs="*", metavar="KEY", help="datasets; default the paper's and all installed ones")
    opened = "open N images per dataset; default %(default)s, 0 for none"
    check.add_argument("--open", type=whole(Natural), default=SAMPLE, metavar="N", help=opened)
    get.add_argument("keys", nargs="+", metavar="KEY", choices=tuple(catalog.CATALOG), help="which datasets")
    where, said = os.environ.get("TPT_DATA"), "folder of all datasets; default $TPT_DATA"
    for command in (check, get):
        command.add_argument("--root", default=where, required=not where, help=said)
    args = parser.parse_args(arguments)
    logging.getLogger("tpt.data.catalog").addHandler(logging.NullHandler())  # the table shows what the log would
    root = Path(args.root).expanduser()
    if args.command == "fetch":
        fetched = [_fetch(key, root) for key in args.keys]
        return 0 if print_check(args.keys, root) == len(args.keys) and all(fetched) else 1
    if not root.is_dir():
        raise DataError(f"{root}, the folder of all datasets, does not exist. Set --root.")
    known = {**catalog.CATALOG, **catalog.CORRUPTED}
    others = [key for key in known if key not in catalog.PAPER and catalog.find_all(known[key], root)]
    asked = args.keys or [*catalog.PAPER, *others]
    keys = [one for key in asked for one in catalog.keys_of(key, severity=catalog.SEVERITIES)]
    usable = print_check(keys, root, args.open)
    return 0 if usable and (usable == len(keys) or not args.keys) else 1


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
        entry = catalog.entry_of(key)
        try:
            dataset = catalog.read_entry(key, root)
        except DataError as error:
            can = f" Or: tpt-data fetch {key}" if key in FREE and not catalog.find_all(entry, root) else ""
            said = printable(f"{in_words_of(error, WORDS)}{can}")
            table.add_row(key, "-", f"/ {entry.images}", f"/ {entry.classes}", "", said)
            continue
        images, classes, papers = len(dataset), len(dataset.class_names), entry.is_papers(dataset.split)
        state = "ok" if (images, classes, papers) == (entry.images, entry.classes, True) else "differs"
        split, where = dataset.split or "its folders", str(dataset.store.root)
        if bad := _unreadable(dataset, min(sample, images)):
            state = "unreadable"
            where = f"{len(bad)} of {min(sample, images)} images opened cannot be read: {in_words_of(bad[0], WORDS)}"
        usable += not bad
        counts = f"{images} / {entry.images}", f"{classes} / {entry.classes}"
        table.add_row(key, state, *counts, split if papers else f"own: {split}", printable(where))
    show_table(table)
    return usable


def _unreadable(dataset: ImageDataset, count: int) -> list[BadImageError]:
    """The errors of `count` of a dataset's images, evenly spread."""
    found = []
    for number in range(count):
        try:
            dataset.image(number * len(dataset) // count)
        except BadImageError as error:
            found.append(error)
    return found
