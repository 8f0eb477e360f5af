"""Prints tables and draws figures of runs: `tpt-report RUN [RUN ...]`.

A RUN is the directory of a run of test_time.py, or of a sweep: finished, running or interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from tpt.cli.errors import told
from tpt.cli.programs.arguments import new_parser
from tpt.engine.printing import printable, say
from tpt.errors import refuse
from tpt.files import write_text
from tpt.results.tables.brief import SORTS, brief_grids
from tpt.results.tables.classes import MOST, class_grids
from tpt.results.tables.formats import FORMATS, SUFFIXES, WIDTH, format_of, render, render_grids, terminal_width
from tpt.results.tables.grid import Grid, Legend
from tpt.results.tables.pivots import base_to_new_grids, transfer_grids, transfer_matrices
from tpt.results.tables.published import to_bibtex
from tpt.results.tables.report import make_report
from tpt.results.tables.results import SOURCES
from tpt.results.tables.rows import coverage_remark, rows_of, versions_remark
from tpt.results.tables.runs import Run, load_runs
from tpt.results.tables.trust import trust_grids

MOST_ROWS = 3  # most runs that get figures of their own by default


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("tpt-report", __doc__)
    add = made.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="directories of runs of test_time.py")
    add("--format", help=f"{', '.join(FORMATS)}; default by --out's suffix, else terminal")
    add("--out", type=Path, metavar="FILE", help=f"file to write the report to ({', '.join(SUFFIXES)})")
    add("--against", metavar="ROW", help="a run's directory or a row's name, with which the other rows are compared")
    add("--brief", action="store_true", help="one line per row, best first; for long sweeps")
    add("--sort", choices=SORTS, help="with --brief: measure to sort rows by; default accuracy")
    add("--per-class", action="store_true", help="accuracy per class; confusions that adaptation added and removed")
    add("--base-to-new", action="store_true", help="harmonic means of runs with data.classes=base and data.classes=new")
    add("--trust", action="store_true", help="likelihood, calibration, risk, detection of images outside the classes")
    add("--transfer", action="store_true", help="source x target matrix of learned contexts")
    learned_on = "dataset that a run's context was learned on, if its training.json does not say"
    add("--learned-on", action="append", default=[], type=_pair, metavar="RUN=DATASET", help=learned_on)
    add("--figures", type=Path, metavar="DIR", help="also draws figures into this folder")
    add("--kinds", default="", metavar="NAMES", help="with --figures: kinds to draw, such as methods,reliability")
    add("--suffixes", default="png,svg", metavar="NAMES", help="with --figures: file formats, from png,svg,pdf")
    add("--site", type=Path, metavar="DIR", help="also writes a static page of results into this folder")
    add("--bibtex", action="store_true", help="BibTeX of the papers of the methods, backbones and datasets")
    left_out = "datasets to leave out of the OOD average"
    add("--source", nargs="*", default=list(SOURCES), metavar="DATASET", help=left_out)
    return made


def _pair(text: str) -> tuple[str, str]:
    run, _, name = text.rpartition("=")
    if not run or not name:
        raise argparse.ArgumentTypeError(f"expected RUN=DATASET, such as runs/coop=imagenet, got {text!r}")
    return run, name


@told()
def main(arguments: Sequence[str] | None = None) -> None:
    """Prints or writes the report; a short message and exit code 1 on a user's mistake."""
    args = _parser().parse_args(arguments)
    format = "terminal" if args.bibtex else format_of(args.format, args.out)
    runs, learned_on = load_runs(args.runs), dict(args.learned_on)
    against = load_runs([args.against]) if args.against is not None and Path(args.against).exists() else args.against
    made = cache(lambda: make_report(runs, against, args.source))
    if args.bibtex:
        text = to_bibtex(runs)
    elif (other := _other_tables(args, runs, learned_on, format)) is not None:
        grids, legend = other
        remarks = (*legend.remarks, *coverage_remark(runs, labels=len(runs) > 1), *versions_remark(rows_of(runs)))
        text = render_grids(grids, replace(legend, remarks=remarks), format, terminal_width() or WIDTH)
    elif args.brief or args.sort is not None:
        text = render_grids(*brief_grids(made(), args.sort or "accuracy"), format, terminal_width() or WIDTH)
    else:
        text = render(made(), format, terminal_width() or WIDTH)
    if args.out is None:
        print(printable(text) if format == "terminal" else text, end="")
    else:
        write_text(text, args.out)
    if args.figures is not None:
        _draw_figures(args, runs, learned_on)
    if args.site is not None:
        from tpt.results.figures.site import write_site  # noqa: PLC0415 -- matplotlib takes time to load

        pages = list(write_site(made(), runs, args.site, learned_on))
        say(f"{len(pages)} pages are in {args.site}", error=True)


def _other_tables(
    args: argparse.Namespace, runs: Sequence[Run], learned_on: Mapping[str, str], format: str
) -> tuple[list[Grid], Legend] | None:
    """The tables of an option that replaces the usual ones; None without such an option."""
    if args.per_class:
        return class_grids(runs, None if args.out is not None or format == "csv" else MOST)
    if args.base_to_new:
        return base_to_new_grids(runs)
    if args.transfer:
        return transfer_grids(transfer_matrices(runs, learned_on))
    return trust_grids(runs) if args.trust else None


def _draw_figures(args: argparse.Namespace, runs: Sequence[Run], learned_on: Mapping[str, str]) -> None:
    from tpt.results.figures import BY_RUN, KINDS, draw_all  # noqa: PLC0415 -- matplotlib takes time to load

    kinds = _chosen(args.kinds, KINDS, "--kinds") or KINDS
    suffixes = _chosen(args.suffixes, ("png", "svg", "pdf"), "--suffixes")
    if not args.kinds and sum(row.first.adapts for row in rows_of(runs)) > MOST_ROWS:
        kinds = [kind for kind in KINDS if kind not in BY_RUN]
        say(f"Figures per run are left out; --kinds {','.join(BY_RUN)} draws them.", error=True)
    files = list(draw_all(runs, args.figures, learned_on, kinds, suffixes))
    say(f"{len(files)} files are in {args.figures}", error=True)


def _chosen(text: str, known: Sequence[str], option: str) -> list[str]:
    """The names in a comma-separated text; raises a UserError for an unknown one."""
    return [refuse(option, Literal[tuple(known)], name.strip()) for name in text.split(",") if name.strip()]
