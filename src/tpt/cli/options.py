"""The options of the configuration: which there are, and what stands in their files.  Nothing heavy is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tpt.cli.places import config_dir
from tpt.cli.quoting import for_hydra
from tpt.errors import UserError
from tpt.files import at_home

OPEN_CLIP = "open_clip"  # the option of conf/backbone for names that are no option
DEVICE_HELP = "cpu, cuda, cuda:1; default auto: a GPU if there is one"
_DEVICE = re.compile(r"auto|cpu|mps|(?:cuda|gpu)(?::\d+)?")
_own: ContextVar[tuple[Path, ...]] = ContextVar("own", default=())


@contextmanager
def own_options(*folders: str | Path | None) -> Iterator[None]:
    """Within it, options are looked for in folders of the user first, as with `--config-dir`.

    Raises:
        UserError: there is no such folder.
    """
    paths = tuple(at_home(folder).absolute() for folder in folders if folder is not None)
    for path in paths:
        if not path.is_dir():
            raise UserError(
                f"Expected a folder of options, such as method/mine.yaml, at {path}, found none; check its path."
            )
    token = _own.set(paths)
    try:
        yield
    finally:
        _own.reset(token)


def own_folders() -> tuple[Path, ...]:
    """The folders of the user's own options."""
    return _own.get()


def known_device(text: str) -> str:
    """The device as PyTorch names it, or `auto`; raises a UserError for what is none."""
    if _DEVICE.fullmatch(text) is None:
        raise UserError(f"Expected cpu, cuda, cuda:1 or auto as --device, got {text!r}; choose one of them.")
    return text.replace("gpu", "cuda")


def choose(groups: Iterable[tuple[str, str]]) -> list[str]:
    """What chooses options on a command line.

    Args:
        groups: group -> option; a backbone that is no option of `conf/backbone` is a model name of open_clip.

    Raises:
        UserError: there is no such option.
    """
    chosen = []
    for group, option in groups:
        if group == "backbone" and option not in options(group):
            chosen += [f"{group}={OPEN_CLIP}", f"backbone.name={for_hydra(option)}"]
        else:
            chosen.append(f"{group}={known_option(group, option)}")
    return chosen


def options(group: str) -> list[str]:
    """The options of a group of the configuration."""
    return sorted({path.stem for folder in _folders() for path in (folder / group).glob("[!_]*.yaml")})


def known_option(group: str, option: str) -> str:
    """The option itself; raises a UserError that lists the options."""
    if option not in options(group):
        raise UserError(f"Expected a {group} out of {', '.join(options(group))}, got {option!r}; choose one of them.")
    return option


def values_of(group: str, option: str) -> dict[str, Any]:
    """The keys of an option's own file with their values, references unresolved."""
    found = OmegaConf.to_container(OmegaConf.load(_file_of(group, option)))
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def comments_of(group: str, option: str) -> list[str]:
    """The comments that stand on lines of their own in an option's file: what it is, and the address of its paper."""
    lines = _file_of(group, option).read_text("utf-8").splitlines()
    return [line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line]


def _folders() -> tuple[Path, ...]:
    return (*own_folders(), config_dir())


def _file_of(group: str, option: str) -> Path:
    name = f"{known_option(group, option)}.yaml"
    return next(path for folder in _folders() if (path := folder / group / name).is_file())
