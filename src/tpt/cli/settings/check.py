"""Every setting is checked before anything is loaded; a wrong one is named in one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Glob, Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from tpt.cli.quoting import setting as quoted
from tpt.cli.settings.kinds import FLAG, LIST, NULL, NUMBER, TEXT, WHOLE, Kind, type_of
from tpt.cli.settings.ranges import refused
from tpt.cli.settings.register import HYDRAS, Register
from tpt.errors import UserError

SHOWN = 60  # characters of a value in an error
_OFF = "give its settings one by one, or leave it out with ~"


def refuse_wrong(cfg: DictConfig, program: str, overrides: Sequence[Override] = (), debug: bool = False) -> None:
    """Raises a UserError at the first setting that is unknown, refused, of the wrong kind or out of range.

    Args:
        cfg: the composed configuration.
        program: `test_time` or `train_coop`.
        overrides: of the command line, for what is added by `+`.
        debug: whether a part of the work is asked for by name, as by `debug=limit`.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    register = Register(plain)
    _refuse_left_out(register, overrides)
    _refuse_unknown(register, program, debug)
    _refuse_idle(register, overrides, cfg)
    for key in register.own():
        value = OmegaConf.select(cfg, key)
        refuse(register, key, OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value)


def refuse(register: Register, key: str, value: Any) -> None:
    """Raises a UserError if a setting may not have this value."""
    found = register.settings.get(key)
    if found is None or found.kind is None or found.kind.accepts(value):
        return
    raise UserError(f"Expected `{key}` {found.kind.expected}, got {_shown(value)}{_hint(key, found.kind, value)}.")


def check_sweep(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Raises a UserError at the first value of a sweep that a setting may not have, before any job.

    Args:
        cfg: the configuration of one of its jobs.
        overrides: of the sweep.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    register = Register(plain)
    for override in overrides:
        if override.is_sweep_override() and override.key_or_group in register.settings:
            _refuse_interval(register, override)
            for value in values_of(override):
                refuse(register, override.key_or_group, _plain(value))


def _refuse_interval(register: Register, override: Override) -> None:
    """Raises if a sweeper would draw numbers between two for a setting that takes whole ones."""
    key, kind = override.key_or_group, register.settings[override.key_or_group].kind
    if override.is_interval_sweep() and kind is not None and WHOLE in kind.types and NUMBER not in kind.types:
        low, high = (int(end) for end in values_of(override))
        if isinstance(values_of(override)[0], float):  # int(interval(1, 4)) draws whole numbers
            raise UserError(
                f"Expected whole numbers in the sweep of `{key}`, got an interval, which has others between; "
                f"write '{key}=range({low},{high + 1})'."
            )


def values_of(override: Override, text: bool = False) -> list[Any]:
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


def _refuse_left_out(register: Register, overrides: Sequence[Override]) -> None:
    """Raises if `~key` takes away what no run can do without; first, since what refers to it is idle then."""
    for override in overrides:
        if override.is_delete() and not register.may_be_left_out(key := override.key_or_group):
            raise UserError(
                f"Expected ~ before a setting that has a default, a callback or a logger, got {f'~{key}'!r}, without "
                "which there is no run; give another value or option."
            )


def _refuse_unknown(register: Register, program: str, debug: bool) -> None:
    for key in register.settings:
        if not debug and (why := refused(program, key)) is not None:
            raise UserError(f"Expected a setting that {program}.py takes, got `{key}`: {why}.")
    for key, target in register.unknown.items():
        name = key.rsplit(".", maxsplit=1)[-1]
        close = difflib.get_close_matches(name, target.kinds, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else "see --help for all settings."
        section = key.removesuffix(f".{name}")
        raise UserError(f"Expected settings that {target.name} knows in `{section}`, got {name!r}; {hint}")


def _refuse_idle(register: Register, overrides: Sequence[Override], cfg: DictConfig) -> None:
    """Raises if the command line gives a setting that nothing reads, or touches what makes a part a part."""
    for override in overrides:
        key = override.key_or_group
        name = key.rsplit(".", maxsplit=1)[-1]
        if override.is_hydra_override() or override.is_delete():
            continue
        if name in HYDRAS and name != "_target_":
            raise UserError(f"Expected a setting, got {key!r}, which says how a part is made; leave it as it is.")
        if name == "_target_" and not isinstance(override.value(), str):
            raise UserError(f"Expected the dotted name of a class or function in `{key}`, got {override.value()!r}.")
        idle = [known for known in register.settings if f"{known}.".startswith(f"{key}.") and not register.reads(known)]
        if idle and override.type in (OverrideType.ADD, OverrideType.FORCE_ADD):
            raise UserError(
                f"Expected a setting that exists, got {idle[0]!r}, which nothing reads; see --help for all settings."
            )
        if idle == [key] and not OmegaConf.is_dict(OmegaConf.select(cfg, key)):  # as `logger=none` is, without settings
            raise UserError(f"Expected `{key}` to be a group of settings, got {_shown(override.value())}; {_OFF}{key}.")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _hint(key: str, kind: Kind, value: Any) -> str:
    """What to write instead, if that can be told from the value."""
    got = type_of(value)
    if got == NUMBER and value == value // 1 and kind.accepts(int(value)):  # 4.0
        return f", which has a point; write {key}={int(value)}"
    if got in (WHOLE, NUMBER, FLAG) and TEXT in kind.types and not kind.words:
        return f"; if it is a name, write {quoted(key, _shown(value))}"
    if got == TEXT and re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?", value) and {WHOLE, NUMBER} & kind.types:
        return f", a text in quotes; write {key}={value}"
    if got == LIST and LIST not in kind.types:
        return "; a list is one value: to try several, add -m and leave out the brackets"
    if got == NULL and kind.words:
        return f"; write {key}={kind.words[0]}"
    return ""
