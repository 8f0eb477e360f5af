"""Test-time prompt tuning: `tpt-test`, and `python test_time.py` in a checkout."""

from __future__ import annotations

import time
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig

from tpt.cli import program as cli
from tpt.cli import sweeps
from tpt.cli.compose import Parts, trainer_of
from tpt.cli.logs import stage
from tpt.cli.resume import keep
from tpt.clip.prompts import refuse_misfit
from tpt.data import EpisodeDataModule
from tpt.data.cache import FeatureCache
from tpt.data.features import refuse_other_encoder
from tpt.engine.callbacks.lifecycle import begin, close
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.engine.tracking.guard import guarded
from tpt.files import write_json
from tpt.results.runs.claim import ANOTHER
from tpt.results.runs.directory import RunDirectory
from tpt.results.runs.environment import session
from tpt.results.runs.manifest import about_dataset, named_files
from tpt.results.runs.training import trained_on
from tpt.results.tables.brief import print_table
from tpt.results.tables.results import objective, refuse_unanswered, results_of


def run(cfg: DictConfig, another: str = ANOTHER, follow: bool = False) -> float | None:
    """Runs all datasets and prints one table; returns `optimized_metric` for a sweeper.

    `another` says in error messages how to choose another directory. With `follow`, a run of an episodic method is
    resumed even if images were added or removed.
    """
    began, folder = time.perf_counter(), cli.output_dir()
    seed_everything(cfg.seed, verbose=False)
    stage("Listing the images")
    data: EpisodeDataModule = instantiate(cfg.data.module)
    refuse_misfit(instantiate(cfg.context), cfg.backbone.get("name"), cfg.backbone.get("pretrained"))
    stage(f"Loading the backbone {cfg.backbone.name or cfg.backbone.get('pretrained')}")
    parts = Parts.of(cfg, device="cpu")  # Lightning moves it to the device
    clip, make_method = parts.clip, parts.make_method
    data.use_views(parts.views)
    refuse_other_encoder(data.datasets, clip, make_method.encoders)
    callbacks, loggers = list(instantiate(cfg.callbacks).values()), guarded(cfg.logger, instantiate, folder)
    trainer = trainer_of(cfg, callbacks=callbacks, logger=loggers)
    threads = cfg.threads or max(1, torch.get_num_threads() // trainer.num_devices)
    device, encoders = trainer.strategy.root_device, make_method.encoders
    swept, precision = sweeps.swept("views.num_views"), str(trainer.precision)
    cache: FeatureCache = instantiate(cfg.cache)(clip, device.type, precision, swept=swept, others=encoders)
    task = AdaptationTask(clip, make_method, data.datasets, cache=cache, encoders=encoders)
    stage(f"Checking the method with the classes of {', '.join(d.name for d in data.datasets)}")
    make_method.check(data.num_views(make_method.view_0_serves))

    streams = make_method.about()["kind"] == "stream"
    follows = follow and not streams
    with RunDirectory(folder, cfg.resume is not None, trainer.is_global_zero, another, follows) as directory:
        division = make_method.divide(directory.stored("division"), device, threads)  # as in earlier sessions
        encoding = cache.divide(directory.stored("encoding"))
        manifest = {**_about(cfg, parts, data), "device": device.type, "division": division, "encoding": encoding}
        task.threads = division.get("threads")
        done = directory.begin(manifest, session(trainer.world_size), data.datasets, streams)
        data.use_cache(cache).leave_out(done).keep_whole(streams)
        task.states = directory.states
        if directory.begun_anew:
            keep(cfg, anew=True)
        begin(trainer, manifest, sweeps.at_hand(), directory.records)
        stage("Testing")
        trainer.test(task, datamodule=data, verbose=False)
        if not trainer.is_global_zero:
            return None
        found = {**results_of(folder), "seconds": time.perf_counter() - began, "cache": cache.report()}
        write_json(found, folder / "results.json")
        close(trainer, found["datasets"])
    print_table(found)
    print(f"\nresults.json and records/ are in {folder}")
    refuse_unanswered(found)
    return objective(cfg.optimized_metric, found["averages"])


def _about(cfg: DictConfig, parts: Parts, data: EpisodeDataModule) -> dict[str, Any]:
    """The content of `run.json` that follows from the settings, the data and the weights."""
    config, make_method = cli.resolved(cfg), parts.make_method
    return {
        "method": cli.method_label(cfg),
        "choices": cli.choices(),
        "seed": cfg.seed,
        "backbone": parts.clip.about(),
        "about_method": make_method.about(),
        "encoders": {name: encoder.about() for name, encoder in make_method.encoders.items()},
        "context": make_method.source,
        "context_fingerprint": make_method.fingerprint(),
        "trained_on": trained_on(cfg.context.get("path")),
        "files": named_files(config),
        "datasets": {d.name: about_dataset(d) for d in data.datasets},
        "config": config,
    }
