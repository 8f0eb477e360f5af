"""Answers for your own pictures, without labels: `tpt-predict PATH... --classes "cat,hot air balloon"`.

Each picture is adapted to alone; the table says what the model answers before and after, and how sure it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tpt.cli.errors import in_words_of, told
from tpt.cli.quoting import for_hydra
from tpt.engine import stop
from tpt.errors import UserError
from tpt.files import is_file

RUN = ".run"  # added to the table's name, the folder where the work is kept
TABLE = "predictions.csv"  # in the run's folder, where --out names no other
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
DEVICES = ("auto", "cpu", "gpu")
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
    add("--device", choices=DEVICES, default="auto", help="default: a GPU if there is one")
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
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The program; one sentence and exit code 1 on a user's mistake."""
    if arguments is None and "LOCAL_RANK" in os.environ:  # a further process of a run, started with its settings
        from tpt.cli.programs import test_time  # noqa: PLC0415 -- takes seconds to load

        test_time.main()
        return
    args = parser().parse_args(arguments)
    with stop.leaving(), told(lambda error: in_words_of(error, WORDS)):
        folder = prepare(args)
        settings = settings_of(args, folder)
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
    if args.anew and folder.exists():
        if not (folder / "run.json").is_file() and any(folder.iterdir()):
            raise UserError(f"Expected the folder of an earlier run at {folder}, found something else; choose --run.")
        shutil.rmtree(folder)
    return folder.absolute()


def settings_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """The command line of the run, as Hydra reads it.

    Raises:
        UserError: there are no such classes, pictures, options.
    """
    from tpt.cli.compose import choose, looks_at_one_view, refuse_stream  # noqa: PLC0415 -- see above
    from tpt.data.pictures import class_list, find_pictures  # noqa: PLC0415 -- torch takes time to load

    refuse_stream(args.method, "tpt-predict")
    names = class_list(args.classes)
    classes = for_hydra(args.classes) if is_file(args.classes) else _listed(names)
    views = args.views or (1 if looks_at_one_view(args.method) else None)
    find_pictures(args.paths)
    given = {
        "data.class_names": classes,
        "data.root": _places(args.paths, folder),
        "callbacks.records.top": args.top,
        "context.ctx_init": None if args.prompt is None else for_hydra(args.prompt),
        "backbone.pretrained": None if args.pretrained is None else for_hydra(args.pretrained),
        "views.num_views": views,
        "data.batch_size": args.batch_size,
        "data.num_workers": args.workers,
        "trainer.accelerator": args.device,
        "seed": args.seed,
        "resume": "auto",
        "hydra.run.dir": for_hydra(str(folder)),
    }
    groups = choose((("method", args.method), ("backbone", args.backbone), ("data", "pictures"), ("logger", "none")))
    return [*groups, *(f"{key}={value}" for key, value in given.items() if value is not None), *args.set]


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
        from tpt.cli.programs import test_time  # noqa: PLC0415 -- see above

    def run(cfg: DictConfig) -> None:
        test_time.run(cfg, another="begin anew with --anew, or choose another --out")
        _finish(args, folder)

    sys.argv = [sys.argv[0], *settings]
    cli.main(run, "test_time", WORDS)


def _finish(args: argparse.Namespace, folder: Path) -> None:
    """Writes the table, and prints the first answers where nobody asked for one.

    Raises:
        UnansweredError: some pictures have no answer.
    """
    from tpt.errors import UnansweredError  # noqa: PLC0415 -- beside its use
    from tpt.results.predictions import Prediction, stored_predictions, write_predictions  # noqa: PLC0415 -- takes time to load

    first: list[Prediction] = []
    failed: list[str] = []

    def watched() -> Iterator[Prediction]:
        for prediction in stored_predictions(folder):
            first.extend([prediction] if len(first) < SHOWN else [])
            failed.extend([prediction.path] if prediction.problem is not None else [])
            yield prediction

    out = write_predictions(watched(), args.out or folder / TABLE, args.top)
    if args.out is None:
        print("", *first, "", sep="\n")
    print(f"The answers are in {out}")
    if failed:
        none = (
            f"{len(failed)} has none: {failed[0]}" if len(failed) == 1 else f"{len(failed)} have none, as {failed[0]}"
        )
        raise UnansweredError(f"Expected an answer for every picture, but {none}; the column `problem` says why.")


if __name__ == "__main__":
    main()
