"""Answers for your own pictures, without labels: `tpt-predict PATH... --classes "cat,hot air balloon"`.

Each picture is adapted to alone; the table says what the model answers before and after, and how sure it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tpt.cli.errors import in_words_of, told
from tpt.cli.options import DEVICE_HELP, choose, known_device, own_folders, own_options
from tpt.cli.places import version_option
from tpt.cli.programs import opening
from tpt.cli.programs.opening import LINE, forget_stray_ranks
from tpt.cli.quoting import for_hydra
from tpt.engine import stop
from tpt.engine.printing import say
from tpt.errors import UnansweredError, UserError
from tpt.files import content_digest, is_file, write_bytes, write_json, writing

if TYPE_CHECKING:
    from tpt.results.predictions import Prediction

RUN = ".run"  # added to the table's name, the folder where the work is kept
TABLE = "predictions.csv"  # in the run's folder, where --out names no other
WRITTEN = "table.json"  # there, what tells the table that was written from a table of the user's
OURS = ("run.json", "start.json", WRITTEN, "pictures.txt")  # one of them is in every folder of a run
LIST = "pictures.txt"  # there, where the command line would get too long
LONG = 20_000  # characters of paths; the processes of a run are started with them
SHOWN = 20  # answers that are printed
INTERPOLATION = "${"  # in a configuration a reference, wherever a text has been passed through it twice
# How settings of the run are called on this command line.
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

The work is kept beside the table, in OUT.run: where it was interrupted, the same command continues it.
Exit codes: 0 all pictures have an answer, 3 some have none (the column `problem` says why), 1 an error."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="tpt-predict", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a file, folder, zip archive, pattern, or @FILE with one of these a line",
    )
    add(
        "--classes", required=True, metavar="NAMES", help="a text file with a name a line, or names with commas between"
    )
    add("--method", default="tpt", help="an option of conf/method, such as tpt or zero_shot; default %(default)s")
    add(
        "--backbone",
        default="emoji_mini",
        help="an option of conf/backbone, such as vit_b16, or a model of open_clip with --pretrained; default "
        "%(default)s, the bundled one, which knows drawings alone",
    )
    add("--pretrained", metavar="WEIGHTS", help="a tag of open_clip or a file")
    add("--prompt", metavar="WORDS", help='before the class name; default "a photo of a"')
    add(
        "--top",
        type=int,
        default=5,
        metavar="K",
        help="likeliest classes of a picture in the table; default %(default)s",
    )
    add("--out", type=Path, metavar="FILE", help="table of the answers, .csv, .json or .parquet")
    add("--views", type=int, metavar="N", help="of each picture; default 64, or 1 where the method looks at no others")
    add("--batch-size", type=int, metavar="N", help="pictures adapted to side by side; default 8")
    add("--workers", type=int, metavar="N", help="processes that load pictures; default 0")
    add("--device", default="auto", help=DEVICE_HELP)
    add("--seed", type=int, help="of the views; default 0")
    add("--run", type=Path, metavar="DIR", help="where the work is kept; default OUT.run, else a folder below runs/")
    add("--anew", action="store_true", help="drops the work that is kept there, and begins anew")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of tpt-test, such as method.steps=2",
    )
    add("--config-dir", type=Path, metavar="DIR", help="folder of your own options, such as DIR/method/mine.yaml")
    add("--quiet", "-q", action="store_true", help="prints answers, warnings and errors alone")
    version_option(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The program; one sentence and exit code 1 on a user's mistake."""
    forget_stray_ranks()
    if arguments is None and stop.PARENT in os.environ and "LOCAL_RANK" in os.environ:  # of a run, with its settings
        opening.test_time()
        return
    args = parser().parse_args(arguments)
    with stop.leaving(), told(lambda error: in_words_of(error, WORDS)):
        folder = prepare(args)
        with own_options(args.config_dir):
            settings = settings_of(args, folder)
    if not args.quiet:
        say(LINE, error=True)
    _run(args, folder, settings)


