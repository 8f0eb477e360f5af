"""Runs of train_coop.py, and of test_time.py with the learned contexts."""

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import tpt
from tests.conftest import ROOT, Done, compose_config, noise_image, save_tree
from tpt.clip.prompts import ConditionalContext, Context
from tpt.engine.tasks.coop import ContextTask

Run = Callable[..., Done]
CONF = ROOT / "conf"


def compose(*overrides: str, tmp_path: Path) -> DictConfig:
    return compose_config("train_coop", *overrides, tmp_path=tmp_path)


@pytest.fixture(scope="module")
def image_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four images; a test that changes it makes a copy."""
    return save_tree(tmp_path_factory.mktemp("shared") / "pictures")


@pytest.fixture
def small(image_tree: Path, noise_file: Any) -> list[str]:
    """Settings of a run that takes about a second."""
    backbone = [f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true"]
    return ["backbone=file", *backbone, "shots=folder", f"shots.root={image_tree}", "shots.k=2", "batch_size=3"]


def trained(run_script: Run, settings: list[str], run: Any, *more: str, **how: Any) -> Done:
    return run_script(
        "train_coop.py", *settings, "learner.epochs=3", "logger=none", f"hydra.run.dir={run}", *more, **how
    )


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    """Runs that tests share; each test changes its own copy."""
    return {}


@pytest.fixture
def runs(run_script: Run, small: list[str], tmp_path: Path, tmp_path_factory: Any, made: dict[str, Path]) -> Path:
    """Copies of a finished run in `whole`, and of one that ended within the second of three epochs in `part`."""
    for name, more in (("whole", "public_layout=true"), ("part", "+trainer.max_steps=3")):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / name
            trained(run_script, small, made[name], more, "resume=auto")
        shutil.copytree(made[name], tmp_path / name)
    return tmp_path


def same_context(one: Path, other: Path, name: str = "context.safetensors") -> bool:
    first, second = (tpt.load_context(folder / name) for folder in (one, other))
    assert isinstance(first, Context) and isinstance(second, Context)
    return torch.equal(first.vectors, second.vectors)


def test_learners_have_the_papers_settings(clip: tpt.CLIP, tmp_path: Path) -> None:
    own = ("shots=folder", "shots.root=pictures")  # the bundled drawings set their own number of epochs
    cfg = compose(*own, tmp_path=tmp_path)
    OmegaConf.resolve(cfg)
    first = cfg.learner.optimizer
    task = instantiate(cfg.learner)(clip=clip, class_names=["cat", "dog"], shots=4)
    assert isinstance(task, ContextTask) and task.meta_net is None
    assert (task.epochs, cfg.batch_size, tuple(task.ctx.shape)) == (100, 32, (16, 64))
    assert task.ctx.std().item() == pytest.approx(0.02, rel=0.1)
    cfg = compose("learner=cocoop", *own, tmp_path=tmp_path)
    for optimizer in (first, cfg.learner.optimizer):
        assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (0.002, 0.9, 5e-4)
    task = instantiate(cfg.learner)(clip=clip, class_names=["cat", "dog"], shots=16)
    assert task.meta_net is not None
    assert (task.epochs, cfg.batch_size) == (10, 1)
    assert torch.equal(task.ctx, tpt.context_from_words(clip, "a photo of a").vectors)


def test_class_specific_contexts_start_from_noise_or_words(clip: tpt.CLIP, tmp_path: Path) -> None:
    settings = ["learner.class_specific=true", "learner.class_token_position=middle", "learner.n_ctx=5"]
    task = instantiate(compose(*settings, tmp_path=tmp_path).learner)(clip=clip, class_names=["cat", "dog"], shots=1)
    assert tuple(task.ctx.shape) == (2, 5, 64)
    assert task.learner.context.n_before == 2
    assert not torch.equal(task.ctx[0], task.ctx[1])
    words = compose("learner.class_specific=true", "learner.ctx_init=a photo of a", tmp_path=tmp_path)
    task = instantiate(words.learner)(clip=clip, class_names=["cat", "dog"], shots=1)
    assert torch.equal(task.ctx[0], task.ctx[1])
    assert torch.equal(task.ctx[0], tpt.context_from_words(clip, "a photo of a").vectors)


def test_shots_of_the_bundled_data(tmp_path: Path) -> None:
    cfg = compose("shots.k=2", "shots.classes=base", tmp_path=tmp_path)
    shots = instantiate(cfg.shots.draw)
    assert {f["path"].split("/")[0] for f in shots.files()} <= set(shots.train.class_names)
    assert 0 < len(shots.train) <= 2 * len(shots.train.class_names)
    assert shots.val is not None
    assert instantiate(cfg.shots.module)(shots=shots).batch_size == 32


@pytest.mark.parametrize("learner", ["coop", "cocoop"])
def test_training_then_tuning(learner: str, run_script: Run, small: list[str], tmp_path: Path) -> None:
    done = run_script(
        "train_coop.py", *small, f"learner={learner}", "learner.epochs=2", "hydra.run.dir=a", "public_layout=true"
    )
    content = json.loads((tmp_path / "a" / "training.json").read_text())
    assert content["learner"] == learner
    assert content["epochs"] == 2
    assert len(content["drawn"]) == 3 * 2 + 3 * 2
    assert {"train/loss", "val/accuracy"} <= set(content["metrics"])
    assert content["config"]["learner"]["optimizer"]["momentum"] == 0.9
    assert f"context={learner} context.path=" in done.stdout
    metrics = (tmp_path / "a" / "csv" / "metrics.csv").read_text().splitlines()
    assert {"train/loss", "train/lr", "val/accuracy"} <= set(metrics[0].split(","))
    for path in (tmp_path / "a", tmp_path / "a" / "prompt_learner", tmp_path / "a" / "best.ckpt"):
        loaded = tpt.load_context(path)
        assert isinstance(loaded, ConditionalContext if learner == "cocoop" else Context)
    tree = small[4].removeprefix("shots.root=")
    views = ["views.num_views=8", "method.selection_p=0.5"]
    more = [
        f"context={learner}",
        f"context.path={tmp_path / 'a'}",
        "data=folder",
        f"data.root={tree}",
        "hydra.run.dir=b",
    ]
    if learner == "cocoop":
        more.append("context.meta_input=unit")
    run_script("test_time.py", *small[:3], *views, *more)
    results = json.loads((tmp_path / "b" / "results.json").read_text())
    assert results["method"] == f"tpt+{learner}"
    assert results["context"].startswith(f"{learner}: ")


@pytest.mark.slow  # the next tests have the same for CoOp
def test_resumed_training_of_cocoop_ends_in_the_same_context(run_script: Run, small: list[str], tmp_path: Path) -> None:
    settings = [*small, "learner=cocoop", "learner.epochs=4", "logger=none"]
    run_script("train_coop.py", *settings, "hydra.run.dir=whole")
    run_script("train_coop.py", *settings, "hydra.run.dir=part", "+trainer.max_steps=3")  # within the second epoch
    run_script("train_coop.py", *settings, "hydra.run.dir=rest", f"resume={tmp_path / 'part' / 'last.ckpt'}")
    whole, part, rest = (tpt.load_context(tmp_path / run) for run in ("whole", "part", "rest"))
    vectors = [c.base.vectors for c in (whole, part, rest) if isinstance(c, ConditionalContext)]
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])


def test_mistakes_give_one_sentence(run_script: Run, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_text("x")
    mistakes = {
        "resume=nothing.ckpt": "Cannot read the checkpoint nothing.ckpt (No such file",
        f"resume={tmp_path / 'bad.ckpt'}": "it is no checkpoint of train_coop.py, or damaged (BadZipFile)",
        "shots.k=0": "`shots.k` to be a whole number of at least 1 or null, got 0",
        "shots.classes=old": "`shots.classes` to be all or base or new",
        "learner.class_token_position=left": "`learner.class_token_position` to be end or middle or front",
        "learner.epochs=0": "`learner.epochs` to be a whole number of at least 1 or null, got 0",
    }
    for setting, sentence in mistakes.items():
        done = run_script("train_coop.py", *small, "logger=none", setting, "hydra.run.dir=x", ok=False)
        assert sentence in done.stderr
        assert done.stderr.count("Error:") == 1


def test_a_checkpoint_with_other_settings_is_refused(
    run_script: Run, small: list[str], runs: Path, image_tree: Path
) -> None:
    """Settings and image contents must equal the run's, even if its checkpoint was moved; then the context is equal."""
    alone, beside = runs / "elsewhere" / "renamed.ckpt", runs / "part" / "last.ckpt"
    alone.parent.mkdir()
    alone.write_bytes(beside.read_bytes())
    for checkpoint, settings, sentences in (
        (beside, ["seed=2", "learner.epochs=9"], ["seed was 1 and is 2", "was 3 and is 9"]),
        (beside, ["shots.k=1"], ["shots.k was 2 and is 1"]),
        (
            alone,
            ["learner.optimizer.lr=0.001", "batch_size=2"],
            ["data: learner.optimizer.lr was 0.002 and is 0.001", "batch_size was 3 and is 2"],
        ),
    ):
        found = trained(run_script, small, "b", f"resume={checkpoint}", *settings, ok=False).stderr
        assert all(sentence in found for sentence in sentences), found
    shutil.copytree(image_tree, runs / "own" / "pictures")
    noise_image(99).save(runs / "own" / "pictures" / "cat" / "1.png")
    for checkpoint in (beside, alone):
        found = trained(run_script, small, "b", f"resume={checkpoint}", "shots.root=own/pictures", ok=False).stderr
        assert "contents." in found and "cat/1.png was" in found
    assert not (runs / "b" / "training_run.json").exists()
    trained(run_script, small, "b", f"resume={alone}")
    assert same_context(runs / "b", runs / "whole") and not same_context(runs / "part", runs / "whole")


