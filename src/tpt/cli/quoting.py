"""Quotes settings for a command line: for Hydra, and around that for the shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpt.cli.places import FILE, SEARCHED

_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[\w./:@%+-]*", re.ASCII)
# An element of a list: in quotes, or without quotes, escapes and brackets.
_ELEMENT = r"""(?:\s*"(?:[^"\\]|\\.)*"\s*|\s*'(?:[^'\\]|\\.)*'\s*|[^,"'\\\[\](){}$]+)"""
_OF_TEXTS = ("class_names", "templates")  # endings of settings that are lists of texts
_WORDS_OF_YAML = ("null", "true", "false", "nan", "inf")


def for_hydra(value: Any) -> str:
    """A value as Hydra and OmegaConf read it back: a number, None, a list, or a text, in quotes if needed."""
    if isinstance(value, list):
        return f"[{','.join(map(for_hydra, value))}]"
    if value is None or isinstance(value, bool | int | float):
        return "null" if value is None else str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # or it would be read as an interpolation
    text = re.sub(r'(\\*)(")', r"\1\1\\\2", text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)  # backslashes matter only before a quote
    return f'"{text}"'


def as_texts(argument: str) -> str:
    """Quotes the elements of an argument that is a list of texts, so that `[null,1e3,007]` stays as typed."""
    key, _, value = argument.partition("=")
    if not key.endswith(_OF_TEXTS) or not re.fullmatch(rf"\[{_ELEMENT}(,{_ELEMENT})*\]", value):
        return argument
    elements = map(str.strip, re.findall(_ELEMENT, value[1:-1]))
    quoted = (one if one[:1] in ("'", '"') else for_hydra(one) for one in elements)
    return f"{key}=[{','.join(quoted)}]"


def searched(folders: Sequence[Path]) -> list[str]:
    """Hydra's setting that adds the user's own folders of options; none if there are none."""
    places = ",".join(for_hydra(f"{FILE}{folder}") for folder in folders)
    return [f"{SEARCHED}=[{places}]"] if places else []


def setting(key: str, text: str) -> str:
    """`key=text` for a shell, such as `'data.root="/data/données"'`."""
    return shlex.quote(f"{key}={for_hydra(text)}")
