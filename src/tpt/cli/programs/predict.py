"""Predicts the classes of your own pictures, without labels: `tpt-predict PATH... --classes "cat,hot air balloon"`.

The model adapts to each picture alone. The table has the answers and probabilities before and after adaptation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tpt.cli.errors import told
from tpt.cli.options import choose, own_folders, own_options, refuse_stream
from tpt.cli.programs import opening
from tpt.cli.programs.arguments import add_model, chosen_device, new_parser
from tpt.cli.quoting import for_hydra
from tpt.engine import stop
from tpt.engine.printing import say
from tpt.errors import Count, Natural, Seed, UnansweredError, UserError, refuse
from tpt.files import content_digest, is_file, with_suffix, write_json, write_text, writing

if TYPE_CHECKING:
    import pyarrow as pa

    from tpt.cli.command_line import CommandLine

RUN = ".run"  # suffix of the run's folder, added to the table's name
TABLE = "predictions"  # in that folder, the table, before it is copied to --out
WRITTEN = "table.json"  # in that folder, digests of our tables, so that no other file is overwritten
LIST = "pictures.txt"  # in that folder, the list of paths if there are many
OURS = ("run.json", "start.json", WRITTEN, LIST)  # every run's folder has one of these
LONG = 20_000  # longest list of paths, in characters, for the command line of a run's processes
SHOWN = 20  # number of answers to print
INTERPOLATION = "${"  # cannot be quoted, because Hydra resolves texts twice
NUMBERS = {"top": Count, "views": Count, "batch_size": Count, "workers": Natural, "seed": Seed}
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
Exit codes: 0 all pictures have an answer, 3 some have none (the column `problem` says why), 1 an error."""


def parser() -> argparse.ArgumentParser:
    """Builds the parser."""
    made = new_parser("tpt-predict", __doc__, EPILOG)
    add = made.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a file, folder, zip archive, pattern, or @FILE, a list with one of these per line",
    )
    add(
        "--classes",
        required=True,
        metavar="NAMES",
        help="class names separated by commas, or a text file with one name per line",
    )
    add_model(made)
    add("--prompt", metavar="WORDS", help='words before the class name; default "a photo of a"')
    add("--top", type=int, default=5, metavar="K", help="most probable classes per picture; default %(default)s")
    add("--out", type=Path, metavar="FILE", help="file for the table of answers: .csv, .json or .parquet")
    add("--views", type=int, metavar="N", help="views per picture; default 64, or 1 if the method uses only one")
    add("--batch-size", type=int, metavar="N", help="pictures per batch; default 8")
    add("--workers", type=int, metavar="N", help="data-loading workers; default 0")
    add("--seed", type=int, help="seed of the views; default 0")
    add("--run", type=Path, metavar="DIR", help="folder of the run; default OUT.run, or a folder in runs/")
    add("--anew", action="store_true", help="deletes an earlier run there and starts again")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of tpt-test, such as method.steps=2; may be repeated",
    )
    add("--quiet", "-q", action="store_true", help="prints only answers, warnings and errors")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program; a short message and exit code 1 on a user's mistake."""
    opening.forget_stray_ranks()
    if arguments is None and stop.PARENT in os.environ and "LOCAL_RANK" in os.environ:  # a further process of the run
        opening.test_time()
        return
    args = parser().parse_args(arguments)
    with stop.leaving(), told(WORDS):
        folder = prepare(args)
        from tpt.cli.command_line import CommandLine, first_job  # noqa: PLC0415 -- Hydra takes time to load

        with own_options(args.config_dir):
            line = CommandLine.read("test_time", settings_of(args, folder))
            first_job("test_time", line)  # before PyTorch is loaded, which says more about the method
    if not args.quiet:
        say(opening.LINE, error=True)
    _run(args, folder, line)


