"""Lists the options of the configuration and reads their files; loads nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tpt.cli.places import config_dir
from tpt.cli.quoting import for_hydra
from tpt.errors import UserError, did_you_mean
from tpt.files import at_home

_own: ContextVar[tuple[Path, ...]] = ContextVar("own", default=())
own_folders = _own.get  # the folders with the user's own options


@contextmanager
def own_options(*folders: str | Path | None) -> Iterator[None]:
    """Searches the user's folders of options first, as with `--config-dir`; a UserError if one does not exist."""
    paths = tuple(at_home(folder).absolute() for folder in folders if folder is not None)
    for path in paths:
        if not path.is_dir():
            raise UserError(f"Expected a folder of your own options, such as method/mine.yaml, got {path}; check it.")
    token = _own.set(paths)
    try:
        yield
    finally:
        _own.reset(token)


def choose(groups: Iterable[tuple[str, str]]) -> list[str]:
    """The settings that choose options of groups; a backbone that is no option of `conf/backbone` is open_clip's."""
    chosen = []
    for group, option in groups:
        if group == "backbone" and option not in options(group):
            chosen += ["backbone=open_clip", f"backbone.name={for_hydra(option)}"]
        else:
            chosen.append(f"{group}={known_option(group, option)}")
    return chosen


def is_group(name: str) -> bool:
    """Whether a name is that of a group of options."""
    return any((folder / name).is_dir() for folder in all_folders())


def options(group: str) -> list[str]:
    """The options of a group of the configuration."""
    return sorted({path.stem for folder in all_folders() for path in (folder / group).glob("[!_]*.yaml")})


def known_option(group: str, option: str) -> str:
    """The option; raises a UserError if the group does not have it."""
    if option not in options(group):
        raise no_option(group, option)
    return option


def no_option(group: str, option: str, known: Sequence[str] = ()) -> UserError:
    """The message for an option that a group does not have."""
    known = [name for name in known or options(group) if not name.startswith("_")]
    close = did_you_mean(option, known)
    return UserError(f"Expected an option of `{group}`, got {option!r}; {close} Choose from {', '.join(known)}.")


def values_of(group: str, option: str) -> dict[str, Any]:
    """The keys and values of an option's file, references unresolved."""
    found = OmegaConf.to_container(OmegaConf.load(_file_of(group, option)))
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def comments_of(group: str, option: str) -> list[str]:
    """The full-line comments in an option's file: its description, and the URL of its paper."""
    lines = _file_of(group, option).read_text("utf-8").splitlines()
    return [line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line]


def all_folders() -> tuple[Path, ...]:
    """The folders that are searched for options: the user's own, then the project's."""
    return (*own_folders(), config_dir())


def _file_of(group: str, option: str) -> Path:
    name = f"{known_option(group, option)}.yaml"
    return next(path for folder in all_folders() if (path := folder / group / name).is_file())
