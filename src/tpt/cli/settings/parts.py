"""The arguments, with their limits, of the classes and functions that a configuration names."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from hydra.utils import get_object
from pydantic import AfterValidator
from typing_extensions import Doc

from tpt.errors import Filled, hints_of, is_plain

_LISTS = (list, tuple, Sequence, Collection, Iterable)
_MAPPINGS = (dict, Mapping)


def _with_target(node: dict[str, Any]) -> dict[str, Any]:
    if "_target_" not in node:
        raise ValueError("no _target_")
    return node


# A group of settings that names its class or function.
Part = Annotated[dict, AfterValidator(_with_target), Doc("a group of settings with `_target_`")]


@dataclass(frozen=True)
class Target:
    """A class or function that a configuration names by `_target_`.

    Args:
        name: its dotted path.
        hints: annotations of its arguments, from `of_config`.
        open: whether it also takes arguments of other names.
        required: the arguments without a default.
    """

    name: str
    hints: dict[str, Any] = field(default_factory=dict)
    open: bool = False
    required: tuple[str, ...] = ()


@lru_cache
def target_of(path: str) -> Target | None:
    """The object at a dotted path; None if it cannot be loaded, which is reported when it is built."""
    try:
        made = get_object(path)
        hints, more = _arguments(made)
    except Exception:  # importing a user's module can raise anything
        return None
    papers = getattr(made, "paper_settings", None)
    for name in papers() if callable(papers) else ():  # "paper" stands for the paper's value
        if hints.get(name) is not None:
            hints[name] = Union[hints[name], Literal["paper"]]  # noqa: UP007 -- of values, not of types
    parameters = inspect.signature(made).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = tuple(one.name for one in parameters if one.default is one.empty and one.kind in kinds)
    return Target(path.rsplit(".", maxsplit=1)[-1], hints, more, required)


def is_absent(path: str) -> bool:
    """Whether nothing exists at a dotted path; a module that fails during import exists."""
    try:
        import_module(path)
    except ModuleNotFoundError as error:
        owner, _, name = path.rpartition(".")
        mine = f"{path}.".startswith(f"{error.name}.")  # otherwise it exists, but needs a missing module
        return mine and (not owner or is_absent(owner) or not hasattr(get_object(owner), name))
    except Exception:  # a bug in it, which is reported when it is built
        pass
    return False


def _arguments(made: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The annotations of the arguments of a class or function, and whether it takes other arguments.

    A class with `**settings` passes them to its base class.
    """
    functions: list[Any] = [made]
    if inspect.isclass(made):
        functions = [vars(one)["__init__"] for one in inspect.getmro(made)[:-1] if "__init__" in vars(one)] or [made]
    hints: dict[str, Any] = {}
    for function in functions:
        annotations, more = hints_of(function), False
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters[1:] if inspect.isclass(made) and function is not made else parameters:
            hint = annotations.get(parameter.name, Any)
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named = _unpacked(hint)
                more = not named
                hints = {key: of_config(value) for key, value in named.items()} | hints
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                hints.setdefault(parameter.name, of_config(hint))
        if not more:
            return hints, False
    return hints, True


def _unpacked(hint: Any) -> dict[str, Any]:
    """The names and annotations of `**settings: Unpack[...]`."""
    inner = get_args(hint)
    if get_origin(hint) is not typing.Unpack or not inner or not is_typeddict(inner[0]):
        return {}
    return typing.get_type_hints(inner[0], include_extras=True)


def of_config(hint: Any) -> Any:
    """What an annotation allows in a configuration, where paths are text and objects are parts; None for anything."""
    origin = get_origin(hint) or hint
    if is_plain(hint):
        return hint
    if origin in (Union, types.UnionType):
        members = [of_config(member) for member in get_args(hint)]
        return None if None in members else Union[tuple(members)]  # noqa: UP007 -- of a list
    if origin in (Path, PathLike):
        return Filled
    if origin in _LISTS:
        return Annotated[Union[list, Part], Doc("a list")]  # noqa: UP007 -- a part may build it
    if origin in _MAPPINGS or is_typeddict(origin):
        return dict
    return Part if origin is Callable or (isinstance(origin, type) and not _is_open(origin)) else None


def _is_open(kind: type) -> bool:
    """Whether a configuration may write values of a type in a form that the annotation does not show."""
    return kind in (Any, object, type) or issubclass(kind, (str, int, float, Enum))
