"""`run.json`: what a run is, written before its first image, so that only the same run continues it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpt.data.dataset import ImageDataset
from tpt.data.store import content_digest
from tpt.errors import UserError

NAME = "run.json"
MAX_FILE_BYTES = (
    64 * 2**20
)  # larger files named in a configuration are data or weights, which have digests of their own
# Settings that change no record; `on_bad_image` decides whether the run goes on, not what an image's record is.
FREE = (
    "cache",
    "callbacks",
    "logger",
    "resume",
    "name",
    "tags",
    "notes",
    "print_config",
    "optimized_metric",
    "data.num_workers",
    "data.pin_memory",
    "data.on_bad_image",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.logger",
    "trainer.profiler",
    "trainer.fast_dev_run",
    "trainer.limit_test_batches",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
)
# What must be the same beside the configuration.
SAME = ("backbone", "context_fingerprint", "device", "division", "files", "datasets")


def about_datasets(datasets: Sequence[ImageDataset]) -> dict[str, dict[str, Any]]:
    """What a manifest says of the datasets."""
    return {
        d.name: {
            "to_test": len(d),
            "classes": len(d.class_names),
            "size": d.size,
            "split": d.split,
            "notes": d.notes,
            "root": str(d.store.root),
            "fingerprint": d.fingerprint(),
        }
        for d in datasets
    }


def named_files(config: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the files that a configuration names: class names, templates, tables."""
    found = {}
    for _, value in leaves(config):
        if isinstance(value, str) and len(value) < 4096 and "\0" not in value:
            path = Path(value)
            if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES:
                found[value] = content_digest(path.read_bytes())
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What keeps `new` from continuing `old`, a phrase each.

    Args:
        old, new: manifests.
    """
    before, after = (_compared(manifest) for manifest in (old, new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key} was {_shown(before.get(key))} and is {_shown(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _compared(manifest: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(leaves(manifest["config"]))
    free = tuple(f"{key}." for key in FREE)
    # The data module's settings repeat those of `data`.
    kept = {k: v for k, v in config.items() if not f"{k}.".startswith((*free, "data.module."))}
    others = dict(leaves({key: manifest.get(key) for key in SAME}))
    return {**kept, **{k: v for k, v in others.items() if not k.endswith((".notes", ".root"))}}


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dictionaries and lists that is neither, under its dotted key."""
    items: Iterator[tuple[Any, Any]]
    if isinstance(node, Mapping):
        items = iter(node.items())
    elif isinstance(node, list | tuple):
        items = iter(enumerate(node))
    else:
        yield prefix.removesuffix("."), node
        return
    for key, value in items:
        yield from leaves(value, f"{prefix}{key}.")


def read_manifest(run_dir: str | Path) -> dict[str, Any]:
    """What the run in a directory is.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    path = Path(run_dir) / NAME
    try:
        content = json.loads(path.read_text("utf-8"))
        for key, kind in (("config", dict), ("datasets", dict), ("sessions", list)):
            if not isinstance(content[key], kind):
                raise TypeError(f"{key} is no {kind.__name__}")
    except OSError as error:
        raise UserError(f"Expected {NAME} of a run in {run_dir}, found none; pass a directory of test_time.py.") from (
            error
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"Expected what test_time.py wrote in {path}, but it is damaged; start the run anew.") from (
            error
        )
    return dict(content)
