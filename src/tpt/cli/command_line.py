"""The command line of a Hydra program, parsed once, and the border to Hydra, whose errors become sentences.

Nothing loads PyTorch, so that `--help` and error messages are quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from tpt.cli.options import is_group, no_option, options, own_folders, own_options
from tpt.cli.places import FILE, SEARCHED, config_dir
from tpt.cli.quoting import as_texts, searched
from tpt.cli.quoting import setting as quoted
from tpt.cli.settings.parts import walk
from tpt.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

ADDING = ("experiment", "search", "logger", "callbacks", "debug")  # groups that accept several options
_OF_RUNS = ("overrides", "config_dir", "run", "multirun", "help")  # what Hydra's parser finds in a run's command line


@dataclass(frozen=True)
class CommandLine:
    """The parsed command line of a program."""

    flags: list[str]  # Hydra's own options, with their values
    overrides: list[Override]  # the other arguments, one `key=value` each, parsed by Hydra
    own: list[Path]  # folders of the user's own options
    multirun: bool  # whether it is a sweep
    help: bool  # whether it contains --help
    shows: bool  # whether it has another flag of Hydra, such as --cfg, which only shows something

    @staticmethod
    def read(program: str, arguments: Sequence[str]) -> CommandLine:
        """Parses arguments, in any order; a UserError if one cannot be read, or gives several values without -m."""
        parser = get_args_parser()
        parser.allow_abbrev = False
        found, odd = parser.parse_known_intermixed_args(list(arguments))
        if odd:
            ways = "write settings as KEY=VALUE, without dashes"
            raise UserError(f"Expected an option such as --help or -m, got {odd[0]!r}; {ways}.")
        flags = [argument for argument in arguments if argument not in found.overrides]
        with initialized(program) as begun:
            loader = begun.config_loader
        overrides = [parsed(as_texts(setting), loader) for setting in found.overrides]
        own = [found.config_dir] if found.config_dir else []
        for override in overrides:
            if override.key_or_group == SEARCHED and isinstance(places := override.value(), list):
                own += [place.removeprefix(FILE) for place in map(str, places) if place.startswith(FILE)]
        folders = [Path(folder).expanduser().absolute() for folder in own]
        multirun = found.multirun or "hydra.mode=MULTIRUN" in found.overrides
        shows = any(value for name, value in vars(found).items() if name not in _OF_RUNS)
        with own_options(*folders):
            _refuse_odd_choices(overrides, multirun or found.help)
        return CommandLine(flags, overrides, folders, multirun, found.help, shows)

    @property
    def settings(self) -> list[str]:
        """The settings as text."""
        return [str(override.input_line) for override in self.overrides]


def _refuse_odd_choices(overrides: Sequence[Override], multirun: bool) -> None:
    """Raises a UserError at the first setting with several values, which need `multirun`, or group with no option."""
    for override in overrides:
        key, text = override.key_or_group, str(override.input_line).partition("=")[2]
        value: Any = override.value()
        if override.is_hydra_override() or override.is_delete():
            continue
        if override.is_sweep_override():
            if not multirun:
                ways = ["add -m to try each"]
                if key in ADDING or not is_group(key):
                    ways.append(f"write {key}=[{text}] for a list")
                if not is_group(key):
                    ways.append(f"write {quoted(key, text)} for one text with commas")
                raise UserError(f"Expected one value for `{key}`, got {text}; {', or '.join(ways)}.")
        elif is_group(key):
            several = key in ADDING and isinstance(value, list)
            if not all(isinstance(option, str) for option in (value if several else [value])):
                raise UserError(  # of several, Hydra would take the last
                    f"Expected one option of `{key}`, got {text}; choose from {', '.join(options(key))}, or add -m and "
                    f"write {key}=A,B to try several."
                )


def parsed(setting: str, loader: ConfigLoader | None = None) -> Override:
    """A setting, parsed by Hydra, or a UserError; a pattern such as `method=glob(z*)` needs a loader to be matched."""
    try:
        return OverridesParser.create(loader).parse_overrides([setting])[0]
    except HydraException as error:
        key, equals, value = setting.partition("=")
        way = f"if the value is a text that needs quotes, write {quoted(key, value)}" if equals else "see --help"
        raise UserError(f"Expected KEY=VALUE, got {setting!r}; {way}.") from error


def swept_values(override: Override) -> list[Any]:
    """The values that an override gives: several in a sweep, the bounds of an interval, otherwise one."""
    value: Any = override.value()
    if override.is_interval_sweep():
        return [value.start, value.end]
    if not override.is_sweep_override():
        return [value]
    return [Override._convert_value(one) for one in override.sweep_iterator()]  # quoted texts as texts


@contextmanager
def _composing() -> Iterator[None]:
    """Turns Hydra's errors into a UserError; only that of a part which cannot be built is reported as its cause."""
    try:
        yield
    except InstantiationException:
        raise
    except MissingConfigException as error:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        raise no_option(group, option, error.options or ()) from error
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
            config: Any = OmegaConf.to_container(cause.parent_node._get_root(), resolve=False)
            key, known = str(cause.full_key), [key for key, _ in walk(config)]
            raise UserError(f"Expected a setting that exists, got {key!r}; {did_you_mean(key, known)}") from error
        if found := re.match(r"Could not override '(.*?)'", str(error)):
            raise UserError(f"Expected a setting or group of this program, got {found[1]!r}; see --help.") from error
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"Hydra cannot compose these settings: {reason}.") from error
    except ValueError as error:
        if not str(error).startswith("Unable to configure"):  # raised by Python's logging
            raise
        raise UserError(f"Expected valid `hydra.job_logging`, got: {error} ({error.__cause__}).") from error


