"""What is wrong with a command line, as one sentence that names the nearest thing that exists.

A setting or option is found to be wrong by comparing it with what the configuration has, never by reading a message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tpt.cli.command_line import SEE_HELP, CommandLine, composed, first_job, with_options, written
from tpt.cli.options import no_option, options, own_folders, own_options, values_of
from tpt.cli.places import config_dir
from tpt.cli.quoting import setting as quoted
from tpt.cli.resume import continued
from tpt.cli.settings.programs import refused
from tpt.errors import UserError

COMPOSING = (HydraException, OmegaConfBaseException)  # errors of libraries that read what a user writes
ADDING = ("experiment", "search", "logger", "callbacks", "debug")  # groups whose options add up
PROGRAMS = ("test_time", "train_coop")
MOST = 64  # choices of options in a sweep that are tried


def read(program: str, arguments: Sequence[str]) -> CommandLine:
    """The command line of a program, which is known to compose.

    Args:
        program: name of its configuration.
        arguments: of the command line; `resume=DIRECTORY` stands for those of the run that it continues.

    Raises:
        UserError: a setting or option on it does not exist or cannot be read, or it cannot be composed.
    """
    line = CommandLine.read(continued(arguments, program))
    with own_options(*line.own):
        refuse_odd_choices(line.overrides, program, line.multirun or line.asks_for_help)
        try:
            first_job(program, line)
        except COMPOSING as error:
            raise mistake(error, program, line.overrides) from error
    return line


def refuse_odd_choices(overrides: Sequence[Override], program: str, multirun: bool) -> None:
    """Raises a UserError at the first setting with several values, or group whose choice is no option's name.

    Args:
        overrides: of the command line.
        program: name of its configuration.
        multirun: whether several values are several jobs.
    """
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
            raise UserError(f"Expected an option of `{key}`, got {text}; there are {', '.join(options(key))}.")
        if key not in ADDING:
            raise UserError(
                f"Expected one option of `{key}`, got {text}, of which the last would overwrite the others; choose "
                f"one, or add -m and write {key}={','.join(value)} to try each."
            )


def in_a_sentence(error: Exception, program: str = PROGRAMS[0], overrides: Sequence[Override] = ()) -> Exception:
    """The error to report: the cause of one of Hydra's, or what is wrong with the command line that it read.

    Args:
        error: any.
        program: name of its configuration.
        overrides: of the command line.
    """
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, ValueError) and str(error).startswith("Unable to configure"):  # Python's logging
        return UserError(f"Expected a `hydra.job_logging` that works, got: {error} ({error.__cause__}).")
    if not isinstance(error, COMPOSING) or isinstance(error, InstantiationException):
        return error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return no_option(group, option, error.options or ())
    return _first_wrong(program, overrides) or error


def mistake(error: Exception, program: str, overrides: Sequence[Override]) -> UserError:
    """The sentence on a configuration that cannot be composed; Hydra's own where there is none of ours."""
    found = in_a_sentence(error, program, overrides)
    return found if isinstance(found, UserError) else UserError(str(found).strip().partition("\n")[0])


def _first_wrong(program: str, overrides: Sequence[Override]) -> UserError | None:
    """The first setting with which the configuration cannot be composed; None if there is none."""
    groups = groups_of(program)
    own = [override for override in with_options(overrides) if not override.is_hydra_override()]
    chosen = [override for override in own if override.key_or_group in groups and not override.is_delete()]
    changed = [o for o in own if o not in chosen and o.type in (OverrideType.CHANGE, OverrideType.DEL)]
    for choice in islice(product(*map(written, chosen)), MOST):
        try:
            cfg = composed(program, choice, own_folders())
        except COMPOSING:
            return next(filter(None, (_of_another(program, one) for one in choice)), None)
        known = [*keys_of(OmegaConf.to_container(cfg, resolve=False)), *groups]
        for override in changed:
            if override.key_or_group not in known:
                return unknown(override.key_or_group, program, known, choice)
        for override in own:
            if override.type is OverrideType.ADD and override.key_or_group in known:
                text = str(override.input_line).lstrip("+")
                return UserError(f"Expected + before what does not exist yet, got +{text}; write {text}.")
        for override in (one for one in own if one not in chosen):
            if any(override.key_or_group == key or override.key_or_group.startswith(f"{key}.") for key in known):
                try:
                    composed(program, [*choice, next(written(override))], own_folders())
                except COMPOSING:
                    key, value = override.key_or_group, override.get_value_element_as_str()
                    return UserError(f"Expected for `{key}` the kind of value that it has, got {value}; {SEE_HELP}.")
    return None


def unknown(key: str, program: str, known: Sequence[str], choice: Sequence[str] = ()) -> UserError:
    """The sentence on a setting that does not exist.

    Args:
        key: of it, dotted.
        program: name of its configuration.
        known: settings that exist.
        choice: options that are chosen, as on the command line.
    """
    if (why := refused(program, key)) is not None:
        return UserError(f"Expected a setting that {program}.py takes, got `{key}`: {why}.")
    group, _, rest = key.partition(".")
    in_group = bool(rest) and group in groups_of(program)
    if in_group and (having := [one for one in options(group) if _has(values_of(group, one), rest)]):
        now = next((text for text in choice if text.startswith(f"{group}=")), f"this {group}")
        return UserError(
            f"Expected a setting of {now}, got {key!r}, which is one of {group}={' or '.join(having[:4])}; {SEE_HELP}."
        )
    last = key.rsplit(".", maxsplit=1)[-1]  # as in `steps` and, where there is no group `data`, `data.root`
    ends = (k for k in known if not in_group and k.endswith(f".{last}") and not k.startswith("data.module."))
    close = sorted(ends, key=lambda k: k.count(".")) or difflib.get_close_matches(
        key, dict.fromkeys(known), n=3, cutoff=0.6
    )
    hint = f"did you mean {' or '.join(close[:3])}?" if close else f"{SEE_HELP}."
    return UserError(f"Expected a setting that exists, got {key!r}; {hint}")


def _of_another(program: str, choice: str) -> UserError | None:
    """The sentence on an option that only another program can compose; None if it is none."""
    able = [name for name in PROGRAMS if _composes(name, choice)]
    if program in able:
        return None
    group, _, option = choice.partition("=")
    which = f"is one of {' and '.join(f'{name}.py' for name in able)}" if able else "does not fit"
    return UserError(f"Expected an option of `{group}` for {program}.py, got {option!r}, which {which}.")


def _composes(program: str, choice: str) -> bool:
    try:
        composed(program, [choice], own_folders())
    except COMPOSING:
        return False
    return True


def groups_of(program: str) -> list[str]:
    """The groups of options that a program chooses from."""
    defaults = OmegaConf.load(config_dir() / f"{program}.yaml").get("defaults", [])
    return [str(group) for default in defaults if isinstance(default, DictConfig) for group in default]


def keys_of(node: Any, prefix: str = "") -> Iterator[str]:
    """Every setting and group of settings that may be given, dotted."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if not str(key).startswith("_"):
            yield f"{prefix}{key}"
            yield from keys_of(value, f"{prefix}{key}.")


def _has(content: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    below = content.get(first)
    return first in content and (not rest or (isinstance(below, dict) and _has(below, rest)))
