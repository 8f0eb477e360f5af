"""Finds, for every setting of a configuration, which arguments it becomes and which values they allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpt.cli.settings.parts import Target, is_absent, target_of
from tpt.cli.settings.programs import program_hint
from tpt.cli.settings.walk import HYDRAS, REFERENCE, all_keys, leaves, nodes

NEEDED = ("callbacks.records", "callbacks.processes")  # needed by every run to have results


class Register:
    """The settings of a configuration, each with the annotations of the arguments that it becomes.

    A setting may become several arguments, directly or through references, and must be valid for all of them.

    Args:
        config: the composed configuration as plain values, references to other settings unresolved.

    Attributes:
        hints: dotted key -> annotations; none if any value is allowed.
        unknown: settings that their part does not accept.
        unfinished: messages about missing settings, classes and functions.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.hints: dict[str, list[Any]] = {}
        self.unknown: dict[str, Target] = {}
        self._becomes: dict[str, list[Any]] = {}
        self._parts: set[str] = set()
        self._references: set[str] = set()
        named: dict[str, list[str]] = {}
        for key, value in leaves(config):
            self.hints[key] = []
            if isinstance(value, str):
                named[key] = REFERENCE.findall(value)
                if REFERENCE.fullmatch(value):
                    self._references.add(key)
        self._mentioned = {name for names in named.values() for name in names}
        existing = {*all_keys(config)}
        self.unfinished = [
            f"Expected the name of a setting in `{key}`, but there is no {name!r} for ${{{name}}}; if these "
            f"characters are meant literally, write \\${{{name}}}."
            for key, names in named.items()
            for name in names
            if name not in existing
        ]
        for path, node in nodes(config):
            if isinstance(name := node.get("_target_"), str):
                self._parts.add(path)
                if (target := target_of(name)) is not None:
                    self._take_up(path, node, target)
                elif is_absent(name):
                    self.unfinished.append(
                        f"`{path.removesuffix('.')}` names {name}, which does not exist. Check the name, and add its "
                        "folder to PYTHONPATH if it is your own code."
                    )
        for key, _ in nodes(config):  # for example {a: 1} instead of a number
            if (name := key.removesuffix(".")) in self._becomes or program_hint(name) is not None:
                self.hints.setdefault(name, [])
        for key in self.hints:
            of_program = program_hint(key)
            found = self._becomes.get(key, []) if of_program is None else [of_program]
            self.hints[key] = [hint for hint in found if hint is not None]

    def own(self) -> list[str]:
        """The settings with a value of their own; the others refer to one of these."""
        return [key for key in self.hints if key not in self._references]

    def may_be_left_out(self, key: str) -> bool:
        """Whether the configuration works without `key`: it has a default, or is a callback or logger."""
        if key in NEEDED:
            return False
        return f"{key.rpartition('.')[0]}." in {*self._parts, "callbacks.", "logger."}

    def reads(self, key: str) -> bool:
        """Whether a part or a program reads a setting."""
        part = any(f"{key}.".startswith(part) for part in self._parts if part)
        return part or key in self._becomes or key in self._mentioned or program_hint(key) is not None

    def _take_up(self, path: str, node: Mapping[str, Any], target: Target) -> None:
        """Records what the settings of a part become."""
        needs = [name for name in target.required if name not in node]
        if needs and not node.get("_partial_") and "_args_" not in node:
            self.unfinished.append(f"Expected a value for `{path}{needs[0]}`, got none; add {path}{needs[0]}=VALUE.")
        for name, value in node.items():
            key = f"{path}{name}"
            if name in HYDRAS:
                continue
            if name not in target.hints:
                if not target.open:
                    self.unknown[key] = target
                continue
            self._becomes.setdefault(key, []).append(target.hints[name])
            if isinstance(value, str) and (reference := REFERENCE.fullmatch(value)):
                self._becomes.setdefault(reference[1], []).append(target.hints[name])
