"""Training of CoOp and CoCoOp."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

import tpt
from tests.conftest import ROOT, noise_image
from tests.noise_models import noise_clip
from tpt.clip.prompts import ConditionalContext, PromptLearner, initial_conditional
from tpt.data.few_shot import draw_shots
from tpt.data.folder import image_folder
from tpt.data.shots import ShotsDataModule
from tpt.engine.tasks import coop_files
from tpt.engine.tasks.coop import ContextTask, epochs_for, learning_rate
from tpt.engine.tasks.coop_files import WholeFiles, check_checkpoint, checkpoints, save_learned
from tpt.errors import UserError

NAMES = ["T-shirt", "cat", "hot air balloon"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("few") / "pictures"
    for k, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for i in range(6):
            noise_image(50 * k + i).save(root / name / f"{i}.png")
    return root


def make(kind: str, epochs: int, **settings: Any) -> ContextTask:
    clip = noise_clip()
    base = tpt.context_from_words(clip, "a photo of a")
    if kind == "cocoop":
        return ContextTask(clip, NAMES, initial_conditional(clip, base, seed=1), epochs, **settings)
    if kind == "class-specific":
        base = tpt.random_context(clip, 3, "middle", seed=1, num_classes=len(NAMES))
    return ContextTask(clip, NAMES, base, epochs, **settings)


def data(pictures: Path, batch_size: int = 4, workers: int = 0) -> ShotsDataModule:
    shots = draw_shots(image_folder(pictures), None, 4, seed=1)
    module = ShotsDataModule(shots, batch_size=batch_size, num_workers=workers, seed=1)
    return module.use_image_size(noise_clip().image_size)


def fit(
    task: ContextTask, module: ShotsDataModule, folder: Path, epochs: int, resume: Path | None = None, **more: Any
) -> Trainer:
    callbacks = [*checkpoints(folder, module.shots.val is not None), *more.pop("callbacks", [])]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=more.pop("devices", 1),
        callbacks=callbacks,
        num_sanity_val_steps=0,
        plugins=[WholeFiles()],
        default_root_dir=folder,
        **{**quiet, **more},
    )
    coop_files.fit(trainer, task, module, resume)
    return trainer


class Rates(Callback):
    """Records the learning rate of every step."""

    def __init__(self) -> None:
        self.of_epoch: dict[int, set[float]] = {}

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: object) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.of_epoch.setdefault(trainer.current_epoch, set()).add(rate)


@pytest.mark.parametrize("epochs", [5, pytest.param(10, marks=pytest.mark.slow)])
def test_learning_rates_follow_the_closed_formula(pictures: Path, tmp_path: Path, epochs: int) -> None:
    rates = Rates()
    fit(make("coop", epochs), data(pictures), tmp_path, epochs, callbacks=[rates])
    assert list(rates.of_epoch) == list(range(epochs))
    for epoch, found in rates.of_epoch.items():
        expected = 1e-5 if epoch == 0 else 0.002 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        assert list(found) == [pytest.approx(expected, rel=1e-12)]


def test_the_formula_is_torchs_cosine_after_a_warm_up() -> None:
    for epochs, last in ((50, 7.885e-6), (10, 1.91e-4)):  # the official schedule does not end at 0
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.002)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        assert learning_rate(0, epochs) == 1e-5
        for epoch in range(1, epochs):
            assert learning_rate(epoch, epochs) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
            optimizer.step()
            cosine.step()
        assert learning_rate(epochs - 1, epochs) == pytest.approx(last, rel=5e-3)


def test_epochs_by_shots() -> None:
    assert [epochs_for(k) for k in (1, 2, 4, 8, 16, None)] == [50, 100, 100, 200, 200, 200]
    assert [epochs_for(k, "imagenet") for k in (1, 16, None)] == [50, 50, 50]
    assert epochs_for(16, "dtd") == 200


def test_the_optimizer_is_the_papers() -> None:
    (group,) = make("coop", 5).configure_optimizers()["optimizer"].param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"], group["dampening"]) == (0.9, 5e-4, False, 0)
    assert [tuple(p.shape) for p in group["params"]] == [(4, 64)]
    learned = make("cocoop", 5).configure_optimizers()["optimizer"].param_groups[0]["params"]
    assert sorted(tuple(p.shape) for p in learned) == [(2,), (2, 32), (4, 64), (64,), (64, 2)]


@pytest.mark.parametrize("kind", ["coop", "class-specific", "cocoop"])
def test_training_lowers_the_loss_and_keeps_clip_frozen(kind: str, pictures: Path, tmp_path: Path) -> None:
    clip = noise_clip()
    before, fingerprint = make(kind, 8).context(), clip.fingerprint()
    task = make(kind, 8, optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9))  # random weights need larger steps
    module = data(pictures, batch_size=12)
    (batch,) = module.train_dataloader()

    def loss() -> float:
        features = clip.encode_image(batch.images)
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(task.logits(features), batch.labels))

    start = loss()
    fit(task, module, tmp_path, 8)
    assert loss() < start - 0.01
    assert clip.fingerprint() == fingerprint
    learned = task.context()
    ours, theirs = (c.base if isinstance(c, ConditionalContext) else c for c in (learned, before))
    assert not torch.equal(ours.vectors, theirs.vectors)
    assert ours.class_names == (tuple(NAMES) if kind == "class-specific" else None)
    assert isinstance(learned, ConditionalContext) == (kind == "cocoop")


@pytest.mark.parametrize("kind", ["coop", "cocoop"])
def test_one_step_equals_the_plain_algorithm(kind: str, pictures: Path, tmp_path: Path) -> None:
    """One SGD step at the warm-up rate equals a step on the mean of losses computed per image."""
    task, module = make(kind, 1), data(pictures, batch_size=12)
    (batch,) = module.train_dataloader()
    plain = make(kind, 1)
    losses = []
    for image, label in zip(plain.clip.encode_image(batch.images), batch.labels, strict=True):
        ctx = plain.ctx + plain.meta_net(image) if plain.meta_net else plain.ctx
        text = PromptLearner(plain.clip, NAMES, plain.learner.context)(ctx)
        losses.append(torch.nn.functional.cross_entropy(plain.clip.logit_scale * image @ text.T, label))
    torch.stack(losses).mean().backward()
    fit(task, module, tmp_path, 1)
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            expected = parameter - 1e-5 * (parameter.grad + 5e-4 * parameter)
            found = task.get_parameter(name)
            torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)
            assert not torch.equal(found, parameter)


class StopInEpoch(Callback):
    """Fails in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(
    ("kind", "workers", "limits"),
    [
        ("coop", 0, {"max_steps": 1000}),  # with max_steps, Lightning resumes differently
        pytest.param("cocoop", 0, {}, marks=pytest.mark.slow),
        pytest.param("coop", 2, {}, marks=pytest.mark.slow),
        pytest.param("cocoop", 2, {}, marks=pytest.mark.slow),
    ],
)
def test_resumed_training_ends_in_the_same_context(
    kind: str, workers: int, limits: dict[str, int], pictures: Path, tmp_path: Path
) -> None:
    """Also with data-loading workers, which draw the first batches of an epoch before it begins."""
    whole = make(kind, 5)
    fit(whole, data(pictures), tmp_path / "whole", 5)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(make(kind, 5), data(pictures, workers=workers), tmp_path / "cut", 5, callbacks=[StopInEpoch(3)], **limits)
    torch.manual_seed(99)  # nothing may depend on the global generator
    resumed = make(kind, 5)
    cut = tmp_path / "cut"
    fit(resumed, data(pictures, workers=workers), cut, 5, resume=cut / "last.ckpt", **limits)
    assert resumed.learned().keys() == whole.learned().keys()
    for name, value in whole.learned().items():
        assert torch.equal(resumed.learned()[name], value)
    fresh = make(kind, 5).learned()
    assert not any(torch.equal(fresh[name], value) for name, value in whole.learned().items())


