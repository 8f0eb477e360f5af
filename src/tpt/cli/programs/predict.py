"""Predicts the classes of your own pictures, without labels: `tpt-predict PATH... --classes "cat,hot air balloon"`.

The model adapts to each picture alone. The table has the answers and probabilities before and after adaptation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tpt.cli.errors import told
from tpt.cli.options import choose, own_folders, own_options
from tpt.cli.programs import opening
from tpt.cli.programs.arguments import add_model, new_parser, whole
from tpt.cli.quoting import for_hydra
from tpt.engine import stop
from tpt.engine.printing import say
from tpt.errors import Count, Natural, Seed, UnansweredError, UserError
from tpt.files import content_digest, is_file, with_suffix, write_json, write_text, writing

if TYPE_CHECKING:
    import pyarrow as pa
    from omegaconf import DictConfig

RUN = ".run"  # suffix of the run's folder, added to the table's name
WRITTEN = "table.json"  # in that folder, digests of our tables, so that no other file is overwritten
LIST = "pictures.txt"  # in that folder, the list of paths if there are many
OURS = ("run.json", "start.json", WRITTEN, LIST)  # every run's folder has one of these
LONG = 20_000  # longest list of paths, in characters, for the command line of a run's processes
SHOWN = 20  # number of answers to print
INTERPOLATION = "${"  # cannot be quoted, because Hydra resolves texts twice
# What a run's settings are called on this command line.
WORDS = (
    (r"\bdata\.class_names\b(?!\.)", "--classes"),
    (r"\bdata\.root\b", "the paths"),
    (r"\bnum_views=(\d+)", r"--views \1"),
    (r"\bmethod=(\w+)", r"--method \1"),
    (r"(?<!\S)((?:data|method|context|backbone|views|cache|trainer)\.\w+=)", r"--set \1"),
)
EPILOG = """examples:
  tpt-predict photos holiday.zip --classes "cat,dog,hot air balloon" --out answers.csv
  tpt-predict 'photos/**/*.jpg' --classes names.txt --backbone vit_b16 --out answers.parquet
  tpt-predict cat.jpg --classes "cat,dog" --method zero_shot

The work is kept next to the table, in OUT.run. After an interruption, run the same command again to continue.
Exit codes: 0 all pictures have an answer, 3 some have none (the column `problem` says why), 1 or 2 an error."""


def _parser() -> argparse.ArgumentParser:
    """Builds the parser."""
    made = new_parser("tpt-predict", __doc__, EPILOG)
    add = made.add_argument
    add("paths", nargs="+", metavar="PATH", help="a file, folder, zip archive, pattern, or @FILE, a list of these")
    add("--classes", required=True, metavar="NAMES", help="names separated by commas, or a text file, one per line")
    add_model(made)
    add("--prompt", metavar="WORDS", help='words before the class name; default "a photo of a"')
    add("--top", type=whole(Count), default=5, metavar="K", help="most probable classes to list; default %(default)s")
    add("--out", type=Path, metavar="FILE", help="file for the table of answers: .csv, .json or .parquet")
    add("--views", type=whole(Count), metavar="N", help="views per picture; default 64, or 1 if the others are unused")
    add("--batch-size", type=whole(Count), metavar="N", help="pictures per batch; default 8")
    add("--workers", type=whole(Natural), metavar="N", help="data-loading workers; default 0")
    add("--seed", type=whole(Seed), help="seed of the views; default 0")
    add("--run", type=Path, metavar="DIR", help="folder of the run; default OUT.run, or a folder in runs/")
    add("--anew", action="store_true", help="deletes an earlier run there and starts again")
    set_help = "any setting of tpt-test, such as method.steps=2; may be repeated"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    add("--quiet", "-q", action="store_true", help="prints only answers, warnings and errors")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program; a short message and exit code 1 on a user's mistake."""
    if arguments is None and stop.PARENT in os.environ and "LOCAL_RANK" in os.environ:  # a further process of the run
        opening.test_time()
        return
    args = _parser().parse_args(arguments)
    with stop.leaving(), told(WORDS), own_options(args.config_dir):
        folder = run_folder(args)
        from tpt.cli.command_line import CommandLine, first_job  # noqa: PLC0415 -- Hydra takes time to load

        command = command_of(args, folder)
        # Before PyTorch is loaded, which says more about the method.
        first_job("test_time", CommandLine.read("test_time", command))
        if not args.quiet:
            say(opening.LINE, error=True)
        from tpt.cli.compose import picture_method  # noqa: PLC0415 -- these load PyTorch
        from tpt.cli.program import Program  # noqa: PLC0415
        from tpt.cli.programs import test_time  # noqa: PLC0415

        made = picture_method(args.method, "tpt-predict")
        if args.views is None and not made.selects:
            command.insert(0, "views.num_views=1")  # `--set` may replace it
        line = CommandLine.read("test_time", command)
    Program("test_time", partial(_run, args, folder, test_time.run), WORDS).main(line)


