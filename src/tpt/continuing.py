"""`resume=DIRECTORY` on a command line: the settings with which a run or sweep was started, and what was added now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tpt.errors import RunError, UserError
from tpt.programs import PROGRAMS, command
from tpt.quoting import for_hydra

OVERRIDES = Path(".hydra") / "overrides.yaml"  # Hydra's own files, of a run
CONFIG = Path(".hydra") / "hydra.yaml"
SWEEP = "multirun.yaml"  # of a sweep
MAX_BYTES = 2**22


def continued(arguments: Sequence[str], program: str) -> list[str]:
    """The command line with which a run or sweep that is to be continued was started, and what was added now.

    Args:
        arguments: of the command line; without `resume=DIRECTORY` they are given back as they are (a `.ckpt` is a
            checkpoint of training, which Lightning continues).
        program: name of its configuration, `test_time` or `train_coop`.

    Raises:
        UserError: there is no run in that directory, it is another program's, or what it was started with is damaged.
    """
    given = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if not given or (text := _plain(given[-1])) in ("auto", "null", "") or text.endswith(".ckpt"):
        return list(arguments)
    folder, added = Path(text).expanduser(), [a for a in arguments if not a.startswith("resume=")]
    if "${" in str(folder.resolve()):
        raise UserError(f"Expected a directory without '${{' in `resume`, got {folder.resolve()}; rename it.")
    here = for_hydra(str(folder.resolve()))
    if (folder / SWEEP).is_file():
        _refuse_other_program(folder, folder / SWEEP, program)
        saved = _started_with(folder / SWEEP)
        return ["--multirun", *saved, *added, f"hydra.sweep.dir={here}", "resume=auto"]
    if not (folder / OVERRIDES).is_file():
        raise UserError(
            f"Expected the directory of a run or sweep of {program}.py in `resume`, found none at "
            f"{folder}; resume=auto continues what is in the directory of this run, if anything."
        )
    _refuse_other_program(folder, folder / CONFIG, program)
    return [*_started_with(folder / OVERRIDES), *added, f"hydra.run.dir={here}", "resume=auto"]


def _plain(text: str) -> str:
    """The text of a value, without the quotes that Hydra's grammar may have asked for."""
    try:
        value = OverridesParser.create().parse_override(f"resume={text}").value()
    except HydraException:
        return text
    return value if isinstance(value, str) else text


def _started_with(file: Path) -> list[str]:
    """The settings that the command line gave."""
    content = _read(file)
    if file.name == SWEEP:
        content = _at(content, "hydra", "overrides", "task")
    if not isinstance(content, list) or not all(isinstance(setting, str) for setting in content):
        raise RunError(f"Expected the settings of a run in {file}, but it is damaged; {_ANEW}")
    return content


def _refuse_other_program(folder: Path, file: Path, program: str) -> None:
    """Raises where the run was started by the other program, whose settings this one does not know."""
    name = _at(_read(file), "hydra", "job", "config_name") if file.is_file() else None
    if (
        isinstance(name, str)
        and name != program
        and f"tpt.programs.{name}" in [module for module, _ in PROGRAMS.values()]
    ):
        raise UserError(
            f"Expected a run of {program}.py in `resume`, but {folder} is one of {name}.py; continue it by "
            f"{command(name)} resume={for_hydra(str(folder))}."
        )


def _read(file: Path) -> Any:
    """The content of a YAML file that Hydra wrote."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        text = file.read_text("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("aliases, of which Hydra writes none: a few lines of them can stand for gigabytes")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"Expected the settings of a run in {file}, but it is damaged; {_ANEW}") from error


def _at(content: Any, *path: str) -> Any:
    for step in path:
        content = content.get(step) if isinstance(content, dict) else None
    return content


_ANEW = "give the settings of the run again, with its hydra.run.dir and resume=auto, or start it anew."
