"""Every setting of a configuration: where it goes, and what it may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tpt.cli.settings.parts import Target, target_of
from tpt.cli.settings.programs import program_hint

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # to another setting
NEEDED = ("callbacks.records", "callbacks.processes")  # without which a run has no results
HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


class Register:
    """The settings of one configuration, each with the annotations of the arguments that it becomes.

    A setting may become several arguments, here and where other settings refer to it, and must suit all of them.

    Args:
        config: the composed configuration as plain values, references to other settings unresolved.

    Attributes:
        hints: dotted key -> annotations; none if the setting may be anything.
        unknown: settings of parts that do not take them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.hints: dict[str, list[Any]] = {}
        self.unknown: dict[str, Target] = {}
        self._becomes: dict[str, list[Any]] = {}
        self._parts: set[str] = set()
        self._references: set[str] = set()
        self._mentioned: set[str] = set()
        for key, value in leaves(config):
            self.hints[key] = []
            if isinstance(value, str):
                self._mentioned.update(_REFERENCE.findall(value))
                if _REFERENCE.fullmatch(value):
                    self._references.add(key)
        for path, node in nodes(config):
            if isinstance(name := node.get("_target_"), str):
                self._parts.add(path)
                if (target := target_of(name)) is not None:
                    self._take_up(path, node, target)
        for key, _ in nodes(config):  # {a: 1} where a number is expected
            if (name := key.removesuffix(".")) in self._becomes or program_hint(name) is not None:
                self.hints.setdefault(name, [])
        for key in self.hints:
            of_program = program_hint(key)
            found = self._becomes.get(key, []) if of_program is None else [of_program]
            self.hints[key] = [hint for hint in found if hint is not None]

    def own(self) -> list[str]:
        """The settings that have a value of their own; the others refer to one of these."""
        return [key for key in self.hints if key not in self._references]

    def may_be_left_out(self, key: str) -> bool:
        """Whether `~key` leaves something that works: a part's own default, or one callback or logger less."""
        if key in NEEDED:
            return False
        return f"{key.rpartition('.')[0]}." in {*self._parts, "callbacks.", "logger."}

    def reads(self, key: str) -> bool:
        """Whether a part or a program reads a setting."""
        part = any(f"{key}.".startswith(part) for part in self._parts if part)
        return part or key in self._becomes or key in self._mentioned or program_hint(key) is not None

    def _take_up(self, path: str, node: Mapping[str, Any], target: Target) -> None:
        """Notes what the settings of a part become."""
        for name, value in node.items():
            key = f"{path}{name}"
            if name in HYDRAS:
                continue
            if name not in target.hints:
                if not target.open:
                    self.unknown[key] = target
                continue
            self._becomes.setdefault(key, []).append(target.hints[name])
            if isinstance(value, str) and (reference := _REFERENCE.fullmatch(value)):
                self._becomes.setdefault(reference[1], []).append(target.hints[name])


def nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every group of settings, in lists as well, with its dotted key and a point."""
    if isinstance(node, Mapping):
        yield prefix, node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from nodes(value, f"{prefix}{key}.")


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that is no group of settings, with its dotted key; a list is one setting."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in HYDRAS:
            yield f"{prefix}{key}", value