def test_checkpoints_hold_only_the_learned_part(pictures: Path, tmp_path: Path) -> None:
    task = make("cocoop", 3)
    fit(task, data(pictures), tmp_path, 3)
    for name in ("last.ckpt", "best.ckpt"):
        assert (tmp_path / name).stat().st_size < 30_000
        loaded = tpt.load_context(tmp_path / name)
        assert isinstance(loaded, ConditionalContext)
        assert loaded.base.n_before == 4
    last = tpt.load_context(tmp_path / "last.ckpt")
    assert isinstance(last, ConditionalContext)
    assert torch.equal(last.base.vectors, task.ctx)
    assert torch.equal(last.meta_net.linear1.weight, task.meta_net.linear1.weight)  # type: ignore[union-attr]


def test_a_checkpoint_of_another_learner_is_refused(pictures: Path, tmp_path: Path) -> None:
    fit(make("coop", 2), data(pictures), tmp_path, 1)
    with pytest.raises(ValueError, match=r"it holds \{'ctx': \(4, 64\)\}, and this run learns .*meta_net"):
        check_checkpoint(tmp_path / "last.ckpt", make("cocoop", 2))


def test_metrics_are_logged(pictures: Path, tmp_path: Path) -> None:
    trainer = fit(make("coop", 2), data(pictures), tmp_path, 2)
    assert {"train/loss", "train/accuracy", "train/lr", "val/loss", "val/accuracy"} <= set(trainer.callback_metrics)
    assert float(trainer.callback_metrics["val/accuracy"]) in (pytest.approx(100 * k / 6) for k in range(7))
    assert float(trainer.callback_metrics["train/lr"]) == pytest.approx(0.002)


