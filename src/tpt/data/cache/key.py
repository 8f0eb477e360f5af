"""Keys of the feature cache: everything that features depend on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import features as pillow

from tpt.data.cache.shard import digest

# Packages that decode images, make views or compute features.
PACKAGES = ("torch", "torchvision", "pillow", "numpy", "open_clip_torch", "timm")
CODECS = ("jpg", "webp")  # libraries whose decoders may round differently
# Files of this package that do the same; their content also identifies changes between releases.
CODE = ("views/*.py", "data/image*.py", "clip/model.py")


def image_key(identity: str, content: bytes) -> str:
    """32 hexadecimal digits that depend on the bytes of an image's file and on the seed text of its views."""
    return digest(identity.encode("utf-8", "surrogatepass"), b"\0", content)


def space_key(settings: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that depend on all settings."""
    return digest(json.dumps(settings, sort_keys=True, default=repr).encode())


def encoding_environment() -> dict[str, Any]:
    """Everything that pixels and features depend on besides weights and settings: versions, code, torch flags."""
    package = Path(__file__).parents[2]
    files = [file for pattern in CODE for file in sorted(package.glob(pattern))]
    return {
        "versions": {name: _version(name) for name in PACKAGES} | {"torch": torch.__version__},
        "codecs": {name: pillow.version(name) for name in CODECS},
        "code": code_digest(files),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": bool(torch.backends.cudnn.allow_tf32),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def code_digest(files: Iterable[Path]) -> str:
    """A digest of the content of files."""
    return digest(*(digest(file.read_bytes()).encode() for file in files))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
