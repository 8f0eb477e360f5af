"""The manifest `run.json`: written before the first image of a run, it ensures that only the same run is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from tpt.data.dataset import ImageDataset
from tpt.errors import BadImageError, UserError
from tpt.files import at_home, content_digest, dotted_values, is_file, map_files, read_bytes, readable
from tpt.results.runs.records import valid_text
from tpt.results.runs.settings import REGISTER, TRAINING

NAME = "run.json"  # manifest of a test run
# Larger files named in a configuration are data or weights, which have their own digests.
MAX_FILE_BYTES = 64 * 2**20
FREE = tuple(key for key, setting in REGISTER.items() if not setting.record and not key.startswith(TRAINING))
REPEATED = ("data.module.", "shots.module.")  # their settings repeat those of `data` and `shots`
# Settings of what a record contains -> what earlier versions, which lack the setting, did.
HELD = {"callbacks.records.top": 5, "callbacks.records.logits": False}
SHUFFLE = "data.shuffle"  # the setting of version 0.1 that `data.order` replaced
_MODULE = re.compile(r"^tpt\.(?:\w+\.)+(?=\w+$)")  # `tpt.` and the modules of a class or function
# Parts of a manifest that must be the same, in addition to the configuration.
SAME = ("backbone", "context_fingerprint", "device", "division", "files", "datasets", "contents")

Text = InstanceOf[str]  # pydantic's own type refuses names that are not UTF-8
Whole = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]


class _Session(TypedDict):  # as returned by `tpt.results.runs.environment.session`
    versions: dict[Text, Text]
    processes: Positive


class _Dataset(TypedDict):  # as returned by `about_dataset`
    to_test: Whole
    classes: Whole
    size: Whole
    split: Text
    notes: list[Text]
    fingerprint: NotRequired[Text]


class _Backbone(TypedDict):
    name: Text
    precision: Text


@with_config(ConfigDict(extra="allow", strict=True))  # of the parts as well
class Manifest(TypedDict):
    """What `run.json` and `training_run.json` must contain; other keys are allowed and kept."""

    method: Text
    choices: dict[Text, Text]
    backbone: _Backbone
    config: dict[Text, Any]
    datasets: dict[Text, _Dataset]
    sessions: Annotated[list[_Session], Field(min_length=1)]
    about_method: NotRequired[dict[Text, Any]]
    trained_on: NotRequired[list[Text]]
    context: NotRequired[Text]
    division: NotRequired[dict[Text, Positive]]
    encoding: NotRequired[Annotated[dict[Literal["num_views"], Whole], Field(min_length=1)]]
    files: NotRequired[dict[Text, Text]]
    contents: NotRequired[dict[Text, Text]]


@cache
def _manifest() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def about_dataset(dataset: ImageDataset) -> dict[str, Any]:
    """The entry of a dataset in a manifest."""
    return {
        "to_test": len(dataset),
        "classes": len(dataset.class_names),
        "size": dataset.size,
        "split": dataset.split,
        "notes": dataset.all_notes(),
        "root": str(dataset.store.root),
        "fingerprint": dataset.fingerprint(),
    }


def _digest(dataset: ImageDataset, index: int) -> str | None:
    try:
        return dataset.digest(index)
    except BadImageError:
        return None


def digests_of(places: Sequence[tuple[ImageDataset, int]]) -> list[str | None]:
    """The digests of images' files; None for a file that is missing or cannot be read."""
    return list(map_files(lambda place: _digest(*place), places))


def named_files(config: Mapping[str, Any], free: Sequence[str] = FREE) -> dict[str, str]:
    """Digests of the files, such as class names, that the settings of a resolved configuration name, except `free`."""
    found = {}
    for key, value in dotted_values(config):
        if isinstance(value, str) and not f"{key}.".startswith(tuple(f"{setting}." for setting in free)):
            with suppress(OSError):  # the file is too large or not readable
                if is_file(value):
                    found[value] = content_digest(read_bytes(at_home(value), MAX_FILE_BYTES))
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any], free: Sequence[str] = FREE) -> list[str]:
    """What prevents one manifest from continuing another, one phrase each; the settings in `free` may differ."""
    before, after = (_compared(manifest, free) for manifest in (old, new))
    return [
        f"{valid_text(key)} was {_shown(before.get(key))} and is {_shown(after.get(key))}"
        for key in {**before, **after}
        if _comparable(before.get(key)) != _comparable(after.get(key))
    ]


def _comparable(value: Any) -> Any:
    """The value as it is read back from a file; NaN as text, because it is not equal to itself."""
    plain = value is None or (isinstance(value, bool | int | float | str) and value == value)  # noqa: PLR0124
    return value if plain else str(value)


def _compared(manifest: Mapping[str, Any], free: Sequence[str]) -> dict[str, Any]:
    config = dict(dotted_values(with_public_names(manifest["config"])))
    left_out = (*(f"{key}." for key in free), *REPEATED)
    kept = {k: v for k, v in config.items() if not f"{k}.".startswith(left_out)}
    free_files = {f"files.{v}" for k, v in config.items() if k not in kept} - {f"files.{v}" for v in kept.values()}
    order = {"order": "shuffled" if kept.pop(SHUFFLE, False) else "listed", "order_seed": config.get("seed")}
    before = HELD | {f"data.{key}": value for key, value in (order | {"order_concentration": 0.1}).items()}
    kept |= {key: config.get(key, value) for key, value in before.items()} if "data" in manifest["config"] else {}
    others = dict(dotted_values({key: manifest.get(key) for key in SAME}))
    unsure = re.compile(r"datasets\..*\.(notes(\.\d+)?|root)")
    compared = {k: v for k, v in others.items() if not unsure.fullmatch(k) and k not in free_files}
    return {**kept, **compared}


def _shown(value: Any) -> str:
    return "not set" if value is None else valid_text(repr(value))


def with_public_names(node: Any) -> Any:
    """A configuration in which each `_target_` of this package has its public name, which is independent of its module.

    Runs of version 0.1 name modules, as in `tpt.views.Views`.
    """
    if isinstance(node, Mapping):
        named = {key: with_public_names(value) for key, value in node.items()}
        if isinstance(target := named.get("_target_"), str):
            named["_target_"] = _MODULE.sub("tpt.", target)
        return named
    return [with_public_names(value) for value in node] if isinstance(node, list | tuple) else node


def read_manifest(run_dir: str | Path, name: str = NAME) -> dict[str, Any]:
    """The manifest of the run in a directory; a UserError if the file `name` is missing or damaged."""
    path = Path(run_dir) / name
    with readable(str(path), "Pass a directory of test_time.py, or start the run anew", UserError):
        return manifest_of(read_bytes(path))


def manifest_of(content: bytes | str) -> dict[str, Any]:
    """Parses a manifest; raises an exception, such as a ValueError that says where, if it is invalid."""
    manifest = json.loads(content)
    try:
        _manifest().validate_python(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(valid_text(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")) from error
    return {**manifest, "config": with_public_names(manifest["config"])}
