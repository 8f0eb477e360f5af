"""A file of a feature cache: the features of some images as safetensors, with their offsets in the header.

Files are not trusted.  An image's features are used only if their digest is correct.  The digest also covers the
image's key and the features' shape and norm, so a damaged header is detected too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tpt.files import open_plain

SUFFIX = ".safetensors"
MOST_BYTES = 2**33  # of a file; a larger one is not a cache file
MOST_HEADER_BYTES = 2**24
MOST_ENTRY_BYTES = 2**28  # features of one image


def digest(*content: bytes | memoryview) -> str:
    """32 hexadecimal digits that depend on every byte of `content`."""
    state = hashlib.blake2b(digest_size=16)
    for part in content:
        state.update(part)
    return state.hexdigest()


@dataclass(frozen=True)
class CachedImage:
    """The place of an image's (V, E) features; `norm` is the length of view 0's feature before scaling."""

    path: Path
    key: str
    views: int
    width: int
    offset: int
    norm: float
    digest: str

    def features(self) -> np.ndarray | None:
        """(V, E) float32, read-only; None if they are damaged or missing."""
        try:
            with open_plain(self.path, MOST_BYTES) as file:
                file.seek(self.offset)
                content = file.read(self.views * self.width * 4)
        except OSError:
            return None
        if _digest(self.key, (self.views, self.width), self.norm, content) != self.digest:
            return None
        return np.frombuffer(content, "<f4").reshape(self.views, self.width)


def to_bytes(images: Mapping[str, tuple[np.ndarray, float]]) -> bytes:
    """The content of a file, from the (V, E) float32 features and the norm of view 0's feature for each key."""
    tensors = {key: np.ascontiguousarray(features, "<f4") for key, (features, _) in images.items()}
    about = {
        key: f"{norm!r} {_digest(key, tensors[key].shape, norm, tensors[key].data)}"
        for key, (_, norm) in images.items()
    }
    content: bytes = save(tensors, about)
    return content


def entries(path: Path) -> list[CachedImage]:
    """The entries of a file; empty if it cannot be read or is not a cache file."""
    try:
        with open_plain(path, MOST_BYTES) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, MOST_HEADER_BYTES)))
        about = header.pop("__metadata__")
        return [_entry(path, 8 + length, key, place, about[key]) for key, place in header.items()]
    except Exception:  # a damaged header can raise almost any exception
        return []


def _entry(path: Path, start: int, key: str, place: Mapping[str, list[int]], about: str) -> CachedImage:
    (views, width), offset = place["shape"], start + place["data_offsets"][0]
    norm, check = about.split()
    if not (views > 0 < width <= MOST_ENTRY_BYTES // (4 * views) and 0 <= offset < MOST_BYTES):
        raise ValueError(f"impossible place of {key}")
    return CachedImage(path, key, int(views), int(width), int(offset), float(norm), check)


def _digest(key: str, shape: tuple[int, ...], norm: float, content: bytes | memoryview) -> str:
    return digest(f"{key} {shape} {norm!r} ".encode("utf-8", "surrogatepass"), content)
