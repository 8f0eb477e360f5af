"""Runs on every kind of model, loaded from a folder: records, resume, cache, report and learned contexts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

import tpt
from benchmarks.methods import METHODS
from tests.clip import families
from tests.conftest import Done
from tpt.cli.programs.report import main as report
from tpt.clip.prompts.context import Origin
from tpt.results.runs import read_records

Run = Callable[..., Done]
SLOW = ["ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "MobileCLIP2-S0", "coca_ViT-B-32", "ViT-L-14-worldwide"]
SLOW += ["ViT-H-14-worldwide", "roberta-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base-siglip"]
KINDS = ["ViT-B-16-SigLIP", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def records(folder: Path) -> Any:
    return read_records(folder).drop_columns("seconds")


def results_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def settings_of(name: str, folder: Path, image_tree: Path) -> tuple[str, list[str]]:
    """The name of a small model that is saved in `folder`, and the settings of a run with it."""
    backbone = families.save(name, folder / "model", **SIGLIP)
    given = ["backbone=open_clip", f"backbone.name={backbone}", "views.num_views=8", "method.selection_p=0.5"]
    given += ["data=folder", f"data.root={image_tree}", "data.batch_size=2", "logger=none", "method.lr=0.1"]
    return backbone, [*given, "callbacks.records.shard_size=2"]


@pytest.mark.parametrize("name", KINDS)
def test_runs_and_resume(name: str, run_script: Run, stop_after: Any, tmp_path: Path, image_tree: Path) -> None:
    backbone, given = settings_of(name, tmp_path, image_tree)
    run_script("test_time.py", *given, "hydra.run.dir=runs/whole")
    whole, results = records(tmp_path / "runs" / "whole"), results_of(tmp_path / "runs" / "whole")
    assert whole.num_rows == 12 and results["backbone"]["name"] == backbone and results["cache"]["encoded"] == 12
    assert whole["entropy"].to_pylist() != whole["entropy_zero_shot"].to_pylist(), "the context moved"

    stop_after(3)
    run_script("test_time.py", *given, "hydra.run.dir=runs/part", ok=False)
    stop_after(-1)
    run_script("test_time.py", "resume=runs/part")
    assert records(tmp_path / "runs" / "part").equals(whole)
    assert results_of(tmp_path / "runs" / "part")["cache"]["encoded"] == 0


@pytest.mark.slow  # test_train_coop.py has the same for the bundled model
@pytest.mark.parametrize("name", KINDS)
def test_learned_contexts(
    name: str, run_script: Run, tmp_path: Path, image_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, given = settings_of(name, tmp_path, image_tree)
    shots = ["shots=folder", f"shots.root={image_tree}", "shots.k=2", "batch_size=3", "learner.epochs=1"]
    for learner in ("coop", "cocoop"):
        words = ["learner.n_ctx=2"] if learner == "coop" else ["learner.ctx_init=a photo"]
        train = [f"learner={learner}", *words, *given[:2], *shots, "logger=none", f"hydra.run.dir=trained/{learner}"]
        run_script("train_coop.py", *train)
        context = [f"context={learner}", f"context.path={tmp_path / 'trained' / learner}"]
        run_script("test_time.py", *given, *context, f"hydra.run.dir=runs/{learner}")
        assert records(tmp_path / "runs" / learner).num_rows == 12
    capfd.readouterr()
    report([str(tmp_path / "runs")])
    assert capfd.readouterr().out.count("tpt") >= 2


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tpt.CLIP]:
    """A function that loads a small version of an open_clip model, once."""
    return cache(lambda name: tpt.load_clip(families.save(name, tmp_path_factory.mktemp("shrunk"))))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "mt5-base-ViT-B-32"])
def test_every_method_runs_and_ignores_the_batch(name: str, method: str, shrunk: Callable[[str], tpt.CLIP]) -> None:
    clip = shrunk(name)
    base = torch.randn(2, 1, clip.embed_dim, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 24, clip.embed_dim, generator=torch.Generator().manual_seed(1))
    features = F.normalize(base + noise, dim=-1)
    reward = {"reward": clip, "sample_k": 2} if method == "rlcf" else {}
    made: Any = METHODS[method](clip, ["cat", "hot air balloon", "T-shirt"], **reward)
    made.begin_dataset(2)
    both = made(features, **({"reward_features": features} if reward else {}))
    if isinstance(made, tpt.StreamMethod):  # its answers depend on earlier images
        made.reset()
        made(features[:1])
    one = made(features[1:], **({"reward_features": features[1:]} if reward else {}))
    assert both.logits.shape == (2, 3) and both.logits.isfinite().all()
    torch.testing.assert_close(one.logits, both.logits[1:], atol=1e-4, rtol=1e-4)


def test_preprocessing_follows_the_folders_configuration(tmp_path: Path) -> None:
    name = families.save("ViT-B-16-SigLIP", tmp_path, **{**SIGLIP, "interpolation": "bilinear"})
    clip = tpt.load_clip(name)
    assert clip.preprocessing == {
        "image_size": 32,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "resize": "squash",
        "interpolation": "bilinear",
    }
    assert tpt.Views(**clip.preprocessing).about() != tpt.Views(clip.image_size).about()
    longest = families.save("ViT-B-16-SigLIP", tmp_path / "other", resize_mode="longest")
    with pytest.raises(tpt.errors.UserError, match="resized to the shorter side or squashed, got 32 x 32 .*'longest'"):
        tpt.load_clip(longest)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """A function that replaces an open_clip model by its shrunk version and returns the weights file."""

    def shrink(name: str) -> Path:
        families.save(name, tmp_path / name)
        config = json.loads((tmp_path / name / "open_clip_config.json").read_text())["model_cfg"]
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        file = tmp_path / name / "open_clip_model.safetensors"
        monkeypatch.setattr("tpt.clip.weights.named.fetch_tag", lambda *_: file)
        return file

    return shrink


def test_a_name_gets_its_own_vocabulary_and_preprocessing(known: Callable[[str], Path], tmp_path: Path) -> None:
    """Loading by tag, by file and from a folder gives the same model."""
    file = known("ViT-B-16-SigLIP")
    tagged, from_file = tpt.load_clip("ViT-B-16-SigLIP", "webli"), tpt.load_clip("ViT-B-16-SigLIP", file)
    folder = tpt.load_clip(families.save("ViT-B-16-SigLIP", tmp_path / "again", **SIGLIP))
    for clip in (tagged, from_file):
        assert clip.preprocessing == folder.preprocessing and clip.mean == (0.5, 0.5, 0.5) and clip.resize == "squash"
        assert not clip.tokenizer.start and clip.fingerprint() == folder.fingerprint()
        assert torch.equal(clip.encode_text(["A photo of a cat."]), folder.encode_text(["a photo of a cat"]))
    clip = tpt.load_clip("roberta-ViT-B-32", known("roberta-ViT-B-32"))
    assert clip.tokenizer.start and clip.resize == "shortest"


def test_a_missing_encoder_configuration_is_reported(known: Callable[[str], Path]) -> None:
    file = known("roberta-ViT-B-32")
    (file.parent / "config.json").unlink()
    with pytest.raises(tpt.errors.UserError, match="Cannot read the architecture of 'roberta-ViT-B-32' with open_clip"):
        tpt.load_clip("roberta-ViT-B-32", "laion2b_s12b_b32k")


def test_coops_layout_needs_a_start_token(tmp_path: Path) -> None:
    clip = tpt.load_clip(families.save("ViT-B-16-SigLIP", tmp_path))
    context = tpt.context_from_words(clip, "a photo of a")
    with pytest.raises(tpt.errors.UserError, match="Expected a backbone with one start token"):
        tpt.clip.prompts.export_public(tmp_path, context, clip, ["cat"])
    origin = replace(Origin.of(clip), start=torch.zeros(32))  # as in a file from CoOp
    with pytest.raises(tpt.errors.UserError, match="the start token in its file"):
        origin.check(clip, "a file")
