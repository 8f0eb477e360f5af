"""Settings as they are to be written on a command line: for Hydra, and around it for the shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[\w./:@%+-]*", re.ASCII)
# An element of a list: in quotes, or without quotes and escapes.
_ELEMENT = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,"'\\]*?)\s*(?:,|\Z)""")
_OF_TEXTS = ("class_names", "templates")  # how settings end that are lists of texts
_WORDS_OF_YAML = ("null", "true", "false", "nan", "inf")


def for_hydra(text: str) -> str:
    """The text as Hydra's grammar has it, plain if it may be; Hydra and OmegaConf then read back this very text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # or it would be taken for an interpolation
    text = re.sub(r'(\\*)(")', r"\1\1\\\2", text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)  # backslashes count before a quote alone
    return f'"{text}"'


def as_texts(argument: str) -> str:
    """A setting that lists texts with these in quotes, so that `[null,1e3,007]` stays as it is typed.

    Args:
        argument: of the command line; any other, and a list with anything else in it, is returned as it is.
    """
    key, _, value = argument.partition("=")
    if not key.endswith(_OF_TEXTS) or not re.fullmatch(r"\[[^\[\](){}$]+\]", value):
        return argument
    inner, elements, start = value[1:-1], [], 0
    while start < len(inner):
        if (found := _ELEMENT.match(inner, start)) is None or not found[0]:
            return argument
        elements.append(found[1] if found[1][:1] in ("'", '"') else for_hydra(found[1]))
        start = found.end()
    return f"{key}=[{','.join(elements)}]"


def searched(folders: Sequence[Path]) -> list[str]:
    """The setting of Hydra that adds a user's own folders of options; none if there are none."""
    places = ",".join(for_hydra(f"file://{folder}") for folder in folders)
    return [f"hydra.searchpath=[{places}]"] if places else []


def setting(key: str, text: str) -> str:
    """`key=text` for a shell, such as `'data.root="/data/données"'`."""
    return shlex.quote(f"{key}={for_hydra(text)}")
