"""Checks every setting before anything is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from tpt.cli.command_line import SEE_HELP, swept_values
from tpt.cli.quoting import setting as quoted
from tpt.cli.settings.programs import refusal
from tpt.cli.settings.register import Register
from tpt.cli.settings.walk import HYDRAS, leaves, nodes
from tpt.errors import UserError, fits, in_words

SHOWN = 60  # most characters of a value in a message
_OFF = "give its settings one by one, or leave it out with ~"


def refuse_wrong(cfg: DictConfig, program: str, overrides: Sequence[Override] = (), debug: bool = False) -> None:
    """Raises a UserError at the first setting that is unknown, refused, of the wrong type or out of range.

    Args:
        cfg: the composed configuration.
        program: `test_time` or `train_coop`.
        overrides: of the command line, to find settings added with `+`.
        debug: whether a `debug` option, such as `debug=limit`, is chosen, which may skip part of the work.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    register = Register(plain)
    _refuse_left_out(register, overrides)
    _refuse_unknown(register, program, debug)
    _refuse_idle(register, overrides, cfg)
    _refuse_unfinished(register, plain)
    for key in register.own():
        value = OmegaConf.select(cfg, key)
        refuse_value(
            register, key, OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value
        )
    _refuse_optimizers(plain)


def _refuse_optimizers(config: Any) -> None:
    """Raises if a torch optimizer refuses its settings, whose ranges its annotations do not give."""
    for key, node in nodes(config):
        target = str(node.get("_target_"))
        if target.startswith("torch.optim."):
            import torch  # noqa: PLC0415 -- takes time to load

            own = {name: value for name, value in node.items() if name not in HYDRAS and not isinstance(value, str)}
            try:
                get_object(target)([torch.nn.Parameter(torch.zeros(1))], **{"lr": 1.0} | own)
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"Expected valid settings of {target} in `{key.removesuffix('.')}`, got: {error}."
                ) from error


def refuse_value(register: Register, key: str, value: Any) -> None:
    """Raises a UserError if a setting does not allow this value."""
    for hint in register.hints.get(key, ()):
        if not fits(hint, value):
            raise UserError(f"Expected `{key}` {in_words(hint)}, got {_shown(value)}{_hint(key, hint, value)}.")


def check_sweep(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Raises a UserError at the first value of a sweep that a setting in one of its configurations does not allow."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    register = Register(plain)
    for override in overrides:
        if override.is_sweep_override() and override.key_or_group in register.hints:
            _refuse_interval(register, override)
            for value in swept_values(override):
                refuse_value(register, override.key_or_group, value)


def _refuse_interval(register: Register, override: Override) -> None:
    """Raises if a sweeper would draw floats for a setting that takes integers."""
    key = override.key_or_group
    if override.is_interval_sweep() and any(not fits(hint, 1.5) and fits(hint, 1) for hint in register.hints[key]):
        low, high = swept_values(override)
        if isinstance(low, float):  # int(interval(1, 4)) draws integers
            raise UserError(
                f"Expected integers in the sweep of `{key}`, got an interval, which also contains fractions; "
                f"write '{key}=range({int(low)},{int(high) + 1})'."
            )


def _refuse_left_out(register: Register, overrides: Sequence[Override]) -> None:
    """Raises if `~key` removes what every run needs; checked first, because other checks depend on it."""
    for override in overrides:
        if override.is_delete() and not register.may_be_left_out(key := override.key_or_group):
            raise UserError(
                f"Expected ~ before a setting with a default, a callback or a logger, got {f'~{key}'!r}, which every "
                "run needs; give another value or option."
            )


def _refuse_unfinished(register: Register, config: Mapping[str, Any]) -> None:
    """Raises if a required value, class or setting is missing."""
    if missing := [key for key, value in leaves(config) if value == "???"]:
        raise UserError(f"Expected a value for `{'`, `'.join(missing)}`, got none; add {missing[0]}=VALUE.")
    for problem in register.unfinished:
        raise UserError(problem)


def _refuse_unknown(register: Register, program: str, debug: bool) -> None:
    for key in register.hints:
        if not debug and (error := refusal(program, key)) is not None:
            raise error
    for key, target in register.unknown.items():
        name = key.rsplit(".", maxsplit=1)[-1]
        close = difflib.get_close_matches(name, target.hints, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else f"{SEE_HELP}."
        section = key.removesuffix(f".{name}")
        raise UserError(f"Expected settings that {target.name} accepts in `{section}`, got {name!r}; {hint}")


def _refuse_idle(register: Register, overrides: Sequence[Override], cfg: DictConfig) -> None:
    """Raises if the command line gives a setting that nothing reads, or changes how a part is built."""
    for override in overrides:
        key = override.key_or_group
        name = key.rsplit(".", maxsplit=1)[-1]
        if override.is_hydra_override() or override.is_delete():
            continue
        if name in HYDRAS and name != "_target_":
            raise UserError(f"Expected a setting, got {key!r}, which defines how a part is built; do not change it.")
        if name == "_target_" and not isinstance(override.value(), str):
            raise UserError(f"Expected the dotted name of a class or function in `{key}`, got {override.value()!r}.")
        idle = [known for known in register.hints if f"{known}.".startswith(f"{key}.") and not register.reads(known)]
        if idle and override.type in (OverrideType.ADD, OverrideType.FORCE_ADD):
            raise UserError(f"Expected a setting that exists, got {idle[0]!r}, which nothing reads; {SEE_HELP}.")
        if idle == [key] and not OmegaConf.is_dict(
            OmegaConf.select(cfg, key)
        ):  # groups without settings, such as `logger=none`
            raise UserError(f"Expected `{key}` to be a group of settings, got {_shown(override.value())}; {_OFF}{key}.")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _hint(key: str, hint: Any, value: Any) -> str:
    """What to write instead, if the value suggests it."""
    match value:
        case bool() | int() | float():
            if isinstance(value, float) and value == value // 1 and fits(hint, int(value)):  # 4.0
                return f", which has a decimal point; write {key}={int(value)}"
            return f"; if it is a name, write {quoted(key, _shown(value))}" if fits(hint, str(value)) else ""
        case str() if re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?", value):
            number = float(value) if {*".e"} & {*value} else int(value)
            return f", a quoted text; write {key}={value}" if fits(hint, number) else ""
        case list():
            return "; a list is one value: to try several values, add -m and remove the brackets"
        case _:
            return ""
