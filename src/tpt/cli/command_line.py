"""The command line of a Hydra program, parsed once: flags, settings, and the folders with the user's own options.

Nothing here loads PyTorch, so that `--help` and error messages are quick.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from tpt.cli.options import own_folders
from tpt.cli.places import FILE, SEARCHED, config_dir
from tpt.cli.quoting import as_texts, searched
from tpt.cli.quoting import setting as quoted
from tpt.errors import UserError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

SEE_HELP = "see --help for all settings"
_OF_RUNS = ("overrides", "config_dir", "run", "multirun", "help")  # what Hydra's parser finds in a run's command line


@dataclass(frozen=True)
class CommandLine:
    """The parsed command line of a program.

    Args:
        flags: Hydra's own options, with their values.
        overrides: the other arguments, one `key=value` each, parsed by Hydra.
        own: folders of the user's own options.
        multirun: whether it is a sweep.
        help: whether it contains --help.
        shows: whether it has another flag of Hydra, such as --cfg, which only shows something.
    """

    flags: list[str]
    overrides: list[Override]
    own: list[Path]
    multirun: bool
    help: bool
    shows: bool

    @staticmethod
    def read(program: str, arguments: Sequence[str]) -> CommandLine:
        """Parses arguments, in which flags may come before or after settings.

        Raises:
            UserError: an option that Hydra does not have, or a setting that its grammar cannot read.
        """
        found = _found(arguments)
        flags = [argument for argument in arguments if argument not in found.overrides]
        with initialized(program) as begun:
            loader = begun.config_loader
        overrides = [parsed(as_texts(setting), loader) for setting in found.overrides]
        own = [found.config_dir] if found.config_dir else []
        for override in overrides:
            if override.key_or_group == SEARCHED and isinstance(places := override.value(), list):
                own += [place.removeprefix(FILE) for place in map(str, places) if place.startswith(FILE)]
        folders = [Path(folder).expanduser().absolute() for folder in own]
        multirun = any(override.input_line == "hydra.mode=MULTIRUN" for override in overrides) or found.multirun
        shows = any(value for name, value in vars(found).items() if name not in _OF_RUNS)
        return CommandLine(flags, overrides, folders, bool(multirun), bool(found.help), shows)

    def adding(self, setting: str) -> CommandLine:
        """The same command line with one more setting, which its own settings override."""
        return replace(self, overrides=[parsed(setting), *self.overrides])

    @property
    def settings(self) -> list[str]:
        """The settings as text."""
        return [str(override.input_line) for override in self.overrides]

    @property
    def arguments(self) -> list[str]:
        """All arguments, flags first, because Hydra does not read flags after a setting."""
        return [*self.flags, *self.settings]


def _found(arguments: Sequence[str]) -> argparse.Namespace:
    """What Hydra's parser finds in a command line; raises a UserError for an option that it does not have."""
    parser = get_args_parser()
    for place, argument in enumerate(arguments):
        name = argument.split("=")[0]
        if name.startswith("--") and name not in parser._option_string_actions:  # argparse would match a longer option
            following = [*arguments[place + 1 :], "VALUE"][0]
            written = argument.removeprefix("--") + ("" if "=" in argument else f"={following}")
            raise UserError(
                f"Expected an option such as --help or -m, got {argument!r}; write settings without dashes: {written}."
            )
    return parser.parse_intermixed_args(list(arguments))


def parsed(setting: str, loader: ConfigLoader | None = None) -> Override:
    """A setting, parsed by Hydra; raises a UserError if it cannot be parsed.

    With a loader, a pattern such as `method=glob(z*)` finds the options that match it.
    """
    try:
        return OverridesParser.create(loader).parse_overrides([setting])[0]
    except HydraException as error:
        key, equals, value = setting.partition("=")
        if not equals:
            said = f"KEY=VALUE, got {setting!r}; {SEE_HELP}"
        elif not re.fullmatch(r"[~+]{0,2}[\w.@/:-]+", key, re.ASCII):
            said = f"a setting's name before =, got {key!r}; {SEE_HELP}"
        else:
            said = f"a value for `{key.lstrip('+')}` that needs no quotes, got {value}; write {quoted(key, value)}"
        raise UserError(f"Expected {said}.") from error


def swept_values(override: Override, text: bool = False) -> list[Any]:
    """The values that an override gives to a setting: several in a sweep (as `text` on request), otherwise one.

    For an interval, from which a sweeper draws, these are its bounds; for a pattern such as `method=glob(z*)`, the
    matching options, or the pattern itself if the override cannot look them up.
    """
    value: Any = override.value()
    if override.is_interval_sweep():
        return [value.start, value.end]
    if isinstance(value, Glob) and override.config_loader is None:
        return list(value.include)
    if not override.is_sweep_override():
        return [value]
    if text:
        return list(override.sweep_string_iterator())
    return [Override._convert_value(one) for one in override.sweep_iterator()]  # quoted texts as texts


@contextmanager
def initialized(program: str) -> Iterator[Hydra]:
    """Initializes Hydra with our configuration; works inside a program or notebook that uses Hydra itself."""
    theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(config_dir().resolve()), job_name=program, version_base="1.3"):
            ours = GlobalHydra.instance().hydra
            assert ours is not None
            yield ours
    finally:
        GlobalHydra.instance().hydra = theirs


def run_jobs(program: str, line: CommandLine, job: Callable[[DictConfig], Any]) -> list[Any]:
    """Calls `job` with the configuration of a run, or with each configuration of a sweep; a launcher may pickle it.

    `hydra.main` would compose once more, to look for `hydra.mode`.  It is used for Hydra's other flags.  Returns what
    the jobs of a sweep returned, unless a search chose them.
    """
    if line.shows:
        decorate = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=program)
        try:
            decorate(job)()
        except ValueError as error:  # flags that exclude each other, or a file that does not exist
            raise UserError(f"Hydra refuses these flags: {str(error).rstrip('.!')}.") from error
        return []
    with initialized(program) as begun:
        start, mode = (begun.multirun, "MULTIRUN") if line.multirun else (begun.run, "RUN")
        found = start(program, job, [*searched(own_folders()), *_plain(line.settings), f"hydra.mode={mode}"])
    batches = found if line.multirun and isinstance(found, list) else []
    return [done.return_value for batch in batches for done in batch]


def composed(program: str, settings: Sequence[str], hydras: bool = False) -> DictConfig:
    """Composes `conf/<program>.yaml` with settings of the command line and the current `own_options`.

    With `hydras`, Hydra's own part is included.
    """
    with initialized(program):
        return hydra.compose(program, [*searched(own_folders()), *_plain(settings)], return_hydra_config=hydras)


def _plain(settings: Sequence[str]) -> list[str]:
    """The settings without the user's own folders and the mode, which are given to Hydra separately."""
    return [setting for setting in settings if not setting.lstrip("+").startswith((SEARCHED, "hydra.mode="))]


def written(override: Override) -> Iterator[str]:
    """An override as on the command line, once per value of a sweep."""
    line = str(override.input_line)
    values = swept_values(override, text=True) if override.is_sweep_override() else []
    return (f"{line.split('=', maxsplit=1)[0]}={value}" for value in values) if values else iter([line])


def first_job(program: str, line: CommandLine, hydras: bool = False) -> DictConfig:
    """Composes the configuration of a run, or of the first job of a sweep; arguments as in `composed`."""
    one = [next(written(override)) for override in line.overrides if not override.is_hydra_override()]
    return composed(program, one, hydras)
