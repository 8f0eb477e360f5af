"""Checks every setting before anything is loaded; the settings that the programs read themselves, or refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tpt.cli.command_line import swept_values
from tpt.cli.errors import NO_SKIPPING, Rules
from tpt.cli.options import is_group
from tpt.cli.quoting import setting as quoted
from tpt.cli.settings.parts import HYDRAS, REFERENCE, leaves, parts, target_of, walk
from tpt.errors import Count, Filled, Seed, UserError, did_you_mean, fits, in_words

SHOWN = 60  # most characters of a value in a message
NEEDED = ("callbacks.records", "callbacks.processes")  # needed by every run to have results
# Settings that the programs themselves read.
OF_PROGRAMS: dict[Any, tuple[str, ...]] = {
    Seed: ("seed",),
    Count: ("batch_size", "trainer.num_nodes"),
    Count | None: ("threads", "shots.k"),
    bool: ("trust", "public_layout", "print_config"),
    dict: ("learned.targets",),
    list: ("learned.targets.*", "tags"),
    str | None: ("resume", "notes"),
    Filled: ("name",),
    Filled | None: ("learned.*", "optimized_metric"),
}
# Settings of Lightning's trainer that the programs refuse, by the reason.
_PARTIAL = ("limit_test_batches", "fast_dev_run", "overfit_batches")
_IDLE = ("max_*", "min_*", "limit_*", "*val*", "gradient_clip_*", "accumulate_grad_batches")
_BOTH = {
    "it would disable the records and checkpoints": ("barebones",),
    "the program has its own; see --help": ("callbacks", "logger"),
}
REFUSES = {
    "test_time": {
        "other precisions change the numbers; use backbone.precision=bf16 or fp16": ("precision",),
        "it would test only part of the images, and no table would say so; use data.limit": _PARTIAL,
        "it has no effect on a test": _IDLE,
        **_BOTH,
    },
    "train_coop": {
        "the learner's schedule has this length; use learner.epochs": ("max_epochs", "min_epochs"),
        "it has no effect on training": ("inference_mode", "limit_test_batches"),
        **_BOTH,
    },
}
# What settings are called in a program, for error messages of the data readers, which both programs share.
WORDS: dict[str, Rules] = {
    "train_coop": (
        NO_SKIPPING,
        (r"(pass )?data\.on_bad_image=skip( to leave such files out and count them)?", "remove it"),
        (r"\bdata\.(root|class_names|num_workers|classes|path|split|limit)\b", r"shots.\1"),
    )
}


def refuse_wrong(cfg: DictConfig, program: str, overrides: Sequence[Override] = (), debug: bool = False) -> None:
    """Raises a UserError at the first wrong setting; options of `debug`, such as `debug=limit`, may skip work."""
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    _refuse_overrides(config, overrides)
    hints = hints_of_settings(config)
    for key, value in walk(config):
        for why, names in () if debug else REFUSES[program].items():
            if any(fnmatchcase(key, f"trainer.{name}") for name in names):
                raise UserError(f"Expected a setting that {program}.py takes, got `{key}`: {why}.")
        if value == "???":
            raise UserError(f"Expected a value for `{key}`, got none; add {key}=VALUE.")
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(
            f"Expected references to settings that exist in `{error.full_key}`, got: {str(error).splitlines()[0]}; "
            "write \\${ if these characters are meant literally."
        ) from error
    for key, allowed in hints.items():
        value = OmegaConf.select(cfg, key)
        refuse_value(key, allowed, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
    _refuse_optimizers(config)


def hints_of_settings(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The annotations of the arguments that each setting becomes, by dotted key; a UserError for a wrong argument."""
    hints: dict[str, list[Any]] = {}
    for part, node in parts(config):
        if (target := target_of(str(node["_target_"]), f"{part}._target_")) is None:
            continue
        needs = [f"{part}.{name}" for name in target.required if name not in node]
        if needs and not node.get("_partial_") and "_args_" not in node:
            raise UserError(f"Expected a value for `{needs[0]}`, got none; add +{needs[0]}=VALUE.")
        for name, value in node.items():
            if name in HYDRAS:
                continue
            if name not in target.hints and not target.open:
                near = did_you_mean(name, target.hints)
                raise UserError(f"Expected settings that {target.name} accepts in `{part}`, got {name!r}; {near}")
            reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if (hint := target.hints.get(name)) is not None:
                hints.setdefault(reference[1] if reference else f"{part}.{name}", []).append(hint)
    return hints | {key: [hint] for key, _ in walk(config) if (hint := program_hint(key)) is not None}


def refuse_value(key: str, hints: Iterable[Any], value: Any) -> None:
    """Raises a UserError if a value does not fit the annotations of its setting."""
    for hint in hints:
        if not fits(hint, value):
            shown = _shown(value)
            text = isinstance(value, bool | int | float) and fits(hint, shown)
            hint_ = f"; for a text, write {quoted(key, shown)}" if text else ""
            raise UserError(f"Expected `{key}` {in_words(hint)}, got {shown}{hint_}.")


def check_sweep(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Raises a UserError at the first value of a sweep that a setting in one of its configurations does not allow."""
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    hints = hints_of_settings(config)
    for override in overrides:
        key = override.key_or_group
        for value in swept_values(override) if override.is_sweep_override() and not is_group(key) else ():
            refuse_value(key, hints.get(key, ()), value)


def _refuse_overrides(config: Mapping[str, Any], overrides: Sequence[Override]) -> None:
    """Raises if the command line removes what every run needs, or gives what nothing reads or what builds a part."""
    groups = tuple(f"{part}." for part, _ in parts(config))
    text = str(config)
    idle = [
        key
        for key, value in leaves(config)
        if not (f"{key}.".startswith(groups) or program_hint(key) or f"${{{key}}}" in text or value == {})
    ]
    for override in (one for one in overrides if not one.is_hydra_override()):
        key = override.key_or_group
        group, _, name = key.rpartition(".")
        if override.is_delete() and (key in NEEDED or f"{group}." not in (*groups, "callbacks.", "logger.")):
            raise UserError(
                f"Expected ~ before a setting with a default, a callback or a logger, got {f'~{key}'!r}, which every "
                "run needs; give another value or option."
            )
        if name in HYDRAS and name != "_target_":
            raise UserError(f"Expected a setting, got {key!r}, which defines how a part is built; do not change it.")
        added = override.type in (OverrideType.ADD, OverrideType.FORCE_ADD)
        for unread in (one for one in idle if one == key or (added and one.startswith(f"{key}."))):
            raise UserError(
                f"Expected a setting that exists, got {unread!r}, which nothing reads; see --help, and leave out a "
                "group with ~."
            )


def _refuse_optimizers(config: Mapping[str, Any]) -> None:
    """Raises if a torch optimizer refuses its settings, whose ranges its annotations do not give."""
    for key, node in parts(config):
        target = str(node["_target_"])
        if target.startswith("torch.optim."):
            import torch  # noqa: PLC0415 -- takes time to load

            own = {name: value for name, value in node.items() if name not in HYDRAS and not isinstance(value, str)}
            try:
                get_object(target)([torch.nn.Parameter(torch.zeros(1))], **{"lr": 1.0} | own)
            except (ValueError, TypeError) as error:
                raise UserError(f"Expected settings of {target} in `{key}`, got: {error}.") from error


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def program_hint(key: str) -> Any:
    """The limits of a setting that the programs themselves read; None for any other."""
    return next((hint for hint, names in OF_PROGRAMS.items() if any(fnmatchcase(key, name) for name in names)), None)
