"""The kinds of values that settings take."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

NULL, FLAG, WHOLE, NUMBER, TEXT, LIST, MAPPING = "null", "flag", "whole", "number", "text", "list", "mapping"
PART = "part"  # a group of settings that names, by _target_, what is made of it
_ORDER = (FLAG, WHOLE, NUMBER, TEXT, LIST, MAPPING, PART)
_SCALARS: dict[Any, frozenset[str]] = {
    int: frozenset({WHOLE}),
    float: frozenset({WHOLE, NUMBER}),
    bool: frozenset({FLAG}),
    str: frozenset({TEXT}),
    Path: frozenset({TEXT}),
    PathLike: frozenset({TEXT}),
    type(None): frozenset({NULL}),
    list: frozenset({LIST}),
    tuple: frozenset({LIST}),
    Sequence: frozenset({LIST}),
    Collection: frozenset({LIST}),
    Iterable: frozenset({LIST}),
    dict: frozenset({MAPPING}),
    Mapping: frozenset({MAPPING}),
}
# In this order: true is an int as well.
_TYPES: dict[type, str] = {type(None): NULL, bool: FLAG, int: WHOLE, float: NUMBER, str: TEXT, dict: MAPPING}


_PLAIN_WORDS = {
    FLAG: "true or false",
    LIST: "a list",
    MAPPING: "a group of settings",
    PART: "a group of settings with `_target_`",
}
_WIDER = {WHOLE: frozenset({NUMBER}), PART: frozenset({MAPPING, LIST})}  # a part may make a list


@dataclass(frozen=True)
class Kind:
    """The values that a setting may have.

    Args:
        types: of `null`, `flag`, `whole`, `number`, `text`, `list`, `mapping` and `part`; a whole number is a number as
            well, and a part may stand for a mapping or a list.
        words: the only texts allowed; empty allows any.
        least, most: the smallest and the largest number.
        above, below: what a number must be larger or smaller than.
        filled: whether an empty text is refused.
    """

    types: frozenset[str]
    words: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    filled: bool = False

    def accepts(self, value: Any) -> bool:
        """Whether a value of a configuration is of this kind, and in range."""
        kind = type_of(value)
        if kind not in self.types and not _WIDER.get(kind, frozenset()) & self.types:
            return False
        if kind == TEXT:
            return (not self.words or value in self.words) and (bool(value.strip()) or not self.filled)
        return kind not in (WHOLE, NUMBER) or self._in_range(value)

    def _in_range(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    @property
    def expected(self) -> str:
        """In words, as they stand behind the setting's name."""
        parts = [self._words_of(kind) for kind in _ORDER if kind in self.types]
        if NUMBER in self.types:
            parts = [part for part in parts if part != self._words_of(WHOLE)]
        if len(parts) == 1 and parts[0].startswith("in "):
            return f"{parts[0]}, or null" if NULL in self.types else parts[0]
        parts = [f"a number {part}" if part.startswith("in ") else part for part in parts]
        return f"to be {' or '.join([*parts, 'null'] if NULL in self.types else parts)}"

    def _words_of(self, kind: str) -> str:
        match kind:
            case "whole":
                return f"a whole number{self._range()}"
            case "number":
                both = (self.least, self.above) != (None, None) and (self.most, self.below) != (None, None)
                return f"in {self._interval()}" if both else f"a number{self._range()}"
            case "text":
                return (
                    " or ".join(self.words) if self.words else "a text that is not empty" if self.filled else "a text"
                )
            case _:
                return _PLAIN_WORDS[kind]

    def _interval(self) -> str:
        low, high = (self.above, "(") if self.least is None else (self.least, "["), (self.below, self.most)
        top = f"{high[1]:g}]" if high[0] is None else f"{high[0]:g})"
        return f"{low[1]}{low[0]:g}, {top}"

    def _range(self) -> str:
        if self.least is not None and self.most is not None:
            return f" from {self.least:.15g} to {self.most:.15g}"
        words = {" of at least": self.least, " of at most": self.most, " above": self.above, " below": self.below}
        return "".join(f"{word} {value:g}" for word, value in words.items() if value is not None)

    def within(self, other: Kind) -> Kind:
        """The kind of values that are of both kinds."""
        numbers = frozenset({WHOLE, NUMBER})
        both = (self.types & other.types) | (numbers & self.types & other.types)
        if NUMBER in self.types and WHOLE in other.types:
            both |= {WHOLE}
        if WHOLE in self.types and NUMBER in other.types:
            both |= {WHOLE}
        given = {n: v for n, v in vars(other).items() if n != "types" and v is not None and v is not False and v != ()}
        return replace(self, types=both, **given)


def type_of(value: Any) -> str:
    """The type of a value of a configuration."""
    if isinstance(value, dict) and "_target_" in value:
        return PART
    return next((name for kind, name in _TYPES.items() if isinstance(value, kind)), LIST)


def kind_of(hint: Any) -> Kind | None:
    """The kind of an annotation, as far as a configuration can express it; None if it allows anything."""
    if get_origin(hint) is Literal:
        return Kind(frozenset({TEXT}), words=tuple(str(word) for word in get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind_of(member) for member in get_args(hint)]
        known = [kind for kind in kinds if kind is not None]
        if {*known} <= {Kind(frozenset({NULL}))} or Any in get_args(hint):
            return None
        words = tuple(word for kind in known for word in kind.words)
        plain = any(TEXT in kind.types and not kind.words for kind in known)
        return Kind(frozenset().union(*(kind.types for kind in known)), words=() if plain else words)
    base = get_origin(hint) or hint
    if base in _SCALARS:
        return Kind(_SCALARS[base])
    if base is Callable or (isinstance(base, type) and not _is_open(base)):
        return Kind(frozenset({MAPPING if is_typeddict(base) else PART}))
    return None


def _is_open(kind: type) -> bool:
    """Whether values of a type may stand in a configuration in a way that its annotation does not tell."""
    return kind in (Any, object, type) or issubclass(kind, (str, int, float, Enum))
