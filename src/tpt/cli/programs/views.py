"""One image of a run, looked at: `tpt-views RUN IMAGE [--dataset NAME] [--out FILE]`.

Its views are made again, as the run made them, and stand in the order of their entropy, the selected ones framed, with
the answers before and after.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from tpt.cli.compose import Parts, compose_again
from tpt.cli.errors import told
from tpt.cli.mistakes import COMPOSING, in_a_sentence
from tpt.cli.resume import Start, enter, resumable
from tpt.data import EpisodeDataModule
from tpt.engine.contact_sheet import SheetMaker
from tpt.engine.printing import say
from tpt.errors import UserError
from tpt.files import file_name
from tpt.results.figures.style import save_as
from tpt.results.runs.manifest import differences
from tpt.results.tables.runs import Run, load_run

TRUST = "--trust"
MADE_AGAIN = ("backbone", "context", "method", "views", "data")  # sections of a configuration


def maker_of(run: Run, begun: Start) -> SheetMaker:
    """Makes the parts of a run again, from the settings that it was started with.

    Args:
        run: read from its directory.
        begun: how it was started, as `tpt.cli.resume.resumable` gives it.

    Raises:
        UserError: the settings mean something else now, or what they name is not there.
    """
    cfg = compose_again(begun)
    now = {part: OmegaConf.to_container(cfg[part], resolve=True) for part in MADE_AGAIN}
    before = {part: run.results["config"].get(part) for part in MADE_AGAIN}
    if changed := differences({"config": before}, {"config": now}):
        raise UserError(
            f"The settings of the run in {run.path} mean something else now: {'; '.join(changed[:3])}. Make the run "
            "anew, or use the version of tpt that it was made with."
        )
    parts = Parts.of(cfg)
    if not parts.make_method.about()["selects"]:
        raise UserError(
            f"Expected a run that selects views, but method {run.method} of {run.path} looks at the image alone; "
            "choose a run of another method, such as method=tpt."
        )
    data: EpisodeDataModule = instantiate(cfg.data.module)
    return SheetMaker(parts.clip, data.use_views(parts.views), parts.make_method)


def record_of(run: Run, image: str, dataset: str | None = None) -> dict[str, Any]:
    """The record of an image.

    Args:
        run: that tested it.
        image: its path in the dataset; or, if only one image has it, the end of that, its name without suffix, a folder
            on it, or its class.
        dataset: its name; None looks in all.

    Raises:
        UserError: there is none, or several.
    """
    rows = [r for r in run.records.to_pylist() if dataset in (None, r["dataset"])]
    ways: list[Callable[[dict[str, Any]], bool]] = [
        lambda r: r["path"] == image,
        lambda r: f"/{r['path']}".endswith(f"/{image}"),
        lambda r: PurePosixPath(r["path"]).stem == image,
        lambda r: image in PurePosixPath(r["path"]).parts or image == r["class_name"],
    ]
    matches = ([r for r in rows if way(r)] for way in ways)
    found: list[dict[str, Any]] = next(filter(None, matches), [])
    if len(found) != 1:
        some = ", ".join(f"{r['dataset']}: {r['path']}" for r in (found or rows)[:3])
        more = "give its path" if len({r["dataset"] for r in found}) == 1 else "add --dataset"
        what = "none" if not found else f"{len(found)}, {more}"
        raise UserError(f"Expected one image {image!r} in the records of {run.path}, got {what}; such as {some}.")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a sheet; one sentence and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="tpt-views", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="directory that test_time.py made")
    parser.add_argument("image", metavar="IMAGE", help="its path in the dataset, or what only it has: a name, a class")
    parser.add_argument("--dataset", metavar="NAME", help="where several have such an image")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=".png, .svg or .pdf; contact_sheets/... in RUN if left out"
    )
    parser.add_argument(TRUST, action="store_true", help="uses whatever the settings of a run of others name")
    args = parser.parse_args(arguments)
    with told(in_a_sentence, COMPOSING):
        run, out = load_run(args.run.absolute()), args.out and args.out.absolute()
        record = record_of(run, args.image, args.dataset)
        begun = resumable(run.path, "test_time", [TRUST] if args.trust else [], TRUST)
        enter(begun)
        sheet = maker_of(run, begun).sheet(record)
        name = file_name(f"{record['dataset']}/{PurePosixPath(record['path']).with_suffix('')}")
        say(str(save_as(sheet.draw(), out or run.path / "contact_sheets" / f"{name}.png")))
        if not sheet.as_recorded:
            say("Note: the selection made again differs from the recorded one, which is framed.", error=True)


if __name__ == "__main__":
    main()