def prepare(args: argparse.Namespace) -> Path:
    """The run's folder, after a look at all that can be wrong before anything heavy is loaded.

    Raises:
        UserError: something on the command line cannot be.
    """
    from tpt.results.predictions.prediction import check_suffix  # noqa: PLC0415 -- pyarrow takes time to load

    if args.out is not None and check_suffix(args.out).is_dir():
        raise UserError(f"Expected a file in --out, got the folder {args.out}; choose another name.")
    for name in ("top", "views", "batch_size"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UserError(f"Expected --{name.replace('_', '-')} of at least 1, got {value}.")
    folder: Path = args.run or (
        Path("runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_predict"
        if args.out is None
        else args.out.with_name(f"{args.out.name}{RUN}")
    )
    for text in (args.classes, args.pretrained, args.prompt, str(folder.absolute())):
        if INTERPOLATION in (text or ""):
            raise UserError(f"Expected names without {INTERPOLATION!r}, got {text!r}; write class names in a file.")
    if folder.exists() and not any((folder / name).is_file() for name in OURS) and any(folder.iterdir()):
        raise UserError(f"Expected the folder of an earlier run at {folder}, found something else; choose --run.")
    refuse_others_table(args.out, folder)
    if args.anew and folder.exists():
        written = (folder / WRITTEN).read_bytes() if (folder / WRITTEN).is_file() else None
        shutil.rmtree(folder)
        if written is not None:
            folder.mkdir()
            write_bytes(written, folder / WRITTEN)
    return folder.absolute()


def refuse_others_table(out: Path | None, folder: Path) -> None:
    """Raises a UserError if there is a file that is not, to the last byte, the table that the run in `folder` wrote."""
    if out is None or not os.path.lexists(out):
        return
    with suppress(OSError, ValueError, KeyError, TypeError):
        if content_digest(out.read_bytes()) in json.loads((folder / WRITTEN).read_bytes())["digests"]:
            return
    raise UserError(
        f"{out} is there already, and it is not the table that an earlier run wrote there; move it away, or choose "
        "another --out."
    )


def device_settings(text: str) -> dict[str, str]:
    """What `--device` sets: `cuda:1` is a GPU and which."""
    kind, _, number = known_device(text).partition(":")
    settings = {"trainer.accelerator": "gpu" if kind == "cuda" else kind}
    return settings | ({"trainer.devices": f"[{number}]"} if number else {})


def settings_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """The command line of the run, as Hydra reads it.

    Raises:
        UserError: there are no such classes, pictures, options.
    """
    from tpt.data.pictures import class_list, find_pictures  # noqa: PLC0415 -- takes time to load

    groups = choose((("method", args.method), ("backbone", args.backbone), ("data", "pictures"), ("logger", "none")))
    names = class_list(args.classes)
    classes = for_hydra(args.classes) if is_file(args.classes) else _listed(names)
    find_pictures(args.paths)
    given = {
        "data.class_names": classes,
        "data.root": _places(args.paths, folder),
        "callbacks.records.top": args.top,
        "context.ctx_init": None if args.prompt is None else for_hydra(args.prompt),
        "backbone.pretrained": None if args.pretrained is None else for_hydra(args.pretrained),
        "views.num_views": args.views,
        "data.batch_size": args.batch_size,
        "data.num_workers": args.workers,
        **device_settings(args.device),
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
    """The paths, or the name of a list of them where they are many, or cannot stand in a configuration."""
    if sum(map(len, paths)) <= LONG and not any(INTERPOLATION in path for path in paths):
        return _listed(paths)
    from tpt.files import write_text  # noqa: PLC0415 -- beside its use

    folder.mkdir(parents=True, exist_ok=True)
    write_text("\n".join(paths) + "\n", folder / LIST)
    return _listed([f"@{folder / LIST}"])


def _run(args: argparse.Namespace, folder: Path, settings: Sequence[str]) -> None:
    """The run, and its table."""
    with stop.leaving():
        from omegaconf import DictConfig  # noqa: PLC0415 -- takes time to load

        from tpt.cli import program as cli  # noqa: PLC0415 -- see above
        from tpt.cli.compose import looks_at_one_view, refuse_stream  # noqa: PLC0415 -- see above
        from tpt.cli.mistakes import COMPOSING, read  # noqa: PLC0415 -- see above
        from tpt.cli.programs import test_time  # noqa: PLC0415 -- see above

    def run(cfg: DictConfig) -> None:
        with Path(os.devnull).open("w") if args.quiet else nullcontext(sys.stderr) as aside, redirect_stdout(aside):
            try:
                test_time.run(cfg, another="begin anew with --anew, or choose another --out", follow=True)
            except stop.StopRun as end:
                end.said = _stopped(args, folder)
                raise
            except UnansweredError:  # which is said below, of the table
                pass
        _finish(args, folder)

    with told(lambda error: in_words_of(error, WORDS), COMPOSING), own_options(args.config_dir):
        refuse_stream(args.method, "tpt-predict")
        one = ["views.num_views=1"] if args.views is None and looks_at_one_view(args.method) else []
        line = read("test_time", [*one, *settings])
    cli.main(run, "test_time", line, WORDS)


def _stopped(args: argparse.Namespace, folder: Path) -> str:
    """Writes the table of what is done; says how much that is."""
    from tpt.results.predictions import stored_predictions  # noqa: PLC0415 -- takes time to load
    from tpt.results.runs import read_manifest  # noqa: PLC0415 -- likewise

    done = total = 0
    with stop.holding(), suppress(UserError, OSError):
        total = sum(about["to_test"] for about in read_manifest(folder)["datasets"].values())
        done = sum(1 for _ in stored_predictions(folder))
        _write(stored_predictions(folder), args, folder)
    how_much = f"after {done} of {total}" if total else "before the first picture"
    return f"{chr(10) if sys.stderr.isatty() else ''}Stopped {how_much}. Run the same command again to continue."


def _finish(args: argparse.Namespace, folder: Path) -> None:
    """Writes the table, and prints the first answers where nobody asked for one.

    Raises:
        UnansweredError: some pictures have no answer.
    """
    from tpt.results.predictions import stored_predictions  # noqa: PLC0415 -- takes time to load

    first: list[Prediction] = []
    failed: list[Prediction] = []
    count = 0

    def watched() -> Iterator[Prediction]:
        nonlocal count
        for prediction in stored_predictions(folder):
            count += 1
            first.extend([prediction] if len(first) < SHOWN else [])
            failed.extend([prediction] if prediction.problem is not None else [])
            yield prediction

    out = _write(watched(), args, folder)
    if args.out is None:
        say("\n".join([*map(str, first), *([f"and {count - SHOWN} more"] if count > SHOWN else [])]))
    if not args.quiet:
        say(f"The answers are in {out}", error=True)
    if failed:
        some = f"{len(failed)} of {count} pictures {'has' if len(failed) == 1 else 'have'} no answer"
        which = f"{failed[0].path} ({failed[0].problem})"
        raise UnansweredError(f"{some}: {which}{', for one' if len(failed) > 1 else ''}; see the column `problem`.")


def _write(predictions: Iterable[Prediction], args: argparse.Namespace, folder: Path) -> Path:
    """The table, whole or not at all; the run's folder remembers it, so that no other file is overwritten."""
    from tpt.results.predictions import write_predictions  # noqa: PLC0415 -- takes time to load

    if args.out is None:
        table: Path = write_predictions(predictions, folder / TABLE, args.top)
        return table
    made = write_predictions(predictions, folder / f"{Path(TABLE).stem}{args.out.suffix}", args.top)
    before = content_digest(args.out.read_bytes()) if args.out.is_file() else None
    write_json({"digests": [before, content_digest(made.read_bytes())]}, folder / WRITTEN)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with writing(args.out) as partial:
        shutil.copyfile(made, partial)
    made.unlink()
    return Path(args.out)


if __name__ == "__main__":
    main()