@contextmanager
def initialized(program: str) -> Iterator[Hydra]:
    """Initializes Hydra with our configuration, also inside a program that uses Hydra; errors become a UserError."""
    theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with (
            _composing(),
            hydra.initialize_config_dir(str(config_dir().resolve()), job_name=program, version_base="1.3"),
        ):
            ours = GlobalHydra.instance().hydra
            assert ours is not None
            yield ours
    finally:
        GlobalHydra.instance().hydra = theirs


def run_jobs(program: str, line: CommandLine, job: Callable[[DictConfig], Any]) -> list[Any]:
    """Calls `job`, which a launcher may pickle, with each configuration; returns what the jobs of a sweep returned."""
    if line.shows:  # `hydra.main` composes once more, to look for `hydra.mode`
        decorate = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=program)
        try:
            with _composing():
                decorate(job)()
        except ValueError as error:  # flags that exclude each other, or a file that does not exist
            raise UserError(f"Hydra refuses these flags: {str(error).rstrip('.!')}.") from error
        return []
    with initialized(program) as begun:
        start, mode = (begun.multirun, "MULTIRUN") if line.multirun else (begun.run, "RUN")
        found = start(program, job, [*searched(own_folders()), *line.settings, f"hydra.mode={mode}"])
    batches = found if line.multirun and isinstance(found, list) else []
    return [done.return_value for batch in batches for done in batch]


def composed(program: str, settings: Sequence[str], hydras: bool = False) -> DictConfig:
    """Composes `conf/<program>.yaml` with settings and the current `own_options`; with `hydras`, also Hydra's part."""
    with initialized(program):  # of several search paths, Hydra takes the first
        return hydra.compose(program, [*searched(own_folders()), *settings], return_hydra_config=hydras)


def first_job(program: str, line: CommandLine, hydras: bool = False) -> DictConfig:
    """Composes the configuration of a run, or of the first job of a sweep; arguments as in `composed`."""
    return composed(program, [_first(one) for one in line.overrides if not one.is_hydra_override()], hydras)


def _first(override: Override) -> str:
    """An override as on the command line, with its first value in a sweep."""
    text = str(override.input_line)
    value: Any = override.value()
    if not override.is_sweep_override():
        return text
    values = [value.start] if override.is_interval_sweep() else override.sweep_string_iterator()
    return next((f"{text.partition('=')[0]}={first}" for first in values), text)
