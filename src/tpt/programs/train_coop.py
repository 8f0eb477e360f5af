"""Few-shot training of a context: `tpt-train`, and `python train_coop.py` in a checkout."""

from __future__ import annotations

import time
from typing import Any

from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from omegaconf import DictConfig

from tpt import cli, sweeps
from tpt.backbones import CLIP
from tpt.callbacks import describe, finish
from tpt.data import Shots, ShotsDataModule
from tpt.programs.habits import objective, show_settings
from tpt.prompts import load_context
from tpt.runs import session, write_json
from tpt.tasks import CoCoOpTask, CoOpTask, checkpoints, save_learned


def run(cfg: DictConfig) -> float | None:
    """One run: a context learned by CoOp or CoCoOp, for `test_time.py context=coop context.path=...`."""
    show_settings(cfg)
    began = time.perf_counter()
    seed_everything(cfg.seed, verbose=False)
    clip: CLIP = instantiate(cfg.backbone)
    shots: Shots = instantiate(cfg.shots.draw)
    data: ShotsDataModule = instantiate(cfg.shots.module)(shots=shots).use_image_size(clip.image_size)
    task: CoOpTask | CoCoOpTask = instantiate(cfg.learner)(clip=clip, class_names=data.class_names, shots=cfg.shots.k)
    if cfg.resume is not None:
        load_context(cfg.resume)  # refuses what is no checkpoint in one sentence
    folder, loggers = cli.output_dir(), list(instantiate(cfg.logger).values())
    made = {"method": cli.choices()["learner"], "choices": cli.choices(), "backbone": clip.about()}
    describe(loggers, {**made, "config": cli.resolved(cfg)}, sweeps.at_hand())
    callbacks = checkpoints(folder, validates=shots.val is not None)
    trainer: Trainer = instantiate(cfg.trainer, max_epochs=task.epochs, callbacks=callbacks, logger=loggers)
    trainer.fit(task, data, ckpt_path=cfg.resume, weights_only=None if cfg.resume is None else True)
    finish(trainer)
    if not trainer.is_global_zero:
        return None

    files = save_learned(folder, task, clip, cfg.public_layout)
    about = {"learner": made["method"], "choices": made["choices"], "seed": cfg.seed}
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    found = {"context": task.context().source, "epochs": task.epochs, "metrics": metrics, "files": files}
    drawn: dict[str, Any] = {
        "notes": [*shots.notes, *shots.train.notes],
        "class_names": data.class_names,
        "drawn": shots.files(),
    }
    ended = {**session(trainer.world_size), "seconds": time.perf_counter() - began, "config": cli.resolved(cfg)}
    write_json({**about, "backbone": made["backbone"], **found, **drawn, **ended}, folder / "training.json")
    for note in drawn["notes"]:
        print(f"Note: {note}.")
    print(", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items())))
    print(f"\nNext: {cli.command('test_time')} context={about['learner']} context.path={folder / files['last']}")
    return objective(cfg.optimized_metric, metrics)


def main() -> None:
    """The program."""
    cli.main(run, "train_coop")
