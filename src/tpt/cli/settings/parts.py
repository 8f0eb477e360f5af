"""Iterates over the settings of a configuration, and finds the arguments of the classes and functions it names."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from annotated_types import Predicate
from hydra.utils import get_object
from typing_extensions import Doc

from tpt.errors import Filled, UserError, hints_of, is_plain

HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
REFERENCE = re.compile(r"(?<!\\)\$\{(\w[\w.]*)\}")  # a reference to another setting
_LISTS = (list, tuple, Sequence, Collection, Iterable)


def walk(node: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting and group of settings, also of groups in lists, with its dotted key."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        if isinstance(node, Mapping) or isinstance(value, Mapping):
            yield f"{prefix}{key}", value
        if isinstance(value, Mapping | list):
            yield from walk(value, f"{prefix}{key}.")


def parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every group that names its class or function."""
    return ((key, value) for key, value in walk(config) if isinstance(value, Mapping) and "_target_" in value)


def leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting that is no group."""
    for key, value in walk(config):
        if key.rpartition(".")[2] not in HYDRAS and not (isinstance(value, Mapping) and value):
            yield key, value


# A group of settings that names its class or function.
Part = Annotated[dict, Predicate(lambda node: "_target_" in node), Doc("a group of settings with `_target_`")]


@dataclass(frozen=True)
class Target:
    """A class or function that a configuration names by `_target_`."""

    name: str  # without its module
    hints: dict[str, Any]  # annotations of its arguments, from `of_config`
    open: bool  # whether it also takes arguments of other names
    required: tuple[str, ...]  # the arguments without a default


@lru_cache
def target_of(path: str, key: str = "_target_") -> Target | None:
    """The object at a dotted path, or a UserError; None if loading it fails, which is reported when it is built."""
    try:
        made = get_object(path)
        hints, more = _arguments(made)
        parameters = inspect.signature(made).parameters.values()
    except Exception as error:  # importing a user's module can raise anything
        if _is_absent(path, error.__cause__):
            raise UserError(
                f"Expected a class or function in `{key}`, got {path}, which does not exist; check the name, and add "
                "its folder to PYTHONPATH if it is your own code."
            ) from error
        return None
    papers = getattr(made, "paper_settings", None)
    for name in papers() if callable(papers) else ():  # "paper" stands for the paper's value
        if hints.get(name) is not None:
            hints[name] = Union[hints[name], Literal["paper"]]  # noqa: UP007 -- of values, not of types
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = tuple(one.name for one in parameters if one.default is one.empty and one.kind in kinds)
    return Target(path.rpartition(".")[2], hints, more, required)


def _is_absent(path: str, cause: BaseException | None) -> bool:
    """Whether an import failed because a name in `path` is missing, and not within a module that it names."""
    if isinstance(cause, ModuleNotFoundError):
        return f"{path}.".startswith(f"{cause.name}.")
    return isinstance(cause, AttributeError) and cause.name in path.split(".")


def _arguments(made: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The annotations of the arguments, with `**settings` also those of the base class, and whether it takes others."""
    classes = inspect.getmro(made)[:-1] if inspect.isclass(made) else ()
    found: dict[str, Any] = {}
    more = False
    for function in [vars(one)["__init__"] for one in classes if "__init__" in vars(one)] or [made]:
        more, annotations = False, hints_of(function)
        for name, parameter in inspect.signature(function).parameters.items():
            hint = annotations.get(name, Any)
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                found.setdefault(name, hint)
            elif get_origin(hint) is typing.Unpack:
                found = typing.get_type_hints(get_args(hint)[0], include_extras=True) | found
            else:
                more = True
        if not more:
            break
    return {name: of_config(hint) for name, hint in found.items() if name != "self"}, more


def of_config(hint: Any) -> Any:
    """What an annotation allows in a configuration, where paths are text and objects are parts; None for anything."""
    if is_plain(hint):
        return hint
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        members = [of_config(member) for member in get_args(hint)]
        return None if None in members else Union[tuple(members)]  # noqa: UP007 -- of a list
    if origin in (Path, PathLike):
        return Filled
    if origin in _LISTS:
        return Annotated[Union[list, Part], Doc("a list")]  # noqa: UP007 -- a part may build it
    if origin in (dict, Mapping) or is_typeddict(origin):
        return dict
    # A configuration may write values of these types in a form that the annotation does not show.
    is_open = not isinstance(origin, type) or origin in (Any, object, type)
    return None if is_open or issubclass(origin, str | int | float | Enum) else Part
