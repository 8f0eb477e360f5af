"""Iterates over the settings of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
REFERENCE = re.compile(r"(?<!\\)\$\{(\w[\w.]*)\}")  # a reference to another setting


def nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every group of settings, including those in lists, with its dotted key and a trailing dot."""
    if isinstance(node, Mapping):
        yield prefix, node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from nodes(value, f"{prefix}{key}.")


def all_keys(config: Mapping[str, Any]) -> list[str]:
    """The dotted names of all settings and groups of settings."""
    groups = [path.removesuffix(".") for path, _ in nodes(config) if path]
    return list(dict.fromkeys([*groups, *(key for key, _ in leaves(config))]))


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that is no group, with its dotted key; a list is one setting."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in HYDRAS:
            yield f"{prefix}{key}", value
