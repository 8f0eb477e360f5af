"""The name, tags and settings under which loggers show a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tpt.files import dotted_values
from tpt.results.runs.sweep import Sweep

TAGGED = ("data", "shots", "row", "experiment")  # groups whose chosen option is a tag
WIRING = ("_target_", "_partial_", "_convert_")
TAG_LENGTH = 64  # longest tag that W&B accepts


def name_of(manifest: Mapping[str, Any], folder: str | Path, sweep: Sweep | None) -> str:
    """The name of the run's directory; in a sweep, the method and the settings that differ."""
    if sweep is None:
        return Path(folder).name
    return " ".join([str(manifest["method"]), *map(_short, sweep.settings)])


def _short(setting: str) -> str:
    """`steps=2` of `method.steps=2`."""
    key, _, value = setting.partition("=")
    return f"{key.rsplit('.', maxsplit=1)[-1]}={value}"


def tags_of(manifest: Mapping[str, Any]) -> list[str]:
    """Method, backbone, and the chosen options of the groups in `TAGGED`."""
    chosen = manifest["choices"]
    found = [manifest["method"], manifest["backbone"]["name"], *(chosen.get(group) for group in TAGGED)]
    return accepted(tag for tag in found if tag not in (None, "null"))


def accepted(tags: Iterable[object]) -> list[str]:
    """Tags as W&B accepts them: unique, not empty, long ones truncated."""
    return list(dict.fromkeys(text for tag in tags if (text := str(tag).strip()[:TAG_LENGTH])))


def config_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting under its dotted key, the chosen option of each group, and the method.

    The classes of the parts are left out, because they follow from the options.
    """
    chosen = {f"choices.{group}": option for group, option in manifest["choices"].items()}
    settings = {key: value for key, value in dotted_values(manifest["config"]) if not key.endswith(WIRING)}
    return {**settings, **chosen, "label": manifest["method"]}