def test_a_directory_in_use_is_refused(
    run_script: Run, small: list[str], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpt.results.runs.claim.PATIENCE_S", 0.1)
    (runs / "a").mkdir()
    with FileLock(runs / "a" / ".lock"):
        assert "Another process is already writing to" in trained(run_script, small, "a", ok=False).stderr
    before = (runs / "whole" / "context.safetensors").read_bytes()
    assert "holds files of an earlier run" in trained(run_script, small, "whole", "seed=2", ok=False).stderr
    tree = next(a for a in small if a.startswith("shots.root=")).removeprefix("shots.root=")
    of_test = [*small[:3], "data=folder", f"data.root={tree}", "hydra.run.dir=whole", "views.num_views=2", "cache=off"]
    done = run_script("test_time.py", *of_test, "method=zero_shot", ok=False)
    assert "holds training_run.json of another program's run" in done.stderr
    assert (runs / "whole" / "context.safetensors").read_bytes() == before


def test_resume_auto_continues_any_state(run_script: Run, small: list[str], runs: Path) -> None:
    """It starts a new run, and resumes a stopped and a finished one; `best.ckpt` can be resumed too."""
    part = runs / "part"  # started with resume=auto
    trained(run_script, small, "part", "resume=auto")
    trained(run_script, small, "b", f"resume={runs / 'whole' / 'best.ckpt'}")
    for run in ("part", "b"):
        for name in ("context.safetensors", "context-best.safetensors"):
            assert same_context(runs / run, runs / "whole", name), (run, name)
    before = json.loads((part / "training.json").read_text())["metrics"]
    trained(run_script, small, "part", "resume=auto")
    content = json.loads((part / "training.json").read_text())
    assert content["metrics"] == before and "val/accuracy" in before
    assert len(json.loads((part / "training_run.json").read_text())["sessions"]) == 3


def test_other_checkpoints_are_refused(run_script: Run, small: list[str], runs: Path) -> None:
    """A checkpoint in the layout of CoOp's code, renamed to .ckpt, and a folder."""
    theirs = runs / "model.ckpt"
    theirs.write_bytes((runs / "whole" / "prompt_learner" / "model.pth.tar-3").read_bytes())
    assert (
        "it is no checkpoint of train_coop.py, or damaged (KeyError)"
        in trained(run_script, small, "b", f"resume={theirs}", ok=False).stderr
    )
    (runs / "folder.ckpt").mkdir()
    assert (
        "folder.ckpt (it is a folder, not a file)"
        in trained(run_script, small, "b", f"resume={runs / 'folder.ckpt'}", ok=False).stderr
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (runs / "whole").glob("*.safetensors")}
    assert set(modes.values()) == {stat.S_IMODE((runs / "whole" / "training.json").stat().st_mode)} and len(modes) == 2
