"""Hydra's sweep around a job."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from tpt.runs.sweep import Sweep


def overrides() -> list[Override]:
    """What the sweep at hand was started with, its experiment's sweep first; none outside a sweep."""
    now: Any = HydraConfig.get()
    saved = Path(now.sweep.dir) / "multirun.yaml"
    if now.mode is not RunMode.MULTIRUN or not saved.is_file():
        return []
    sweep = OmegaConf.load(saved)
    of_experiments = OmegaConf.select(sweep, "hydra.sweeper.params", default=None) or {}
    given = [f"{name}={values}" for name, values in of_experiments.items()]
    given += OmegaConf.select(sweep, "hydra.overrides.task", default=[])
    return list(OverridesParser.create().parse_overrides(given))


def swept(key: str) -> list[Any]:
    """The values that the sweep at hand gives to a setting; none where it gives it none, and outside a sweep."""
    values: list[Any] = []
    for override in overrides():
        if override.key_or_group == key:  # of several, Hydra takes the last
            values = _values(override)
    return values


def _values(override: Override) -> list[Any]:
    """What a sweep gives a setting; of an interval, from which a sweeper draws, its ends."""
    if override.is_interval_sweep():
        interval: Any = override.value()
        return [interval.start, interval.end]
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def at_hand() -> Sweep | None:
    """The sweep that this job belongs to; None outside a sweep."""
    now: Any = HydraConfig.get()
    if now.mode is not RunMode.MULTIRUN:
        return None
    chosen = now.runtime.choices
    given = {override.get_key_element(): override for override in overrides()}  # of several, Hydra takes the last
    varied = {key for key, override in given.items() if override.is_sweep_override()}
    return Sweep(
        folder=Path(now.sweep.dir).resolve(),
        job=int(now.job.num),
        jobs=_jobs(list(given.values())) if chosen.get("hydra/sweeper") == "basic" else None,
        settings=tuple(o for o in now.overrides.task if o.split("=", maxsplit=1)[0] in varied),
        in_turn=chosen.get("hydra/launcher") == "basic",
    )


def _jobs(given: list[Override]) -> int | None:
    """How many jobs Hydra's own sweeper makes of overrides: one for each of their combinations."""
    try:
        return math.prod(sum(1 for _ in o.sweep_string_iterator()) for o in given if o.is_sweep_override())
    except HydraException:  # a pattern, of which only Hydra's own search path knows the matches
        return None
