"""Settings as they are to be written on a command line: for Hydra, and around it for the shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[\w./:@%+-]*", re.ASCII)
_WORDS_OF_YAML = ("null", "true", "false", "nan", "inf")


def for_hydra(text: str) -> str:
    """The text as Hydra's grammar has it, plain if it may be; Hydra and OmegaConf then read back this very text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # or it would be taken for an interpolation
    text = re.sub(r'(\\*)(")', r"\1\1\\\2", text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)  # backslashes count before a quote alone
    return f'"{text}"'


def searched(folders: Sequence[Path]) -> list[str]:
    """The setting of Hydra that adds a user's own folders of options; none if there are none."""
    places = ",".join(for_hydra(f"file://{folder}") for folder in folders)
    return [f"hydra.searchpath=[{places}]"] if places else []


def setting(key: str, text: str) -> str:
    """`key=text` for a shell, such as `'data.root="/data/données"'`."""
    return shlex.quote(f"{key}={for_hydra(text)}")
