"""Test-time prompt tuning: `python test_time.py`; `--help` lists all settings."""

from __future__ import annotations

import time

from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from omegaconf import DictConfig

from tpt import cli
from tpt.backbones import CLIP
from tpt.callbacks import DatasetMetrics
from tpt.data import EpisodeDataModule
from tpt.reports import print_table, read_records, results
from tpt.tasks import AdaptationTask, MethodMaker


def run(cfg: DictConfig) -> None:
    """One run: every dataset, one table."""
    started = time.time()
    seed_everything(cfg.seed, verbose=False)
    clip: CLIP = instantiate(cfg.backbone)
    data: EpisodeDataModule = instantiate(cfg.data.module)
    data.use_views(instantiate(cfg.views)(image_size=clip.image_size, mean=clip.mean, std=clip.std))
    make_method = MethodMaker(clip, instantiate(cfg.context), instantiate(cfg.method))
    task = AdaptationTask(clip, make_method, data.datasets)
    callbacks = list(instantiate(cfg.callbacks).values())
    trainer: Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=list(instantiate(cfg.logger).values()))
    if trainer.world_size > 1:
        raise ValueError(
            f"Expected one process, got {trainer.world_size}, which would all test every image; use devices=1."
        )
    trainer.test(task, datamodule=data, verbose=False)

    metrics = next(c for c in callbacks if isinstance(c, DatasetMetrics))
    found = results.summarise(metrics.summary, read_records(cli.output_dir()), data.datasets)
    about = {
        "method": cli.method_label(cfg),
        "choices": cli.choices(),
        "seed": cfg.seed,
        "context": make_method.source,
        "notes": task.notes,
    }
    backbone = {"name": clip.name, "fingerprint": clip.fingerprint(), "precision": clip.precision}
    made = {"started": started, "seconds": time.time() - started, "config": cli.resolved(cfg), **results.environment()}
    written = {**about, "backbone": backbone, **found, **made}
    results.write_json(written, cli.output_dir() / "results.json")
    print_table(written)
    print(f"\nresults.json and records/ are in {cli.output_dir()}")


if __name__ == "__main__":
    cli.main(run, "test_time")
