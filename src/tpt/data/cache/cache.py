"""A cache of view features that runs share: the loader looks features up, and the task stores new ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import features as pillow
from torch import Tensor

from tpt.data.cache.shard import digest
from tpt.data.cache.store import FeatureStore, size
from tpt.errors import Count, Positive, checked
from tpt.files import at_home

log = logging.getLogger(__name__)

GB = 10**9
KEY_DIGITS = 32
IMAGE = "image"
# Packages that decode images, make views or compute features.
PACKAGES = ("torch", "torchvision", "pillow", "numpy", "open_clip_torch", "timm")
CODECS = ("jpg", "webp")  # libraries whose decoders may round differently
# Files of this package that do the same; their content also identifies changes between releases.
PACKAGE = Path(__file__).parents[2]
CODE = ("views/*.py", "data/image*.py", "clip/model.py")
Stores = Mapping[str, tuple[FeatureStore, int]]  # by encoder: its store and feature length


class Encoder(Protocol):
    """The part of a CLIP that a cache uses."""

    name: str

    @property
    def embed_dim(self) -> int:
        """Length E of a feature."""

    def encoding(self) -> dict[str, Any]:
        """Everything in the encoder that features depend on."""


class CachedViews:
    """The part of a cache with the features of one kind of views; it can be sent to worker processes.

    Args:
        make_views: makes the views of an image that is not cached.
        num_views: number of views that the run uses; more may be made.
        space: name of the part; empty if nothing is stored.
        stores: the store of each encoder.
    """

    def __init__(self, make_views: Any, num_views: int | None, space: str = "", stores: Stores | None = None) -> None:
        self.make_views, self.num_views = make_views, num_views
        self._space, self._stores = space, dict(stores or {})

    def key(self, identity: str, content: bytes) -> str:
        """The cache key of an image; empty if nothing is stored."""
        return self._space + digest(identity.encode("utf-8", "surrogatepass"), b"\0", content) if self._stores else ""

    def find(self, key: str) -> dict[str, Tensor] | None:
        """The (V, E) `NAME_features` and `NAME_norm` of each encoder, bit-equal to its output, or None."""
        if not self._stores or self.num_views is None:
            return None
        found: dict[str, Tensor] = {}
        for name, (store, width) in self._stores.items():
            kept = store.get(key[KEY_DIGITS:], self.num_views, width)
            if kept is None:
                return None
            found[f"{name}_features"], found[f"{name}_norm"] = torch.from_numpy(kept[0]), torch.tensor(kept[1])
        return found


class FeatureCache:
    """View features on disk, under a key of everything that changes them and nothing else.

    Args:
        clip: the encoder; its outputs are named `image_features` and `image_norm`.
        device: type of the device that encodes.
        precision: precision of the Trainer, which may convert the encoder.
        folder: folder of the cache, created if needed; None stores nothing.
        max_gb: largest size of the folder in gigabytes (10^9 bytes); None limits it only by the disk.
        num_views: least number of views to encode per image that is not cached; a run that uses more encodes more.
        swept: numbers of views of the other runs of a sweep.  The largest is encoded, so that all of them find their
            views.
        others: further encoders of the same views, by name.
    """

    @checked
    def __init__(
        self,
        clip: Encoder,
        device: str = "cpu",
        precision: str = "32-true",
        folder: str | Path | None = None,
        max_gb: Positive | None = None,
        num_views: Count | None = None,
        swept: Sequence[Any] = (),
        others: Mapping[str, Encoder] | None = None,
    ) -> None:
        self.folder = None if folder is None else at_home(folder)
        self.encoded = self.from_cache = 0  # images
        self._max_bytes = None if max_gb is None else int(max_gb * GB)
        self._least = max([num_views or 1, *(value for value in swept if isinstance(value, int))])
        self._encoders, self._where = {IMAGE: clip, **(others or {})}, {"device": device, "precision": precision}
        self._stores: dict[str, FeatureStore] = {}  # by space; two encoders that are the same share one
        self._shelves: dict[str, Stores] = {}  # by the space of the first encoder

    def divide(self, stored: Mapping[str, int] | None) -> dict[str, int]:
        """Sets the least number of views to encode to that of a resumed run, since it affects rounding."""
        if stored is not None:
            self._least = stored["num_views"]
        return {"num_views": self._least}

    def shelf(self, make_views: Any) -> CachedViews:
        """The part of the cache for this view maker, if it says what its views depend on, see `tpt.views.Views`."""
        num_views = getattr(make_views, "num_views", None)
        if self.folder is None:
            return CachedViews(make_views, num_views)
        about = make_views.about() if hasattr(make_views, "about") and hasattr(make_views, "more") else None
        if about is None or num_views is None:
            log.info("Not caching features: %s does not say what its views depend on.", type(make_views).__name__)
            return CachedViews(make_views, num_views)
        stores, spaces = {}, []
        for name, encoder in self._encoders.items():
            settings = {"encoder": self._encodings[name], "views": about}
            spaces.append(space := digest(json.dumps(settings, sort_keys=True, default=repr).encode()))
            if space not in self._stores:
                described = {"backbone": encoder.name, **settings}
                self._stores[space] = FeatureStore(self.folder, space, described, self._max_bytes)
            stores[name] = self._stores[space], encoder.embed_dim
        self._shelves[spaces[0]] = stores
        return CachedViews(make_views.more(max(num_views, self._least)), num_views, spaces[0], stores)

    @cached_property
    def _encodings(self) -> dict[str, dict[str, Any]]:
        here = {**self._where, **encoding_environment()}
        return {name: {**encoder.encoding(), **here} for name, encoder in self._encoders.items()}

    def keep(self, keys: Sequence[str], encoded: Mapping[str, Tensor]) -> None:
        """Stores new features, except those with values that are not finite.

        Args:
            keys: keys of B images from `CachedViews.key`; empty for images that need not be stored.
            encoded: for each encoder (B, V, E) `NAME_features` and the (B,) `NAME_norm` of view 0.
        """
        self.encoded += len(encoded[f"{IMAGE}_features"])
        for name in self._encoders if any(keys) else ():
            features, norms = (encoded[f"{name}_{what}"].detach().float().cpu() for what in ("features", "norm"))
            finite = (features.isfinite().flatten(1).all(1) & norms.isfinite()).tolist()
            for row, key in enumerate(keys):
                if key and finite[row]:
                    store, _ = self._shelves[key[:KEY_DIGITS]][name]
                    store.put(key[KEY_DIGITS:], features[row].numpy(), float(norms[row]))

    def close(self, reduce: Callable[[Tensor], Tensor], device: torch.device) -> None:
        """Writes pending features, and adds up the image counts of all processes with `reduce`."""
        for store in self._stores.values():
            store.flush()
        counts = reduce(torch.tensor([self.encoded, self.from_cache], device=device))
        self.encoded, self.from_cache = (int(count) for count in counts)

    def report(self) -> dict[str, Any]:
        """Statistics of the cache in this session, for log and results."""
        about: dict[str, Any] = {"encoded": self.encoded, "from_cache": self.from_cache}
        if self.folder is not None:
            about |= {"folder": str(self.folder), "gb": size(self.folder) / GB}
            text = (
                "Feature cache: %(encoded)d images encoded, %(from_cache)d from the cache; %(gb).3g GB in %(folder)s."
            )
            log.info(text, about)
        return about


def encoding_environment() -> dict[str, Any]:
    """Everything that pixels and features depend on besides weights and settings: versions, code, torch flags."""
    files = [file for pattern in CODE for file in sorted(PACKAGE.glob(pattern))]
    return {
        "versions": {name: next((found.version for found in distributions(name=name)), None) for name in PACKAGES}
        | {"torch": torch.__version__},
        "codecs": {name: pillow.version(name) for name in CODECS},
        "code": digest(*(digest(file.read_bytes()).encode() for file in files)),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": bool(torch.backends.cudnn.allow_tf32),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
