"""Measures the time that the feature cache saves in a sweep.

    python -m benchmarks.sweep --images 2

The sweep has 3 steps x 4 numbers of views x 4 percentiles on the bundled data.  Loading, views and image encoder are
timed without a cache, with an empty one, and with the same one filled.  The time of the methods is the same in all
three and is not measured.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tpt
from tpt.data import EpisodeDataModule, emoji_shift_domains
from tpt.data.cache import FeatureCache
from tpt.data.cache.store import size
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.views import Views

DOMAINS = ("twemoji", "emojione", "emojione_monotone", "fxemoji")
VIEWS, OTHERS = (16, 32, 64, 128), 3 * 4  # steps x percentiles; features do not depend on them
console = Console(width=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2, help="of each of the four vendors")
    images = parser.parse_args().images
    where = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    console.print(f"{4 * images} images, {len(VIEWS) * OTHERS} runs, {where}")
    table = Table("", "images encoded", "views encoded", "s", "ratio", show_edge=False, pad_edge=False)
    clip = tpt.load_clip("emoji-mini")
    sweep(clip, 1, None, runs=1)  # warm up
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = [sweep(clip, images, kept) for kept in (None, folder, folder)]
        megabytes = size(folder) / 1e6
    for name, (encoded, views, seconds, _) in zip(("without", "empty cache", "filled cache"), found, strict=True):
        table.add_row(name, f"{encoded:,}", f"{views:,}", f"{seconds:.2f}", f"{found[0][2] / seconds:.1f}")
    console.print(table)
    apart = max(float((a - b).abs().max()) for a, b in zip(found[0][3], found[2][3], strict=True))
    console.print(f"the cache holds {megabytes:.2f} MB; features differ by {apart:.0e} at most")
    return 0 if apart < 1e-5 else 1


def sweep(clip: tpt.CLIP, images: int, folder: Path | None, runs: int = OTHERS) -> tuple[int, int, float, list[Tensor]]:
    """Returns images and views encoded, seconds, and the features of one run per number of views."""
    encoded, views, seconds, found = 0, 0, 0.0, []
    for num_views in VIEWS:
        for run in range(runs):
            began = time.perf_counter()
            features, cache = one_run(clip, images, num_views, folder)
            seconds += time.perf_counter() - began
            encoded += cache.encoded
            views += cache.encoded * (num_views if folder is None else max(VIEWS))
            found += features if run == 0 else []
    return encoded, views, seconds, found


def one_run(clip: tpt.CLIP, images: int, num_views: int, folder: Path | None) -> tuple[list[Tensor], FeatureCache]:
    data: Any = EpisodeDataModule(emoji_shift_domains(list(DOMAINS)), limit=images)
    cache = FeatureCache(clip, folder=folder, swept=VIEWS)
    data.use_views(Views(clip.image_size, num_views, mean=clip.mean, std=clip.std)).use_cache(cache)
    task = AdaptationTask(clip, lambda _: None, data.datasets, cache=cache)  # type: ignore[arg-type, return-value]
    features = []
    for loader in data.test_dataloader():
        for batch in loader:
            features.append(task.features(batch)[0])
    cache.close(lambda counts: counts, clip.device)
    return features, cache


if __name__ == "__main__":
    sys.exit(main())
