"""tpt-cache show lists the feature cache, clear deletes its entries, export writes features into one file."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.table import Table

from tpt.cli.errors import told
from tpt.cli.programs.arguments import new_parser
from tpt.data.cache.shard import entries
from tpt.data.cache.store import ABOUT, clear, shards
from tpt.engine.printing import printable, say, show_table
from tpt.files import at_home, dotted_values, read_bytes

DEFAULT = "~/.cache/tpt/features"  # as in conf/cache/on.yaml
MAX_ABOUT_BYTES = 2**20


@told()
def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 with a short message on a user's mistake."""
    parser = new_parser("tpt-cache", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("show", "list what is in the cache"), ("clear", "delete its entries and nothing else")):
        command = commands.add_parser(name, help=what)
        default = os.environ.get("TPT_CACHE") or DEFAULT
        command.add_argument("folder", nargs="?", default=default, help=f"default $TPT_CACHE, else {DEFAULT}")
    command = commands.add_parser("export", help="write the view features of a run or a dataset into one file")
    command.add_argument("source", metavar="RUN|DATASET", help="directory of a run, or an option of conf/data")
    command.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="further settings of test_time.py")
    command.add_argument("--to", type=Path, required=True, metavar="FILE", help="file to write, .safetensors or .npz")
    args = parser.parse_args(arguments)
    if args.command == "export":
        from tpt.cli.programs.export import export  # noqa: PLC0415 -- loads torch

        say(f"features of {export(args.source, args.to, args.settings):,} images in {args.to}")
    elif args.command == "show":
        print_cache(at_home(args.folder))
    else:
        folder = at_home(args.folder)
        say(f"{clear(folder) / 1e6:,.1f} MB deleted in {folder}")
    return 0


def print_cache(folder: Path) -> None:
    """Prints the parts of a cache, most recently used first."""
    files = shards(folder)
    spaces: dict[Path, list[Path]] = {}
    for path in sorted(files, key=lambda path: -files[path].st_mtime):
        spaces.setdefault(path.parent, []).append(path)
    table = Table("backbone", "precision", "views", "device", show_edge=False, pad_edge=False)
    for name in ("images", "MB", "last used"):
        table.add_column(name, justify="right")
    for space, parts in spaces.items():
        images = [entry for path in parts for entry in entries(path)]
        about: dict[str, Any] = {}
        with suppress(OSError, ValueError, RecursionError):  # it is only for display
            about = dict(dotted_values(json.loads(read_bytes(space / ABOUT, MAX_ABOUT_BYTES))))
        kind = "AugMix" if any(value for key, value in about.items() if key.startswith("views.augmix")) else "crops"
        row = (
            about.get("backbone"),
            about.get("encoder.backbone_precision"),
            f"{max((entry.views for entry in images), default=0)}, {kind}, seed {about.get('views.seed')}",
            about.get("encoder.device"),
            f"{len({entry.key for entry in images}):,}",
            f"{sum(files[path].st_size for path in parts) / 1e6:,.1f}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(files[parts[0]].st_mtime)),
        )
        table.add_row(*map(printable, row))
    show_table(table)
    say(f"{sum(about.st_size for about in files.values()) / 1e6:,.1f} MB in {folder}")
