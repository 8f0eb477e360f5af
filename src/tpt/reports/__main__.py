"""`python -m tpt.reports RUN [RUN ...]`: runs side by side, in the shape of the paper's Table 1."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from tpt.reports.results import SOURCES
from tpt.reports.table import comparison_table


def load(path: Path) -> list[dict[str, Any]]:
    """The results of a run's directory, or of every run below a sweep's directory.

    Raises:
        ValueError: there are none, or a file is damaged.
    """
    files = [path] if path.is_file() else sorted(path.rglob("results.json"))
    if not files:
        raise ValueError(f"Expected the directory of a finished run at {path}, found no results.json; check the path.")
    found = []
    for file in files:
        try:
            found.append(json.loads(file.read_text("utf-8")))
        except json.JSONDecodeError as error:
            raise ValueError(f"Expected JSON in {file}, but line {error.lineno} is not; run that run again.") from error
    return found


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tpt.reports", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="directories that test_time.py made")
    parser.add_argument("--source", nargs="*", default=list(SOURCES), help="datasets left out of the shifted average")
    args = parser.parse_args(arguments)
    try:
        runs = [run for path in args.runs for run in load(path)]
    except ValueError as error:
        sys.exit(f"Error: {error}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(comparison_table(runs, args.source))
    if any(d["images"] != d["size"] for run in runs for d in run["datasets"].values()):
        console.print("* on part of the images, see results.json", style="dim")


if __name__ == "__main__":
    main()
