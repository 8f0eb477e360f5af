"""Few-shot training of a context: `tpt-train`, and `python train_coop.py` in a checkout."""

from __future__ import annotations

import shlex
import time
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from omegaconf import DictConfig

from tpt.cli import program as cli
from tpt.cli import sweeps
from tpt.cli.compose import trainer_of
from tpt.cli.logs import stage
from tpt.cli.places import command
from tpt.cli.quoting import setting
from tpt.cli.resume import keep
from tpt.clip import CLIP
from tpt.data import Shots, ShotsDataModule
from tpt.engine.callbacks.lifecycle import begin, close
from tpt.engine.callbacks.processes import ProcessGuard
from tpt.engine.callbacks.progress import TrainingProgress
from tpt.engine.printing import say
from tpt.engine.tasks import coop_files
from tpt.engine.tasks.coop import ContextTask
from tpt.engine.tracking.guard import guarded
from tpt.files import write_json
from tpt.results.runs.environment import session
from tpt.results.runs.manifest import named_files
from tpt.results.runs.training import FREE, TrainingDirectory, about_shots, as_text, metrics_before
from tpt.results.tables.results import objective


def run(cfg: DictConfig) -> float | None:
    """Trains a context with CoOp or CoCoOp, for `test_time.py context=coop context.path=...`."""
    began = time.perf_counter()
    seed_everything(cfg.seed, verbose=False)
    stage(f"Loading the backbone {cfg.backbone.name or cfg.backbone.get('pretrained')}")
    clip: CLIP = instantiate(cfg.backbone)
    stage("Drawing the shots")
    shots: Shots = instantiate(cfg.shots.draw)
    data: ShotsDataModule = instantiate(cfg.shots.module)(shots=shots)
    data.use_image_size(clip.image_size, clip.resize, clip.interpolation)
    drawn = {"shots": cfg.shots.k, "dataset": cfg.shots.get("key")}
    task: ContextTask = instantiate(cfg.learner)(clip=clip, class_names=data.class_names, **drawn)
    folder = cli.output_dir()
    loggers = guarded(cfg.logger, instantiate, folder)
    callbacks = [*coop_files.checkpoints(folder, shots.val is not None), TrainingProgress(), ProcessGuard(folder)]
    more = {"callbacks": callbacks, "logger": loggers, "plugins": [coop_files.WholeFiles()]}
    trainer = trainer_of(cfg, max_epochs=task.epochs, **more)
    config, device = cli.resolved(cfg), trainer.strategy.root_device
    made = {"choices": cli.choices(), "backbone": clip.about(), "config": config}
    with TrainingDirectory(folder, cfg.resume, first=trainer.is_global_zero) as directory:
        if (checkpoint := directory.checkpoint) is not None:
            directory.goes_on_from(coop_files.run_of(checkpoint), config)
            coop_files.check_checkpoint(checkpoint, task)
        division = coop_files.use_threads(directory.stored("division"), device, trainer.num_devices)
        now, learner = session(trainer.world_size), made["choices"]["learner"]
        manifest = {"method": learner, **made, "device": device.type, "division": division}
        manifest |= {"files": named_files(config, FREE), **about_shots(shots)}
        task.run_text = as_text(manifest, now)
        directory.begin(manifest, now)
        if directory.begun_anew:
            keep(cfg, anew=True)
        begin(trainer, manifest, sweeps.at_hand())
        stage(f"Training for {task.epochs} epochs on {len(shots.train)} images of {len(data.class_names)} classes")
        coop_files.fit(trainer, task, data, checkpoint)
        close(trainer)
        if not trainer.is_global_zero:
            return None
        about = {"learner": learner, "seed": cfg.seed, **made, **now, "seconds": time.perf_counter() - began}
        metrics = _save(task, trainer, shots, about, cfg.public_layout)
    return objective(cfg.optimized_metric, metrics)


def _save(
    task: ContextTask, trainer: Trainer, shots: Shots, about: dict[str, Any], public_layout: bool
) -> dict[str, float]:
    """Writes the context and `training.json`, prints the next command, and returns the metrics."""
    folder = cli.output_dir()
    files = coop_files.save_learned(folder, task, public_layout)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()} or metrics_before(folder)
    found = {"context": task.context().source, "epochs": task.epochs, "metrics": metrics, "files": files}
    of_start = [note] if (note := task.learner.context.note) else []
    notes = [*of_start, *coop_files.unused_batches(trainer), *shots.notes, *shots.train.all_notes()]
    drawn = {"notes": notes, "class_names": shots.train.class_names, "drawn": shots.files()}
    write_json({**about, **found, **drawn}, folder / "training.json")
    for note in notes:
        say(f"Note: {note}.")
    shown = {name: f"{value:.2f} %" if name.endswith("accuracy") else f"{value:.4g}" for name, value in metrics.items()}
    stage("Learned a context: " + ", ".join(f"{name} {value}" for name, value in sorted(shown.items())))
    given = [one for one in sweeps.given_settings(HydraConfig.get()) if one.lstrip("+~").startswith("backbone.")]
    backbone = map(shlex.quote, [f"backbone={about['choices']['backbone']}", *given])
    learned = [f"context={about['learner']}", setting("context.path", str(folder / files["last"])), *backbone]
    say(f"\nNext: {command('test_time')} {' '.join(learned)}")
    return metrics