def prepare(args: argparse.Namespace) -> Path:
    """The run's folder, after all checks that are possible before PyTorch is loaded.

    Raises:
        UserError: a value on the command line is wrong.
    """
    from tpt.results.predictions import SUFFIXES  # noqa: PLC0415 -- pyarrow takes time to load

    if args.out is not None and with_suffix(args.out, SUFFIXES).is_dir():
        raise UserError(f"Expected a file in --out, got the folder {args.out}; choose another name.")
    for name, hint in NUMBERS.items():
        if (value := getattr(args, name)) is not None:
            refuse(f"--{name.replace('_', '-')}", hint, value)
    folder: Path = args.run or (
        Path("runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_predict"
        if args.out is None
        else args.out.with_name(f"{args.out.name}{RUN}")
    )
    for text in (args.classes, args.pretrained, args.prompt, str(folder.absolute())):
        if INTERPOLATION in (text or ""):
            raise UserError(f"Expected names without {INTERPOLATION!r}, got {text!r}; write class names in a file.")
    if folder.exists() and not any((folder / name).is_file() for name in OURS) and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is not the folder of an earlier run. Choose another --run.")
    refuse_others_table(args.out, folder)
    for path in folder.iterdir() if args.anew and folder.exists() else ():
        if path.name != WRITTEN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder.absolute()


def refuse_others_table(out: Path | None, folder: Path) -> None:
    """Raises a UserError if `out` exists and is not byte for byte a table that the run in `folder` wrote."""
    if out is None or not os.path.lexists(out):
        return
    with suppress(OSError, ValueError, KeyError, TypeError):
        if content_digest(out.read_bytes()) in json.loads((folder / WRITTEN).read_bytes())["digests"]:
            return
    raise UserError(f"{out} exists and was not written by an earlier run. Move it, or choose another --out.")


def settings_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """The Hydra command line of the run.

    Raises:
        UserError: the classes, pictures or an option cannot be found.
    """
    from tpt.data.pictures import class_list, find_pictures  # noqa: PLC0415 -- takes time to load

    groups = choose((("method", args.method), ("backbone", args.backbone), ("data", "pictures"), ("logger", "none")))
    refuse_stream(args.method, "tpt-predict")
    names = class_list(args.classes)
    classes = for_hydra(args.classes) if is_file(args.classes) else _listed(names)
    find_pictures(args.paths)
    kind, _, number = (chosen_device(args.device) or "auto").partition(":")  # `cuda:1` selects a GPU
    given = {
        "data.class_names": classes,
        "data.root": _places(args.paths, folder),
        "callbacks.records.top": args.top,
        "context.ctx_init": None if args.prompt is None else for_hydra(args.prompt),
        "backbone.pretrained": None if args.pretrained is None else for_hydra(args.pretrained),
        "views.num_views": args.views,
        "data.batch_size": args.batch_size,
        "data.num_workers": args.workers,
        "trainer.accelerator": "gpu" if kind == "cuda" else kind,
        "trainer.devices": f"[{number}]" if number else None,
        "seed": args.seed,
        "resume": "auto",
        "hydra.run.dir": for_hydra(str(folder)),
        "hydra.job_logging.handlers.console.stream": "ext://sys.stderr",
        "+hydra.job_logging.handlers.console.level": "WARNING" if args.quiet else None,
    }
    own = [f"--config-dir={folder}" for folder in own_folders()]
    return [*own, *groups, *(f"{key}={value}" for key, value in given.items() if value is not None), *args.set]


def _listed(texts: Sequence[str]) -> str:
    return f"[{','.join(map(for_hydra, texts))}]"


def _places(paths: Sequence[str], folder: Path) -> str:
    """The paths, or a file that lists them if they are many or Hydra would misread one."""
    if sum(map(len, paths)) > LONG or any(INTERPOLATION in path for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        write_text("\n".join(paths) + "\n", folder / LIST)
        paths = [f"@{folder / LIST}"]
    return _listed(paths)


def _run(args: argparse.Namespace, folder: Path, line: CommandLine) -> None:
    """Runs the prediction and writes its table."""
    with stop.leaving():
        from omegaconf import DictConfig  # noqa: PLC0415 -- takes time to load

        from tpt.cli.compose import method_class  # noqa: PLC0415 -- see above
        from tpt.cli.program import Program  # noqa: PLC0415
        from tpt.cli.programs import test_time  # noqa: PLC0415

    def run(cfg: DictConfig) -> None:
        with Path(os.devnull).open("w") if args.quiet else nullcontext(sys.stderr) as aside, redirect_stdout(aside):
            try:
                test_time.run(cfg, another="start again with --anew, or choose another --out", follow=True)
            except stop.StopRun as end:
                end.said = _stopped(args, folder)
                raise
            except UnansweredError:  # reported by `_finish`
                pass
        _finish(args, folder)

    with told(WORDS), own_options(args.config_dir):
        made = method_class(args.method)
        refuse_stream(args.method, "tpt-predict", made.kind)
        if args.views is None and not made.selects:
            line = line.adding("views.num_views=1")
    Program("test_time", run, WORDS).main(line)


def _stopped(args: argparse.Namespace, folder: Path) -> str:
    """Writes the table of the finished pictures; returns a message with their number."""
    from tpt.results.runs import read_manifest, read_records  # noqa: PLC0415 -- takes time to load

    done = total = 0
    with stop.holding(), suppress(UserError, OSError):
        total = sum(about["to_test"] for about in read_manifest(folder)["datasets"].values())
        records = read_records(folder)
        done = len(records)
        _write(records, args, folder)
    how_much = f"after {done} of {total}" if total else "before the first picture"
    return f"Stopped {how_much}. Run the same command again to continue."


def _finish(args: argparse.Namespace, folder: Path) -> None:
    """Writes the table, and without `--out` prints the first answers.

    Raises:
        UnansweredError: some pictures have no answer.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 -- these take time to load

    from tpt.results.predictions import predictions_of  # noqa: PLC0415
    from tpt.results.runs import read_records  # noqa: PLC0415

    records = read_records(folder)
    out = _write(records, args, folder)
    if args.out is None:
        rest = len(records) - SHOWN
        first = map(str, predictions_of(records.slice(0, SHOWN)))
        say("\n".join([*first, *([f"and {rest} more"] if rest > 0 else [])]))
    if not args.quiet:
        say(f"The answers are in {out}", error=True)
    failed = records.filter(pc.is_valid(records["problem"]))
    for one in failed.slice(0, 1).to_pylist():
        some = f"{len(failed)} of {len(records)} pictures {'has' if len(failed) == 1 else 'have'} no answer"
        example = f"{'' if len(failed) == 1 else 'for example '}{one['path']} ({one['problem']})"
        raise UnansweredError(f"{some}: {example}; see the column `problem`.")


def _write(records: pa.Table, args: argparse.Namespace, folder: Path) -> Path:
    """Writes the table atomically, and its digest to the run's folder, see `refuse_others_table`."""
    from tpt.results.predictions import predictions_of, write_predictions  # noqa: PLC0415 -- takes time to load

    out: Path | None = args.out
    made = folder / f"{TABLE}{'.csv' if out is None else out.suffix}"
    write_predictions(predictions_of(records), made, args.top)
    if out is None:
        return made
    before = content_digest(out.read_bytes()) if out.is_file() else None
    write_json({"digests": [before, content_digest(made.read_bytes())]}, folder / WRITTEN)
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as partial:
        shutil.copyfile(made, partial)
    made.unlink()
    return out
