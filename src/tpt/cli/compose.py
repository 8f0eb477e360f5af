"""Builds the parts of a run from its configuration: backbone, views, method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from tpt.cli.command_line import composed
from tpt.cli.errors import cause_of
from tpt.cli.options import choose, own_options, values_of
from tpt.cli.quoting import for_hydra
from tpt.cli.resume import enter, resumable
from tpt.cli.settings.parts import leaves
from tpt.clip.model import CLIP
from tpt.clip.weights.pretrained import usable_device
from tpt.engine.callbacks.processes import refuse_copies
from tpt.engine.tasks.method_maker import MethodMaker
from tpt.errors import UserError
from tpt.methods import Method


@dataclass(frozen=True)
class Parts:
    """The parts of a run that produce predictions."""

    clip: CLIP
    views: Any  # image, identity -> views; or two such makers, for datasets with and without `augmix`
    make_method: MethodMaker

    @staticmethod
    def of(cfg: DictConfig, clip: CLIP | None = None, device: str | torch.device | None = None) -> Parts:
        """Builds the parts; without a `device`, a given `clip` stays where it is, and another takes a GPU if any."""
        try:
            if clip is None:
                device = device or ("cuda" if torch.cuda.is_available() else "cpu")
                clip = instantiate(cfg.backbone, device=str(device))
            elif device is not None:
                clip = clip.to(usable_device(device))
            views = instantiate(cfg.views)(**clip.preprocessing)
            return Parts(clip, views, MethodMaker(clip, instantiate(cfg.context), instantiate(cfg.method)))
        except InstantiationException as error:
            raise cause_of(error) from error


def compose(
    groups: Iterable[tuple[str, str]] = (), values: Iterable[tuple[str, Any]] = (), overrides: Sequence[str] = ()
) -> DictConfig:
    """Composes the configuration of test_time.py from options (see `choose`), overrides and values, or a UserError."""
    given = [*choose(groups), *overrides]
    for key, value in values:
        if "${" in str(value):  # Hydra resolves twice, so that quoting cannot protect it
            raise UserError(f"Expected a value without '${{' for `{key}`, got {value!r}; rename it.")
        given.append(f"{key}={for_hydra(value)}")
    cfg = composed("test_time", given)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    for key in (key for key, value in leaves(plain) if value == "???"):
        raise UserError(f"Expected a value for `{key}`, got none; give one.")
    return cfg


def compose_again(folder: Path, added: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run of test_time.py as it was started, with `added` settings; see `enter`."""
    begun = resumable(folder, "test_time", added)
    if begun.sweep:
        raise UserError(f"Expected the directory of one run, got a sweep, {folder}; choose a run in it.")
    settings = [*begun.settings, *enter(begun, added)]
    with own_options(*begun.folders):
        cfg = composed(begun.program, settings, hydras=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


def trainer_of(cfg: DictConfig, **parts: Any) -> Trainer:
    """Builds Lightning's trainer; raises a UserError if it refuses a setting, or the strategy would fork processes."""
    try:
        trainer: Trainer = instantiate(cfg.trainer, **parts)
    except InstantiationException as error:
        inner, said = cause_of(error), "Lightning cannot run these `trainer` settings on this machine"
        raise inner if isinstance(inner, UserError) else UserError(f"{said}: {inner}") from error
    refuse_copies(trainer)
    return trainer


def method_class(method: str) -> type[Method]:
    """The class of a method of `conf/method`, with its `kind` and `selects`; `Method` if a function builds it."""
    made = get_object(values_of("method", method)["_target_"])
    return made if isinstance(made, type) and issubclass(made, Method) else Method


def picture_method(method: str, program: str) -> type[Method]:
    """The class of a method that adapts to each picture alone; a UserError, which names the program, for any other."""
    made = method_class(method)
    if made.kind == "stream":
        raise UserError(
            f"Expected a method that adapts to each picture alone, got {method}, which learns from earlier "
            f"pictures, so answers of {program} would depend on the order; use tpt-test, or its class in Python."
        )
    return made
