"""Errors for a user's mistakes, and the limits of a user's settings.

These errors become one sentence on the command line.  Any other exception is a bug and keeps its traceback.

Each limit is written once, in the annotation of its parameter: `steps: Count = 1`, or
`tau: Annotated[float, Gt(0), Lt(1)] = 0.9`.  `checked` enforces it when the class is created from Python, and the
command line enforces it before it loads anything.  An object with advice, as `clip: Annotated[CLIP, "load one with
tpt.load_clip"]`, must be of that class.
"""

from __future__ import annotations

import difflib
import functools
import html
import inspect
import types
import typing
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import Doc


class UserError(ValueError):
    """The program cannot use a value, a file or a setting."""

    exit_code: int = 1  # of the program


class DataError(UserError):
    """A dataset on disk is not laid out as expected."""


class BadImageError(DataError):
    """An image file cannot be read; `problem` is a short reason for reports, such as "damaged: truncated"."""

    def __init__(self, message: str, problem: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem or message


class WeightsFileError(UserError):
    """A weights file cannot be used; the message says why, and what to use instead."""


class ContextFileError(WeightsFileError):
    """A file does not hold the requested context; the message says why, and what to use instead."""


class RunError(UserError):
    """A run cannot continue, for a reason outside the program; completed results are kept."""


class UnansweredError(RunError):
    """A run is complete, but some of its images have no answer."""

    exit_code = 3


# Limits that several parameters share.  A text in an annotation is the advice that ends the error message.
Share = Annotated[float, Gt(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]  # the largest seed that NumPy accepts
Filled = Annotated[str, StringConstraints(pattern=r"\S"), Doc("a text that is not empty")]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_UNIONS = (Union, types.UnionType)
_SCALARS = (int, float, bool, str, type(None))
_NAMES: dict[Any, str] = {
    **{bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"},
    **{list: "a list", dict: "a group of settings"},
}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def is_plain(hint: Any) -> bool:
    """Whether an annotation has only numbers, texts, flags and None, so that values can be checked against it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return is_plain(arguments[0])
    if origin in _UNIONS:
        return all(map(is_plain, arguments))
    return origin is Literal or (origin is None and hint in _SCALARS)


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=_STRICT)


def fits(hint: Any, value: Any) -> bool:
    """Whether a value has the annotated type and limits; `True`, infinity and NaN are no numbers, nor 1.0 whole."""
    try:
        _adapter(hint).validate_python(value)
    except ValidationError:
        return False
    return True


def kinds(hint: Any) -> tuple[type, ...]:
    """The classes of which one is required by an annotation with advice; empty for any other annotation."""
    return () if is_plain(hint) or not way_out(hint) else _classes(hint)


def _classes(hint: Any) -> tuple[type, ...]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _classes(arguments[0])
    return tuple(c for part in arguments for c in _classes(part)) if origin in _UNIONS else (origin or hint,)


def in_words(hint: Any) -> str:
    """The values that a plain annotation allows, in words that follow a setting's name."""
    return "to be " + " or ".join(_words(hint))


def _words(hint: Any) -> list[str]:
    """One phrase per allowed type, with `null` last."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return [str(word) for word in arguments]
    if origin in _UNIONS:
        found = dict.fromkeys(word for member in arguments for word in _words(member))
        return sorted(found, key=lambda word: word == "null")
    return [_with_limits(_words(arguments[0])[0], arguments[1:])] if origin is Annotated else [_NAMES[hint]]


def _with_limits(word: str, limits: tuple[Any, ...]) -> str:
    given = {type(limit): limit for limit in limits}
    if Doc in given:
        return str(given[Doc].documentation)
    low, above, high, below = (getattr(given.get(kind), kind.__name__.lower(), None) for kind in (Ge, Gt, Le, Lt))
    bottom, top = low if above is None else above, high if below is None else below
    if None not in (bottom, top) and word == "a number":
        return f"a number in {'[' if above is None else '('}{bottom:.15g}, {top:.15g}{']' if below is None else ')'}"
    if None not in (bottom, top):
        return f"{word} from {bottom} to {top}"
    parts = {" of at least": low, " above": above, " of at most": high, " below": below}
    return word + "".join(f"{part} {limit:.15g}" for part, limit in parts.items() if limit is not None)


def way_out(hint: Any) -> str:
    """The advice in an annotation, with a leading semicolon; empty if there is none."""
    if get_origin(hint) in _UNIONS:
        return next(filter(None, map(way_out, get_args(hint))), "")
    said = [text for text in get_args(hint)[1:] if isinstance(text, str)] if get_origin(hint) is Annotated else []
    return f"; {said[0]}" if said else ""


def refuse(name: str, hint: Any, value: Any) -> Any:
    """Returns a value, with a number of NumPy as Python's.

    Raises:
        UserError: the value does not fit the annotation, which is plain (see `is_plain`) or requires a class (see
            `kinds`); the message names the parameter.
    """
    if classes := kinds(hint):
        if not isinstance(value, classes):
            names = " or ".join("null" if one is type(None) else f"a {one.__name__}" for one in classes)
            raise UserError(f"Expected `{name}` to be {names}, got {_short(value)}{way_out(hint)}.")
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        value = int(value) if isinstance(value, Integral) else float(value)
    if not fits(hint, value):
        raise UserError(f"Expected `{name}` {in_words(hint)}, got {value!r}{way_out(hint)}.")
    return value


def _short(value: Any) -> str:
    """A value's class, and a text itself."""
    return repr(value[:60]) if isinstance(value, str) else type(value).__name__


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters with their limits; empty if they name types missing at run time."""
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def checked(function: _Function) -> _Function:
    """Makes a function or constructor check its arguments against their annotations on each call.

    Checks arguments whose annotations are plain (see `is_plain`) or require a class (see `kinds`), and no others.
    """
    signature = inspect.signature(function)

    @functools.cache
    def limits() -> dict[str, Any]:  # at the first call, since annotations may name types that are defined later
        return {name: hint for name, hint in hints_of(function).items() if is_plain(hint) or kinds(hint)}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in limits():
                bound.arguments[name] = refuse(name, limits()[name], value)
        return function(*bound.args, **bound.kwargs)

    return typing.cast(_Function, call)


# Published lists with two classes of the same name: number of classes -> the indices of the two and the name.  Their
# answers tie, in the papers too.
_PUBLISHED = {
    1000: {(657, 744): "missile", (836, 837): "sunglasses"},  # ImageNet, in OpenAI's names
    500: {(157, 244): "missile", (336, 337): "sunglasses"},  # the second half of its classes
}


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "see --help.") -> str:
    """The end of a message about an unknown name: the most similar of the known ones, first settings of any group."""
    names = list(dict.fromkeys(known))
    below = sorted((one for one in names if one.endswith(f".{name}")), key=lambda one: one.count("."))
    close = below or difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(close[:3])}?" if close else otherwise


def text_key(name: str) -> str:
    """A class name as the model reads it: CLIP's tokenizer ignores case and reads `&amp;` as `&`."""
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(name)))
    return " ".join(text.replace("_", " ").split()).lower()


def ties(keys: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of indices of equal keys: (first, later)."""
    first: dict[Hashable, int] = {}
    return [(first[key], place) for place, key in enumerate(keys) if first.setdefault(key, place) != place]


def refuse_one_prompt(
    class_names: Sequence[str], keys: Sequence[Hashable], where: str = "", error: type[UserError] = UserError
) -> list[str]:
    """Raises an error if two of K classes have the same prompt, since their logits would tie for every image.

    `keys` are equal if the model reads the names as equal; `where` says where they come from.  Returns the names that
    two classes have in a published list, which are no error.
    """
    known, pairs = _PUBLISHED.get(len(class_names), {}), ties(keys)
    found = [pair for pair in pairs if {class_names[place] for place in pair} != {known.get(pair)}]
    if not found:
        return [known[pair] for pair in pairs]
    one, other = found[0]
    names = class_names[one], class_names[other]
    look_the_same = len({unicodedata.normalize("NFC", name) for name in names}) < len({*names})
    shown = " and ".join(map(ascii if look_the_same else repr, names))
    raise error(
        f"Two classes{where and f' {where}'} are the same prompt to the model: {shown} (classes {one} and "
        f"{other}). Rename one, or make them one class."
    )