def test_without_validation_images_there_is_no_best_checkpoint(pictures: Path, tmp_path: Path) -> None:
    shots = draw_shots(image_folder(pictures), None, None)
    module = ShotsDataModule(shots, batch_size=4).use_image_size(noise_clip().image_size)
    fit(make("coop", 1), module, tmp_path, 1)
    assert (tmp_path / "last.ckpt").is_file()
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.parametrize("kind", ["class-specific", "cocoop"])
def test_contexts_are_saved_in_our_and_the_official_layout(kind: str, pictures: Path, tmp_path: Path) -> None:
    task = make(kind, 2)
    fit(task, data(pictures), tmp_path, 2)
    assert set(save_learned(tmp_path, task)) == {"best", "last"}
    assert not (tmp_path / "prompt_learner").exists()
    written = save_learned(tmp_path, task, public_layout=True)
    assert set(written) == {"best", "best, public layout", "last", "last, public layout"}
    assert (tmp_path / "prompt_learner" / "checkpoint").read_text() == "model.pth.tar-2\n"
    for path in (tmp_path, tmp_path / written["last"], tmp_path / "prompt_learner"):
        loaded = tpt.load_context(path)
        base = loaded.base if isinstance(loaded, ConditionalContext) else loaded
        assert torch.equal(base.vectors, task.ctx)
    assert tpt.TPT(noise_clip(), NAMES, context=tpt.load_context(tmp_path)) is not None


def test_a_loss_that_is_not_finite_names_the_batch(pictures: Path, tmp_path: Path) -> None:
    def wild(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e38)

    task = make("coop", 3, optimizer=wild, warmup_epochs=0)
    with pytest.raises(UserError, match=r"finite loss, got nan in epoch 0, batch 1 \(.*/\d.png.*\); lower the"):
        fit(task, data(pictures), tmp_path, 3)


@pytest.mark.parametrize("kind", [tpt.coop_task, tpt.cocoop_task])
def test_a_number_of_vectors_that_the_words_do_not_have_is_noted(kind: Any) -> None:
    clip = noise_clip()
    for words, number, used in (("a photo of a", 8, False), ("a photo of a", 4, True), (None, 8, True)):
        context = kind(clip, NAMES, ctx_init=words, n_ctx=number).learner.context
        assert ("n_ctx=8 was not used" in context.note) is not used
        assert context.n_ctx == (4 if words else number)


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="`epochs` to be a whole number of at least 1"):
        tpt.coop_task(noise_clip(), NAMES, epochs=0)
    with pytest.raises(ValueError, match="`lr` to be a number above 0"):
        make("coop", 1, optimizer=lambda p: torch.optim.SGD(p, lr=0.0)).configure_optimizers()


@pytest.mark.parametrize("kind", ["coop", pytest.param("cocoop", marks=pytest.mark.slow)])
def test_mixed_precision_stays_close(kind: str, pictures: Path, tmp_path: Path) -> None:
    full, mixed = make(kind, 3), make(kind, 3)
    fit(full, data(pictures), tmp_path / "full", 3)
    fit(mixed, data(pictures), tmp_path / "mixed", 3, precision="bf16-mixed")
    start = make(kind, 3).ctx
    moved, apart = (full.ctx - start).norm(), (full.ctx - mixed.ctx).norm()
    assert 0 < apart.item() < 0.2 * moved.item()
    assert mixed.ctx.dtype == torch.float32


SCRIPT = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, {root!r})
    torch.set_num_threads(1)
    from tests.engine.tasks.test_coop import data, fit, make
    task = make({kind!r}, 3)
    if __name__ == "__main__":
        fit(task, data(Path({pictures!r}), batch_size=3), Path({out!r}), 3, devices=2, strategy="ddp")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["coop", "cocoop"])
def test_two_processes_equal_one_with_twice_the_batch(kind: str, pictures: Path, tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    out = tmp_path / "two"
    script.write_text(textwrap.dedent(SCRIPT.format(root=str(ROOT), kind=kind, pictures=str(pictures), out=str(out))))
    subprocess.run([sys.executable, str(script)], check=True, timeout=300, capture_output=True)
    one = make(kind, 3)
    fit(one, data(pictures, batch_size=6), tmp_path / "one", 3)
    two = tpt.load_context(out / "last.ckpt")
    base = two.base if isinstance(two, ConditionalContext) else two
    torch.testing.assert_close(base.vectors, one.ctx.detach(), atol=1e-6, rtol=0)
    assert (one.ctx - make(kind, 3).ctx).abs().max() > 1e-4
