"""The parts of a run, made of the configuration without running it: backbone, views, method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tpt.cli.options import choose, own_folders, values_of
from tpt.cli.places import config_dir
from tpt.cli.quoting import searched
from tpt.cli.resume import Start
from tpt.clip.model import CLIP
from tpt.data import ImageDataset
from tpt.engine.tasks import MethodMaker
from tpt.errors import UserError
from tpt.methods import Method

USED = ("backbone", "context", "method", "views")  # sections that parts are made of


@dataclass(frozen=True)
class Parts:
    """The parts that make answers.

    Args:
        clip: the frozen backbone, where it computes.
        views: image, identity -> views; or one maker for datasets whose `augmix` is true and one for the others.
        make_method: dataset -> method.
    """

    clip: CLIP
    views: Any
    make_method: MethodMaker

    @staticmethod
    def of(cfg: DictConfig, clip: CLIP | None = None, device: str | torch.device | None = None) -> Parts:
        """The parts that a configuration describes.

        Args:
            cfg: as `compose` gives it.
            clip: a backbone in place of the one that is described.
            device: where to compute; None leaves a given backbone where it is, and else takes a GPU if there is one.

        Raises:
            UserError: a component does not know a setting, or refuses it.
        """
        for section in USED if clip is None else USED[1:]:
            for key in sorted(OmegaConf.missing_keys(cfg[section])):
                raise UserError(f"Expected a value for `{key}`, got none; give one.")
        try:
            if clip is None:
                device = device or ("cuda" if torch.cuda.is_available() else "cpu")
                clip = instantiate(cfg.backbone, device=str(device))
            elif device is not None:
                clip = clip.to(device)
            views = instantiate(cfg.views)(**clip.preprocessing)
            return Parts(clip, views, MethodMaker(clip, instantiate(cfg.context), instantiate(cfg.method)))
        except InstantiationException as error:
            raise UserError(_first_line(error.__cause__ or error)) from error

    def maker_of(self, dataset: ImageDataset) -> Any:
        """What makes the views of a dataset's images."""
        return self.views[dataset.augmix] if isinstance(self.views, Mapping) else self.views

    def on_one_view(self) -> Parts:
        """The same with view 0 alone if the method uses no other view, so that no other is made."""
        if self.make_method.about()["selects"]:
            return self
        makers = self.views
        one = {key: maker.more(1) for key, maker in makers.items()} if isinstance(makers, Mapping) else makers.more(1)
        return replace(self, views=one)


def compose(
    groups: Iterable[tuple[str, str]] = (), values: Iterable[tuple[str, Any]] = (), overrides: Sequence[str] = ()
) -> DictConfig:
    """The configuration of test_time.py.

    Args:
        groups: group -> option; a backbone that is no option of `conf/backbone` is a model name of open_clip.
        values: dotted key -> value, taken as it is.
        overrides: as on the command line.

    Raises:
        UserError: there is no such option or setting.
    """
    given = [*searched(own_folders()), *choose(groups)]
    try:
        with _initialized():
            cfg = hydra.compose("test_time", given)
            cfg = _overridden(cfg, given, overrides)
        for key, value in values:
            if OmegaConf.select(cfg, key, throw_on_missing=False) is None and not _has(cfg, key):
                raise UserError(f"Expected a setting that exists, got {key!r}; {_about(key, cfg)}.")
            with open_dict(cfg):
                OmegaConf.update(cfg, key, _literal(key, value))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_first_line(error)) from error
    return cfg


def compose_again(begun: Start, added: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run as it was started, Hydra's own part included.

    Args:
        begun: how, as `tpt.cli.resume.resumable` gives it.
        added: more settings, as on the command line.
    """
    folders = searched([Path(folder) for folder in begun.folders])
    with _initialized():
        cfg = hydra.compose(begun.program, [*folders, *begun.settings, *added], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


@contextmanager
def _initialized() -> Iterator[None]:
    """Hydra with our configuration, beside that of a program or notebook which uses Hydra itself."""
    theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = theirs


def _overridden(cfg: DictConfig, given: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """The configuration with more settings, as on the command line."""
    if not overrides:
        return cfg
    try:
        return hydra.compose("test_time", [*given, *overrides])
    except HydraException as error:
        unknown = re.match(r"Could not override '([^']+)'", str(error))
        if unknown is None:
            raise
        raise UserError(f"Expected a setting that exists, got {unknown[1]!r}; {_about(unknown[1], cfg)}.") from error


def looks_at_one_view(method: str) -> bool:
    """Whether an option of `conf/method` uses view 0 alone, so that other views would be wasted."""
    made = _made_by(method)
    return made is not None and not made.selects


def learns_along_stream(method: str) -> bool:
    """Whether an option of `conf/method` learns from one image for the next."""
    made = _made_by(method)
    return made is not None and made.kind == "stream"


def _made_by(method: str) -> type[Method] | None:
    """The class of an option of `conf/method`; None if a function makes it."""
    made = get_object(values_of("method", method)["_target_"])
    return made if isinstance(made, type) and issubclass(made, Method) else None


def refuse_stream(method: str, program: str) -> None:
    """Raises a UserError for an option of `conf/method` that learns along the stream.

    Args:
        method: the option.
        program: what answers each picture alone.
    """
    if learns_along_stream(method):
        raise UserError(
            f"Expected a method that looks at each picture alone, got {method}, which learns from others before, so "
            f"that answers of {program} would depend on the order; test it with tpt-test, or call its class in Python."
        )


def _has(cfg: DictConfig, key: str) -> bool:
    *path, last = key.split(".")
    node = OmegaConf.select(cfg, ".".join(path)) if path else cfg
    return isinstance(node, DictConfig) and last in node.keys()  # noqa: SIM118 -- `in` is false for missing values


def _about(key: str, cfg: DictConfig) -> str:
    node = OmegaConf.select(cfg, key.rsplit(".", maxsplit=1)[0]) if "." in key else cfg
    names = [str(name) for name in node] if isinstance(node, DictConfig) else []
    return f"there {'is ' + ', '.join(n for n in names if not n.startswith('_')) if names else 'is no such section'}"


def _literal(key: str, value: Any) -> Any:
    """The value, which must be no interpolation: Hydra resolves twice, so that none can be quoted."""
    if isinstance(value, str) and "${" in value:
        raise UserError(f"Expected a value without '${{' for `{key}`, got {value!r}; rename it.")
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
