"""Iterates over the settings of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
REFERENCE = re.compile(r"(?<!\\)\$\{(\w[\w.]*)\}")  # a reference to another setting


def walk(node: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting and group of settings, also of groups in lists, with its dotted key."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        if isinstance(node, Mapping) or isinstance(value, Mapping):
            yield f"{prefix}{key}", value
        if isinstance(value, Mapping | list):
            yield from walk(value, f"{prefix}{key}.")


def parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every group that names its class or function."""
    return ((key, value) for key, value in walk(config) if isinstance(value, Mapping) and "_target_" in value)


def leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting that is no group."""
    for key, value in walk(config):
        if key.rpartition(".")[2] not in HYDRAS and not (isinstance(value, Mapping) and value):
            yield key, value
