"""Every setting of a configuration: where it goes, its kind and its meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tpt.cli.settings.kinds import TEXT, Kind
from tpt.cli.settings.ranges import program_kind, range_of
from tpt.cli.settings.targets import Target, target_of

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # to another setting
NEEDED = ("callbacks.records", "callbacks.processes")  # without which a run has no results
HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


@dataclass(frozen=True)
class Setting:
    """A setting.

    Args:
        key: dotted, as on the command line.
        kind: of its value; None if it may be anything.
        meaning: a line on it; "" if none is known.
    """

    key: str
    kind: Kind | None
    meaning: str = ""


class Register:
    """The settings of one configuration.

    A setting's kind is that of the argument it becomes, here or where another setting refers to it; its range stands in
    `tpt.cli.settings.ranges`.

    Args:
        config: the composed configuration as plain values, references to other settings unresolved.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings: dict[str, Setting] = {}
        self.unknown: dict[str, Target] = {}  # settings of parts that do not take them
        self._becomes: dict[str, list[Setting]] = {}
        self._parts: set[str] = set()
        self._references: set[str] = set()
        self._mentioned: set[str] = set()
        for key, value in leaves(config):
            self.settings[key] = Setting(key, program_kind(key))
            if isinstance(value, str):
                self._mentioned.update(_REFERENCE.findall(value))
                if _REFERENCE.fullmatch(value):
                    self._references.add(key)
        for path, node in _nodes(config):
            if isinstance(name := node.get("_target_"), str):
                self._parts.add(path)
                if (target := target_of(name)) is not None:
                    self._take_up(path, node, target)
        for key, _ in _nodes(config):  # {a: 1} where a number is expected
            if (name := key.removesuffix(".")) in self._becomes or program_kind(name) is not None:
                self.settings.setdefault(name, Setting(name, program_kind(name)))
        for key in [*self.settings]:
            self.settings[key] = self._merged(key)

    def own(self) -> list[str]:
        """The settings that have a value of their own; the others refer to one of these."""
        return [key for key in self.settings if key not in self._references]

    def may_be_left_out(self, key: str) -> bool:
        """Whether `~key` leaves something that works: a part's own default, or one callback or logger less."""
        if key in NEEDED:
            return False
        return f"{key.rpartition('.')[0]}." in {*self._parts, "callbacks.", "logger."}

    def reads(self, key: str) -> bool:
        """Whether a part or a program reads a setting."""
        part = any(f"{key}.".startswith(part) for part in self._parts if part)
        return part or key in self._becomes or key in self._mentioned or program_kind(key) is not None

    def _take_up(self, path: str, node: Mapping[str, Any], target: Target) -> None:
        """Notes what the settings of a part become."""
        for name, value in node.items():
            key = f"{path}{name}"
            if name in HYDRAS:
                continue
            if name not in target.kinds:
                if not target.open:
                    self.unknown[key] = target
                continue
            found = Setting(key, _kind_in(target, name, key), target.meanings.get(name, ""))
            self._becomes.setdefault(key, []).append(found)
            if isinstance(value, str) and (reference := _REFERENCE.fullmatch(value)):
                self._becomes.setdefault(reference[1], []).append(found)

    def _merged(self, key: str) -> Setting:
        """A setting that is known to become an argument."""
        setting = self.settings[key]
        kind, meaning = setting.kind, setting.meaning
        for part in self._becomes.get(key, ()):
            meaning = meaning or part.meaning
            if part.kind is not None and program_kind(key) is None:
                kind = part.kind if kind is None else kind.within(part.kind)
        return replace(setting, kind=kind, meaning=meaning)


def _kind_in(target: Target, name: str, key: str) -> Kind | None:
    """The kind of an argument, with its range if the part is ours."""
    kind, limits = target.kinds[name], range_of(key) if target.ours else None
    if kind is not None and limits is not None:
        kind = kind.within(limits)
    if kind is not None and name in target.papers and (kind.words or TEXT not in kind.types):
        kind = replace(kind, types=kind.types | {TEXT}, words=(*kind.words, "paper"))
    return kind


def _nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every group of settings, in lists as well, with its dotted key and a point."""
    if isinstance(node, Mapping):
        yield prefix, node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from _nodes(value, f"{prefix}{key}.")


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that is no group of settings, with its dotted key; a list is one setting."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in HYDRAS:
            yield f"{prefix}{key}", value
