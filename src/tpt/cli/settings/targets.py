"""What a part of the program takes: names, kinds and meanings of its arguments, read from its code."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_args, get_origin

from hydra.utils import get_object

from tpt.cli.settings.kinds import Kind, kind_of

OURS = ("tpt.", "torch.optim.")  # whose settings have the ranges of `tpt.cli.settings.ranges`


@dataclass(frozen=True)
class Target:
    """What a configuration names by `_target_`.

    Args:
        name: of it.
        kinds: of its arguments; None if an argument takes anything.
        meanings: a line on each of them, as far as there is one.
        open: whether it takes arguments of other names as well.
        ours: whether it is of this project, or an optimizer of torch.
        papers: names of the settings for which the text `paper` stands for the paper's value.
    """

    name: str
    kinds: dict[str, Kind | None] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)
    open: bool = False
    ours: bool = False
    papers: frozenset[str] = frozenset()


@lru_cache
def target_of(path: str) -> Target | None:
    """The object at a dotted path; None if it cannot be loaded, which is reported when it is made."""
    try:
        made = get_object(path)
        kinds, more = _arguments(made)
    except Exception:  # importing it, and looking at it, may go wrong in any way
        return None
    ours = f"{getattr(made, '__module__', '')}.".startswith(OURS)
    papers = getattr(made, "paper_settings", None)
    known = frozenset(papers()) if callable(papers) else frozenset()
    return Target(path.rsplit(".", maxsplit=1)[-1], kinds, meanings_of(made), more, ours, known)


def _arguments(made: Callable[..., Any]) -> tuple[dict[str, Kind | None], bool]:
    """The kinds of the arguments of a class or function, and whether it takes others as well.

    A class that takes `**settings` passes them on to its base class, as in `class CTPT(TPT)`.
    """
    functions: list[Any] = [made]
    if inspect.isclass(made):
        functions = [vars(one)["__init__"] for one in inspect.getmro(made)[:-1] if "__init__" in vars(one)] or [made]
    kinds: dict[str, Kind | None] = {}
    for function in functions:
        hints, more = _hints(function), False
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters[1:] if inspect.isclass(made) and function is not made else parameters:
            hint = hints.get(parameter.name, parameter.annotation)
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named = _unpacked(hint)
                more = not named
                kinds = {key: kind_of(value) for key, value in named.items()} | kinds
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                kinds.setdefault(parameter.name, None if hint is inspect.Parameter.empty else kind_of(hint))
        if not more:
            return kinds, False
    return kinds, True


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function))
    except Exception:  # names that are there for a type checker alone
        return {}


def _unpacked(hint: Any) -> dict[str, Any]:
    """The names and annotations of `**settings: Unpack[...]`."""
    inner = get_args(hint)
    if get_origin(hint) is not typing.Unpack or not inner or not typing.is_typeddict(inner[0]):
        return {}
    return typing.get_type_hints(inner[0])


def meanings_of(made: Callable[..., Any]) -> dict[str, str]:
    """The lines under `Args:` of a docstring, of a class's bases as well."""
    found: dict[str, str] = {}
    for one in reversed(inspect.getmro(made)) if inspect.isclass(made) else [made]:
        text = inspect.cleandoc(vars(one).get("__doc__") or "" if inspect.isclass(one) else one.__doc__ or "")
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        for names, meaning in re.findall(
            r"^    ([\w, ]+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE
        ):
            found |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return found
