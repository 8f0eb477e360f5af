"""Configurations of others: what they name would run, so only parts that the project's own configuration names may.

A run's directory may come from anybody.  `resume=DIRECTORY` and the contact sheet make the parts of a run again from
what is written there; without the user's word that the run is trusted, each part must be one that some file of `conf`
names, with settings that it has, whose values are plain: numbers, text, lists and dictionaries of these, or such a part
again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tpt.cli.places import config_dir
from tpt.errors import UserError
from tpt.results.runs.manifest import leaves

TARGET, POSITIONAL = "_target_", "_args_"
OF_HYDRA = {TARGET, "_partial_", "_recursive_", "_convert_"}
SQLITE = "sqlite:///"
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")  # of a server or a database
WORDS = ("notes", "tags")  # settings of these parts that are words for people, and no places
WRITES = ("callbacks", "logger")  # groups whose parts write files; they stay in the run's directory


class StrangeConfigError(UserError):
    """A configuration from elsewhere that names what the project's own does not."""


@functools.cache
def known_parts(folder: Path | None = None) -> frozenset[str]:
    """Every part that a file of the configuration names, a user's own files included.

    Args:
        folder: of the configuration; None for the project's own.
    """
    found: set[str] = set()
    for file in sorted((folder or config_dir()).rglob("*.yaml")):
        content = yaml.safe_load(file.read_text("utf-8"))
        found |= {str(value) for key, value in leaves(content) if key.split(".")[-1] == TARGET}
    return frozenset(found)


def refuse_strangers(config: Mapping[str, Any], where: str, way_out: str, run_dir: Path | None = None) -> None:
    """Raises if a configuration that somebody else may have written would do more than make known parts.

    Args:
        config: plain values, as they are when parts are made of them.
        where: it comes from.
        way_out: advice to a user who knows the run.
        run_dir: outside of which loggers and callbacks may not write; None does not look.

    Raises:
        StrangeConfigError: it names an unknown part, or has settings that a part does not know.
    """
    if (strange := next(_strange(config, "", run_dir), None)) is not None:
        raise StrangeConfigError(f"Expected parts of tpt in the settings of {where}, got {strange}; {way_out}.")


def _strange(node: Any, key: str, run_dir: Path | None) -> Iterator[str]:
    """A phrase for everything that is not as it should be."""
    name = key.removesuffix(".")
    match node:
        case Mapping():
            if TARGET in node or POSITIONAL in node:
                yield from _strange_part(node, key)
            for entry, value in node.items():
                yield from _strange(value, f"{key}{entry}.", run_dir)
        case list() | tuple():
            for place, value in enumerate(node):
                yield from _strange(value, f"{key}{place}.", run_dir)
        case str():
            if "${" in node:
                yield f"the interpolation {node[:100]!r} for {name}"
            if (
                run_dir is not None
                and key.startswith(tuple(f"{group}." for group in WRITES))
                and not {*name.split(".")} & {*WORDS}
                and _leaves(node, run_dir)
            ):
                yield f"{node[:100]!r}, outside the run's directory, for {name}"
        case None | bool() | int() | float():
            return
        case _:
            yield f"a {type(node).__name__} for {name}"


def _strange_part(node: Mapping[str, Any], key: str) -> Iterator[str]:
    target = node.get(TARGET)
    if not isinstance(target, str) or target not in known_parts():
        yield f"{str(target)[:100]!r} for {key}{TARGET}"
        return
    parameters = inspect.signature(get_object(target)).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names = {parameter.name for parameter in parameters} | OF_HYDRA
        yield from (f"the setting {key}{name}, which {target} does not have" for name in node if name not in names)


def _own_addresses() -> Iterator[str]:
    """The addresses that the project's own loggers have without further settings, the environment's included."""
    for file in sorted((config_dir() / "logger").glob("*.yaml")):
        for _, value in leaves(yaml.safe_load(file.read_text("utf-8")) or {}):
            if "://" in str(value):
                with contextlib.suppress(OmegaConfBaseException):  # it refers to what is not in this file
                    yield str(OmegaConf.create([value])[0])


def _leaves(text: str, run_dir: Path) -> bool:
    """Whether a text, taken for a path or an address, leads out of a run's directory."""
    here = run_dir.resolve()
    if ADDRESS.match(text):
        of_file = text.startswith(SQLITE) and (Path.cwd() / text.removeprefix(SQLITE)).resolve().is_relative_to(here)
        return not of_file and text not in _own_addresses()
    if "/" not in text and text != "..":
        return False
    return not (here / Path(text).expanduser()).resolve().is_relative_to(here)
