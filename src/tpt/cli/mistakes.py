"""Finds what is wrong with a command line, and suggests the nearest setting or option that exists.

Settings and options are compared with the configuration; messages of libraries are never parsed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice, product
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tpt.cli.command_line import SEE_HELP, CommandLine, composed, written
from tpt.cli.options import no_option, options, own_options, values_of
from tpt.cli.places import config_dir
from tpt.cli.quoting import setting as quoted
from tpt.cli.resume import continued
from tpt.cli.settings.programs import REFUSES, refusal
from tpt.cli.settings.walk import all_keys
from tpt.errors import UserError

COMPOSING = (HydraException, OmegaConfBaseException)  # errors of libraries that parse what a user writes
ADDING = ("experiment", "search", "logger", "callbacks", "debug")  # groups that accept several options
MOST = 64  # most combinations of a sweep's options to check


def read(program: str, arguments: Sequence[str]) -> CommandLine:
    """Parses a program's command line; `resume=DIRECTORY` adds the settings of the run that it continues.

    Raises:
        UserError: a setting cannot be parsed, or has several values, or a group has no option.
    """
    line = CommandLine.read(program, continued(arguments, program))
    with own_options(*line.own):
        refuse_odd_choices(line.overrides, program, line.multirun or line.help)
    return line


@contextmanager
def composing(program: str, overrides: Sequence[Override]) -> Iterator[None]:
    """Raises a UserError if the configuration of a program cannot be composed with these overrides."""
    try:
        yield
    except Exception as error:
        if (told := in_a_sentence(error, program, overrides)) is error:
            raise
        raise told from error


def refuse_odd_choices(overrides: Sequence[Override], program: str, multirun: bool) -> None:
    """Raises a UserError at the first setting with several values, which need `multirun`, or group with no option."""
    known = groups_of(program)
    for override in overrides:
        key, text = override.key_or_group, str(override.input_line).partition("=")[2]
        if override.is_sweep_override() and not multirun and not override.is_hydra_override():
            raise UserError(
                f"Expected one value for `{key}`, got {text}; add -m to try each, write {key}=[{text}] for a list, or "
                f"{quoted(key, text)} for one text with commas."
            )
        value: Any = override.value()
        if key not in known or override.is_sweep_override() or override.is_delete() or isinstance(value, str):
            continue
        if not isinstance(value, list) or not all(isinstance(option, str) for option in value):
            raise UserError(f"Expected an option of `{key}`, got {text}; choose from {', '.join(options(key))}.")
        if key not in ADDING:
            raise UserError(
                f"Expected one option of `{key}`, got {text}, where the last would replace the others; choose "
                f"one, or add -m and write {key}={','.join(value)} to try each."
            )


def in_a_sentence(error: Exception, program: str, overrides: Sequence[Override]) -> Exception:
    """The error to report: for one of Hydra, a UserError that says what is wrong with these overrides."""
    if isinstance(error, ValueError) and str(error).startswith("Unable to configure"):  # raised by Python's logging
        return UserError(f"Expected valid `hydra.job_logging`, got: {error} ({error.__cause__}).")
    if not isinstance(error, COMPOSING) or isinstance(error, InstantiationException):
        return error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return no_option(group, option, error.options or ())
    return _first_wrong(program, overrides) or UserError(str(error).strip().partition("\n")[0])


def _first_wrong(program: str, overrides: Sequence[Override]) -> UserError | None:
    """What is wrong with the first setting that prevents composing; None if there is none."""
    groups = groups_of(program)
    own = [override for override in overrides if not override.is_hydra_override()]
    chosen = [override for override in own if override.key_or_group in groups and not override.is_delete()]
    for choice in islice(product(*map(written, chosen)), MOST):
        try:
            cfg = composed(program, choice)
        except COMPOSING:
            return next(filter(None, (_of_another(program, one) for one in choice)), None)
        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        known = [*all_keys(plain), *groups]
        rest = [override for override in own if override not in chosen]
        for override in rest:
            key = override.key_or_group
            if override.type in (OverrideType.CHANGE, OverrideType.DEL) and key not in known:
                return unknown(key, program, known, choice)
            if override.type is OverrideType.ADD and key in known:
                text = str(override.input_line).lstrip("+")
                return UserError(f"Expected + only before a new setting, got +{text}; write {text}.")
        for override in rest:
            try:
                composed(program, [*choice, next(written(override))])
            except COMPOSING:
                key, value = override.key_or_group, override.get_value_element_as_str()
                return UserError(f"Expected a value of the same type as now for `{key}`, got {value}; {SEE_HELP}.")
    return None


def unknown(key: str, program: str, known: Sequence[str], choice: Sequence[str] = ()) -> UserError:
    """The message for a setting that does not exist, given the `known` ones and the chosen options."""
    if (error := refusal(program, key)) is not None:
        return error
    group, _, rest = key.partition(".")
    in_group = bool(rest) and group in groups_of(program)
    if in_group and (having := [one for one in options(group) if rest in all_keys(values_of(group, one))]):
        now = next((text for text in choice if text.startswith(f"{group}=")), f"this {group}")
        return UserError(
            f"Expected a setting of {now}, got {key!r}, which belongs to {group}={' or '.join(having[:4])}; {SEE_HELP}."
        )
    last = key.rsplit(".", maxsplit=1)[-1]  # as in `steps` and, where there is no group `data`, `data.root`
    ends = (k for k in known if not in_group and k.endswith(f".{last}") and not k.startswith("data.module."))
    close = sorted(ends, key=lambda k: k.count(".")) or difflib.get_close_matches(
        key, dict.fromkeys(known), n=3, cutoff=0.6
    )
    hint = f"did you mean {' or '.join(close[:3])}?" if close else f"{SEE_HELP}."
    return UserError(f"Expected a setting that exists, got {key!r}; {hint}")


def _of_another(program: str, choice: str) -> UserError | None:
    """The message for an option that this program cannot compose; None if it can."""
    able = []
    for name in REFUSES:
        with suppress(*COMPOSING):
            composed(name, [choice])
            able.append(name)
    if program in able:
        return None
    group, _, option = choice.partition("=")
    which = f"belongs to {' and '.join(f'{name}.py' for name in able)}" if able else "does not fit"
    return UserError(f"Expected an option of `{group}` for {program}.py, got {option!r}, which {which}.")


def groups_of(program: str) -> list[str]:
    """The groups of options of a program."""
    defaults = OmegaConf.load(config_dir() / f"{program}.yaml").get("defaults", [])
    return [str(group) for default in defaults if isinstance(default, DictConfig) for group in default]
