"""`resume=DIRECTORY` on a command line: the settings with which a run or sweep was started, and what was added now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tpt.cli.places import PROGRAMS, command
from tpt.cli.quoting import for_hydra
from tpt.cli.starts import STORED, refuse_odd_settings
from tpt.errors import UserError
from tpt.results.runs.start import START, read_start


def continued(arguments: Sequence[str], program: str) -> list[str]:
    """The command line with which a run or sweep that is to be continued was started, and what was added now.

    Args:
        arguments: of the command line; without `resume=DIRECTORY` they are given back as they are (a `.ckpt` is a
            checkpoint of training, which Lightning continues).
        program: name of its configuration, `test_time` or `train_coop`.

    Raises:
        UserError: there is no run in that directory, it is another program's, or what it was started with is damaged.
    """
    os.environ.pop(STORED, None)
    given = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if not given or (text := _plain(given[-1])) in ("auto", "null", "") or text.endswith(".ckpt"):
        return list(arguments)
    folder, added = Path(text).expanduser(), [a for a in arguments if not a.startswith("resume=")]
    if "${" in str(folder.resolve()):
        raise UserError(f"Expected a directory without '${{' in `resume`, got {folder.resolve()}; rename it.")
    here = for_hydra(str(folder.resolve()))
    if (begun := read_start(folder)) is None:
        raise UserError(
            f"Expected the directory of a run or sweep of {program}.py in `resume`, found none at "
            f"{folder}; resume=auto continues what is in the directory of this run, if anything."
        )
    _refuse_other_program(folder, begun.program, program)
    if begun.searched:
        raise UserError(
            f"Expected in `resume` a sweep whose jobs are known beforehand, got {folder}, whose sweeper chooses them "
            "on the way; its study goes on in a new search with "
            f"hydra.sweeper.storage=sqlite:///{folder.resolve()}/study.db."
        )
    refuse_odd_settings(begun.settings, folder / START)
    os.environ[STORED] = "1"  # what they name is looked at once it is composed
    how, place = (["--multirun"], "hydra.sweep.dir") if begun.sweep else ([], "hydra.run.dir")
    return [*how, *begun.settings, *added, f"{place}={here}", "resume=auto"]


def _plain(text: str) -> str:
    """The text of a value, without the quotes that Hydra's grammar may have asked for."""
    try:
        value = OverridesParser.create().parse_override(f"resume={text}").value()
    except HydraException:
        return text
    return value if isinstance(value, str) else text


def _refuse_other_program(folder: Path, began: str, program: str) -> None:
    """Raises if the run was started by the other program, whose settings this one does not know."""
    if began != program:
        known = f"tpt.cli.programs.{began}" in [module for module, _ in PROGRAMS.values()]
        what = f"of {began}.py" if known else "of another program"
        way = f"continue it by {command(began)} resume={for_hydra(str(folder))}" if known else "start the run anew"
        raise UserError(f"Expected a run of {program}.py in `resume`, but {folder} is one {what}; {way}.")
