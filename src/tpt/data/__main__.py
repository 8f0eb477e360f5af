"""python -m tpt.data check --root DATA: which of the paper's datasets are there, and are they whole?"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tpt.data.catalog import CATALOG, read_entry
from tpt.errors import DataError


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each dataset; 1 where one that was named, or all, cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m tpt.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="count images and classes against the paper's test sets")
    check.add_argument("keys", nargs="*", metavar="KEY", help="which datasets; all if none is named")
    check.add_argument("--root", default=os.environ.get("TPT_DATA"), help="folder of all datasets; default $TPT_DATA")
    args = parser.parse_args(arguments)
    unknown = [key for key in args.keys if key not in CATALOG]
    if args.root is None or unknown:
        wanted = (
            f"datasets out of {', '.join(CATALOG)}, got {unknown[0]}" if unknown else "--root or TPT_DATA, got none"
        )
        print(f"Error: Expected {wanted}; see docs/datasets.md.", file=sys.stderr)
        return 2
    usable = print_check(args.keys or list(CATALOG), Path(args.root))
    return 0 if usable and (usable == len(args.keys) or not args.keys) else 1


def print_check(keys: list[str], root: Path) -> int:
    """Prints the table; gives the number of datasets that can be used."""
    logging.getLogger("tpt.data.catalog").setLevel(logging.ERROR)  # the table says what the log would
    table = Table("dataset", "", "images", "classes", show_edge=False, pad_edge=False)
    table.add_column("where, or what is wrong", overflow="fold")
    usable = 0
    for key in keys:
        entry = CATALOG[key]
        try:
            dataset = read_entry(key, root)
        except DataError as error:
            table.add_row(key, "-", f"/ {entry.images}", f"/ {entry.classes}", str(error))
            continue
        usable += 1
        whole = len(dataset) == entry.images and len(dataset.class_names) == entry.classes
        images, classes = f"{len(dataset)} / {entry.images}", f"{len(dataset.class_names)} / {entry.classes}"
        table.add_row(key, "ok" if whole else "differs", images, classes, str(dataset.store.root))
    Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160).print(table)
    return usable


if __name__ == "__main__":
    sys.exit(main())