def run_folder(args: argparse.Namespace) -> Path:
    """The run's folder; a UserError if it, the table or a name on the command line is wrong."""
    from tpt.results.predictions import SUFFIXES  # noqa: PLC0415 -- pyarrow takes time to load

    out: Path | None = args.out and with_suffix(args.out, SUFFIXES)
    own = Path("runs", f"{datetime.now():%Y-%m-%d_%H-%M-%S}_predict") if out is None else out.with_name(out.name + RUN)
    folder: Path = args.run or own
    for text in (args.classes, args.pretrained, args.prompt, str(folder.absolute())):
        if INTERPOLATION in (text or ""):
            raise UserError(f"Expected names without {INTERPOLATION!r}, got {text!r}; write class names in a file.")
    if folder.exists() and not any((folder / name).is_file() for name in OURS) and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is not the folder of an earlier run. Choose another --run.")
    if out is not None and os.path.lexists(out) and not _is_own(out, folder):
        raise UserError(f"{out} exists and was not written by an earlier run. Move it, or choose another --out.")
    for path in folder.iterdir() if args.anew and folder.exists() else ():
        if path.name != WRITTEN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder.absolute()


def _is_own(out: Path, folder: Path) -> bool:
    """Whether a file is byte for byte a table that the run in `folder` wrote."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return content_digest(out.read_bytes()) in json.loads((folder / WRITTEN).read_bytes())["digests"]
    return False


def command_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """The Hydra command line of the run; a UserError if the classes, pictures or an option cannot be found."""
    from tpt.data.pictures import class_list, find_pictures  # noqa: PLC0415 -- takes time to load

    groups = choose((("method", args.method), ("backbone", args.backbone), ("data", "pictures"), ("logger", "none")))
    names = class_list(args.classes)
    find_pictures(args.paths)
    kind, _, number = (args.device or "auto").partition(":")  # `cuda:1` selects a GPU
    given = {
        "data.class_names": args.classes if is_file(args.classes) else names,
        "data.root": _places(args.paths, folder),
        "callbacks.records.top": args.top,
        "context.ctx_init": args.prompt,
        "backbone.pretrained": args.pretrained,
        "views.num_views": args.views,
        "data.batch_size": args.batch_size,
        "data.num_workers": args.workers,
        "trainer.accelerator": "gpu" if kind == "cuda" else kind,
        "trainer.devices": [int(number)] if number else None,
        "seed": args.seed,
        "resume": "auto",
        "hydra.run.dir": str(folder),
        "hydra.job_logging.handlers.console.stream": "ext://sys.stderr",
        "+hydra.job_logging.handlers.console.level": "WARNING" if args.quiet else None,
    }
    own = [f"--config-dir={folder}" for folder in own_folders()]
    settings = [f"{key}={for_hydra(value)}" for key, value in given.items() if value is not None]
    return [*own, *groups, *settings, *args.set]


def _places(paths: list[str], folder: Path) -> list[str]:
    """The paths, or a file that lists them if they are many or Hydra would misread one."""
    if sum(map(len, paths)) <= LONG and not any(INTERPOLATION in path for path in paths):
        return paths
    write_text("\n".join(paths) + "\n", folder / LIST)
    return [f"@{folder / LIST}"]


def _run(args: argparse.Namespace, folder: Path, test: Callable[..., object], cfg: DictConfig) -> None:
    """Runs the prediction, writes its table, and without `--out` prints the first answers."""
    import pyarrow.compute as pc  # noqa: PLC0415 -- these take time to load

    from tpt.results.predictions import predictions_of  # noqa: PLC0415
    from tpt.results.runs import read_manifest  # noqa: PLC0415

    with (
        Path(os.devnull).open("w") if args.quiet else nullcontext(sys.stderr) as aside,
        redirect_stdout(aside),
        suppress(UnansweredError),  # reported below
    ):
        try:
            test(cfg, another="start again with --anew, or choose another --out", follow=True)
        except stop.StopRun as end:
            when = "before the first picture"
            with stop.holding(), suppress(UserError, OSError):
                total = sum(about["to_test"] for about in read_manifest(folder)["datasets"].values())
                when = f"after {len(_write(args, folder)[0])} of {total}"
            end.said = f"Stopped {when}. Run the same command again to continue."
            raise
    records, out = _write(args, folder)
    if args.out is None:
        rest = len(records) - SHOWN
        say("\n".join([*map(str, predictions_of(records[:SHOWN])), *([f"and {rest} more"] if rest > 0 else [])]))
    if not args.quiet:
        say(f"The answers are in {out}", error=True)
    if failed := records.filter(pc.is_valid(records["problem"])):
        some = f"{len(failed)} of {len(records)}, such as {failed['path'][0]} ({failed['problem'][0]})"
        raise UnansweredError(f"Pictures without an answer: {some}; see the column `problem`.")


def _write(args: argparse.Namespace, folder: Path) -> tuple[pa.Table, Path]:
    """Writes the table of the run's records atomically, and its digest to the run's folder, see `_is_own`."""
    from tpt.results.predictions import predictions_of, write_predictions  # noqa: PLC0415 -- these take time to load
    from tpt.results.runs import read_records  # noqa: PLC0415

    records, out = read_records(folder), args.out
    made = folder / f"predictions{'.csv' if out is None else out.suffix}"
    write_predictions(predictions_of(records), made, args.top)
    if out is None:
        return records, made
    before = content_digest(out.read_bytes()) if out.is_file() else None
    write_json({"digests": [before, content_digest(made.read_bytes())]}, folder / WRITTEN)
    with writing(out) as partial_file:
        shutil.copyfile(made, partial_file)
    made.unlink()
    return records, out
