"""A command line of Hydra, read once: its flags, its settings, and the folders that options are looked for in.

Nothing here loads PyTorch, so that `--help` and a mistake are quick.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from tpt.cli.places import SEARCHED, config_dir, config_dirs
from tpt.cli.quoting import as_texts, searched
from tpt.cli.quoting import setting as quoted
from tpt.errors import UserError

HELP = ("--help", "-h")
SEE_HELP = "see --help for all settings"


@dataclass(frozen=True)
class CommandLine:
    """What a program was given.

    Args:
        flags: options of Hydra with their values.
        settings: the rest, one `key=value` each.
        overrides: the settings as Hydra's grammar reads them.
        own: folders of the user's own options.
        multirun: whether it asks for a sweep.
    """

    flags: list[str]
    settings: list[str]
    overrides: list[Override]
    own: list[Path]
    multirun: bool

    @staticmethod
    def read(arguments: Sequence[str]) -> CommandLine:
        """The command line of these arguments, in which flags may stand anywhere.

        Raises:
            UserError: an option that Hydra does not have, or a setting that its grammar cannot read.
        """
        flags, settings, multirun = _sorted(arguments)
        settings = [*map(as_texts, settings)]
        return CommandLine(flags, settings, [*map(parsed, settings)], config_dirs(arguments)[:-1], multirun)

    def adding(self, setting: str) -> CommandLine:
        """The same with one more setting; those that are there come after it, and so prevail."""
        return replace(self, settings=[setting, *self.settings], overrides=[parsed(setting), *self.overrides])

    @property
    def arguments(self) -> list[str]:
        """All of it, in the order that Hydra asks for: it reads no flag behind a setting."""
        return [*self.flags, *self.settings]

    @property
    def asks_for_help(self) -> bool:
        """Whether it has --help."""
        return bool({*HELP} & {*self.flags})


def _sorted(arguments: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """The flags of a command line with their values, its settings, and whether they start a sweep."""
    parser = get_args_parser()
    for place, argument in enumerate(arguments):
        name = argument.split("=")[0]
        if name.startswith("--") and name not in parser._option_string_actions:  # it would match a longer option
            following = [*arguments[place + 1 :], "VALUE"][0]
            written = argument.removeprefix("--") + ("" if "=" in argument else f"={following}")
            raise UserError(
                f"Expected an option such as --help or -m, got {argument!r}; settings have no dashes: {written}."
            )
    found = parser.parse_intermixed_args(list(arguments))
    flags, left = [], list(found.overrides)
    for argument in arguments:
        if left and argument == left[0]:
            left.pop(0)
        else:
            flags.append(argument)
    return flags, found.overrides, bool(found.multirun)


def parsed(setting: str) -> Override:
    """A setting as Hydra's grammar reads it; raises a UserError if it cannot."""
    try:
        return OverridesParser.create().parse_override(setting)
    except HydraException as error:
        raise _unreadable(setting) from error


def _unreadable(argument: str) -> UserError:
    key, equals, value = argument.partition("=")
    if not equals:
        return UserError(f"Expected KEY=VALUE, got {argument!r}; {SEE_HELP}.")
    if not re.fullmatch(r"[~+]{0,2}[\w.@/:-]+", key, re.ASCII):
        return UserError(f"Expected a setting's name before =, got {key!r}; {SEE_HELP}.")
    return UserError(
        f"Expected a value for `{key.lstrip('+')}` that needs no quotes, got {value}; write {quoted(key, value)}."
    )


def swept_values(override: Override, text: bool = False) -> list[Any]:
    """What a sweep gives a setting, or the one value that it has.

    Of an interval, from which a sweeper draws, these are its ends; of a pattern, such as `method=glob(z*)`, the options
    that match, or the pattern itself if the override cannot look for them.

    Args:
        override: of the command line, or of an experiment.
        text: whether as text, as on the command line; of an override that is a sweep.
    """
    value: Any = override.value()
    if override.is_interval_sweep():
        return [value.start, value.end]
    if isinstance(value, Glob) and override.config_loader is None:
        return list(value.include)
    if not override.is_sweep_override():
        return [value]
    return list(override.sweep_string_iterator() if text else override.sweep_iterator())


@contextmanager
def initialized() -> Iterator[None]:
    """Hydra with our configuration, beside that of a program or notebook which uses Hydra itself."""
    theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = theirs


def composed(program: str, settings: Sequence[str], own: Sequence[Path] = (), hydras: bool = False) -> DictConfig:
    """The configuration of a program with settings of the command line.

    Args:
        program: name of its configuration, `conf/<program>.yaml`.
        settings: as on the command line.
        own: folders of the user's own options.
        hydras: whether with Hydra's own part.
    """
    plain = [setting for setting in settings if not setting.lstrip("+").startswith(SEARCHED)]
    with initialized():
        return hydra.compose(program, [*searched(own), *plain], return_hydra_config=hydras)


def with_options(overrides: Sequence[Override]) -> list[Override]:
    """The overrides with what they need to look for the options that a pattern, such as `glob(z*)`, matches."""
    with initialized():
        loader = GlobalHydra.instance().config_loader()
    return [replace(override, config_loader=loader) for override in overrides]


def written(override: Override) -> Iterator[str]:
    """An override as on the command line, once for each value of a sweep."""
    line = str(override.input_line)
    values = swept_values(override, text=True) if override.is_sweep_override() else []
    return (f"{line.split('=', maxsplit=1)[0]}={value}" for value in values) if values else iter([line])


def first_job(program: str, line: CommandLine) -> tuple[DictConfig, list[Override]]:
    """The configuration of the first job of a sweep, and the overrides of the sweep."""
    overrides = with_options(line.overrides)
    one = [next(written(override)) for override in overrides if not override.is_hydra_override()]
    return composed(program, one, line.own), overrides
