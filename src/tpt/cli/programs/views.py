"""Draws the views of one image of a run: `tpt-views RUN IMAGE [--dataset NAME] [--out FILE]`.

The views are recomputed as in the run and sorted by entropy. The selected ones are framed, and the answers before and
after adaptation are above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tpt.cli.errors import told
from tpt.cli.programs.arguments import new_parser
from tpt.engine.printing import say
from tpt.errors import UserError
from tpt.files import file_name

if TYPE_CHECKING:
    from tpt.data import EpisodeDataModule
    from tpt.engine.contact_sheet import Sheet
    from tpt.results.tables.runs import Run

TRUST = "trust=true"  # called --trust here
# Sections of the configuration that must not have changed.
MADE_AGAIN = ("backbone", "context", "method", "views", "data")


def sheet(run: Run, record: dict[str, Any], trust: bool = False) -> Sheet:
    """The contact sheet of a recorded image, with the parts of its run rebuilt from the settings of its start."""
    from hydra.utils import instantiate  # noqa: PLC0415 -- these take seconds to load
    from omegaconf import OmegaConf  # noqa: PLC0415

    from tpt.cli.compose import Parts, compose_again  # noqa: PLC0415
    from tpt.engine.contact_sheet import sheet_of  # noqa: PLC0415
    from tpt.results.runs.manifest import differences  # noqa: PLC0415

    cfg = compose_again(run.path, [TRUST] if trust else [])
    now = {part: OmegaConf.to_container(cfg[part], resolve=True) for part in MADE_AGAIN}
    before = {part: run.results["config"].get(part) for part in MADE_AGAIN}
    if changed := differences({"config": before}, {"config": now}):
        raise UserError(f"The settings of the run in {run.path} mean something else now: {'; '.join(changed[:3])}.")
    parts = Parts.of(cfg)
    if not parts.make_method.about()["selects"]:
        raise UserError(f"Expected a run that selects views, got {run.path} of method {run.method}; choose another.")
    data: EpisodeDataModule = instantiate(cfg.data.module)
    return sheet_of(record, data.use_views(parts.views), parts.make_method)


@told([(TRUST, "--trust")])
def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a contact sheet; a short message and exit code 1 on a user's mistake."""
    parser = new_parser("tpt-views", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's directory")
    add("image", metavar="IMAGE", help="its path in the dataset, or anything unique to it: a file name, a class")
    add("--dataset", metavar="NAME", help="needed when several datasets have such an image")
    add("--out", type=Path, metavar="FILE", help=".png, .svg or .pdf; default a file in RUN/contact_sheets")
    add("--trust", action="store_true", help="accepts all settings of a run that somebody else started")
    args = parser.parse_args(arguments)
    from tpt.results.figures.style import save_as  # noqa: PLC0415 -- these take seconds to load
    from tpt.results.tables.runs import load_run  # noqa: PLC0415

    run, out = load_run(args.run.absolute()), args.out and args.out.absolute()
    record = run.record(args.image, args.dataset)
    drawn = sheet(run, record, args.trust)
    name = file_name(f"{record['dataset']}/{PurePosixPath(record['path']).with_suffix('')}")
    say(str(save_as(drawn.draw(), out or run.path / "contact_sheets" / f"{name}.png")))
    if not drawn.as_recorded:
        say("Note: the recomputed selection differs from the recorded one; the recorded one is framed.", error=True)
