"""The examples of docs/extending.md work from a user's own folder, without changes to the project."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import tpt
from tests.conftest import ROOT, Done
from tests.engine.tracking.test_wandb import Offline
from tests.noise_models import noise_clip
from tests.processes import QUICK, start, wait_until
from tpt.errors import UserError
from tpt.methods.base import ViewShare
from tpt.results.runs import read_manifest, read_records

EXAMPLES = ROOT / "docs" / "extending"
NAMES = ["airplane", "hot air balloon", "cat", "kite (bird of prey)", "T-shirt"]
Run = Callable[..., Done]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Copies the examples to a user's own folder; returns the flags that name it to Hydra."""
    shutil.copytree(EXAMPLES, tmp_path / "own")
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "own"), *sys.path]))
    for name in ("dispersed", "majority", "centroids"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return ["--config-dir", str(tmp_path / "own" / "conf")]


@pytest.fixture
def examples(own: list[str]) -> tuple[ModuleType, ...]:
    return tuple(importlib.import_module(name) for name in ("dispersed", "majority", "centroids"))


@pytest.fixture
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(4, 1, noise_clip().embed_dim, generator=generator)
    views = base + 0.5 * torch.randn(4, 20, noise_clip().embed_dim, generator=generator)
    return torch.nn.functional.normalize(views, dim=-1)


def test_the_page_shows_the_example_files() -> None:
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    shown = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    files = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("conf/method/*.yaml")]
    assert len(files) == 6
    for file in files:
        text = file.read_text("utf-8")
        assert text in shown, f"{file} is not what docs/extending.md shows"
        assert len(text.splitlines()) < 50
        if file.suffix == ".py":
            assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("weight", [0.0, 50.0])
def test_the_tuner_equals_ctpt(examples: tuple[ModuleType, ...], features: torch.Tensor, weight: float) -> None:
    ours = examples[0].Dispersed(noise_clip(), NAMES, weight=weight, selection_p=0.2)(features)
    theirs = tpt.CTPT(noise_clip(), NAMES, penalty_weight=weight, selection_p=0.2)(features)
    assert torch.equal(ours.selected, theirs.selected)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-6, rtol=0)
    if weight == 0:
        plain = tpt.TPT(noise_clip(), NAMES, selection_p=0.2)(features)
        torch.testing.assert_close(ours.logits, plain.logits, atol=1e-6, rtol=0)


def test_the_vote_equals_the_zero_method_without_ties(examples: tuple[ModuleType, ...], features: torch.Tensor) -> None:
    ours = examples[1].Majority(noise_clip(), NAMES)(features)
    theirs = tpt.ZERO(noise_clip(), NAMES)(features)
    shares = ours.logits.softmax(-1).sort(-1).values
    alone = shares[:, -1] - shares[:, -2] > 1e-3
    assert alone.any() and torch.equal(ours.selected, theirs.selected)
    torch.testing.assert_close(ours.logits.softmax(-1)[alone], theirs.logits.softmax(-1)[alone])
    torch.testing.assert_close(ours.initial_logits, theirs.initial_logits)


def test_the_stream_method_is_a_running_mean(examples: tuple[ModuleType, ...], features: torch.Tensor) -> None:
    clip, text_weight = noise_clip(), 2.0
    method = examples[2].Centroids(clip, NAMES, text_weight=text_weight)
    logits = torch.cat([method(features[:1]).logits, method(features[1:]).logits])
    text = method.bank()
    for i, answer in enumerate(logits):
        before = features[:i, 0]
        sums = text_weight * text + (clip.logit_scale * before @ text.T).softmax(-1).T @ before
        expected = clip.logit_scale * torch.nn.functional.normalize(sums, dim=-1) @ features[i, 0]
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)
    other = examples[2].Centroids(clip, NAMES, text_weight=text_weight)
    other.load_state(method.state())
    assert torch.equal(other(features).logits, method(features).logits)


class WithConstructor(tpt.TPT):
    """Writes its constructor out, as methods did before settings were attributes."""

    def __init__(self, clip: tpt.CLIP, names: list[str], share: ViewShare = 0.2, **settings: Any) -> None:
        super().__init__(clip, names, selection_p=share, **settings)
        self.share = share


class Inherits(WithConstructor):
    """Has no constructor, so it takes the arguments of its base class's."""

    table: dict[str, int]


@pytest.mark.parametrize("kind", [WithConstructor, Inherits])
def test_a_method_may_write_its_constructor_out(kind: Any, features: torch.Tensor) -> None:
    ours = kind(noise_clip(), NAMES, share=0.3, steps=2)
    theirs = tpt.TPT(noise_clip(), NAMES, selection_p=0.3, steps=2)
    assert ours.share == 0.3 and torch.equal(ours(features).logits, theirs(features).logits)
    for wrong in ({"share": 2.0}, {"steps": -1}):
        with pytest.raises(UserError, match=f"Expected `{next(iter(wrong))}`"):
            kind(noise_clip(), NAMES, **wrong)


CONDITIONAL = ["context=cocoop", "context.path=net.safetensors"]
TEMPLATES = ["method.templates=imagenet_7"]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("dispersed", []),
        ("dispersed", CONDITIONAL),
        ("majority", CONDITIONAL),
        ("majority", TEMPLATES),
        ("centroids", [*TEMPLATES, "method.feature=confident"]),
    ],
)
def test_the_methods_accept_any_prompt(
    run_script: Run, small: list[str], own: list[str], tmp_path: Path, method: str, more: list[str]
) -> None:
    """Words, a CoCoOp context, which differs for every image, and templates."""
    clip = noise_clip()
    net = tpt.ConditionalContext(
        tpt.context_from_words(clip, "a photo of a"), tpt.clip.prompts.MetaNet(clip.embed_dim, clip.width)
    )
    tpt.save_context(tmp_path / "net.safetensors", net)
    run_script("test_time.py", *own, f"method={method}", *small, *more)
    records = read_records(tmp_path / "run")
    assert records.num_rows == 12 and records["problem"].null_count == 12


def finished(process: subprocess.Popen[str]) -> str:
    """Waits for a process to succeed, and returns its stdout."""
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return out


def program(folder: Path, name: str, *arguments: str) -> str:
    """Runs a program of the project, and returns its stdout."""
    command = [sys.executable, "-c", f"from tpt.cli.programs.opening import {name}; {name}()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command_of_the_page(sweep: bool) -> tuple[Path, list[str]]:
    """Returns the module folder and the settings of one of the page's two commands, shortened to two images."""
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    found = re.findall(r"^    PYTHONPATH=(\S+) python test_time\.py (.+)$", page, re.MULTILINE)
    assert [" -m " in arguments for _, arguments in found] == [False, True]
    modules, arguments = found[sweep]
    directory = "hydra.sweep.dir=sweep" if sweep else "hydra.run.dir=run"
    given = [argument.replace("docs/", f"{ROOT}/docs/") for argument in arguments.split()]
    return ROOT / modules, [*given, "data.limit=2", "data.module.datasets.domains=[twemoji]", *QUICK, directory]


def test_the_run_on_the_page(run_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules, given = command_of_the_page(sweep=False)
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.delitem(sys.modules, "dispersed", raising=False)
    out = run_script("test_time.py", *given).stdout
    assert read_records(tmp_path / "run").num_rows == 2 and "dispersed" in out and "majority" not in out


@pytest.mark.slow
def test_the_sweep_on_the_page(tmp_path: Path) -> None:
    """Runs in a real process, as a user starts it."""
    modules, given = command_of_the_page(sweep=True)
    out = finished(start(tmp_path, *given, PYTHONPATH=os.pathsep.join([str(modules), *sys.path])))
    assert all(read_records(tmp_path / "sweep" / job).num_rows == 2 for job in "0123")
    assert "dispersed" in out and "majority" in out


@pytest.mark.slow
def test_a_sweep_over_the_methods_own_setting(small: list[str], own: list[str], tmp_path: Path) -> None:
    """Row and job labels, figures, W&B and the manifest have the setting; jobs share the cache."""
    unshared = ("cache=off", "hydra.run.dir=run", "logger=none")
    shared = [argument for argument in small if argument not in unshared]
    sweep = [*own, "-m", *shared, "method=dispersed", "method.weight=0,50", "hydra.sweep.dir=sweep"]
    environment = {"WANDB_DATA_DIR": str(tmp_path / "wandb-data"), "WANDB_SILENT": "true"}
    out = finished(start(tmp_path, *sweep, "logger=wandb", "callbacks.panels.sheets=1", **environment))

    jobs = [tmp_path / "sweep" / job for job in "01"]
    assert "dispersed (weight=0)" in out and "dispersed (weight=50)" in out
    assert "0 images encoded, 12 from the cache" in (jobs[1] / "test_time.log").read_text()
    for job, weight in zip(jobs, (0, 50), strict=True):
        manifest, logged = read_manifest(job), Offline(job)
        assert manifest["division"]["max_graph_tokens"] > 0 and manifest["config"]["method"]["weight"] == weight
        assert logged.run.display_name == f"dispersed weight={weight}"
        assert logged.config["method.weight"] == weight and "dispersed" in logged.run.tags
    for command in (["sweep", "--figures", "figures"], ["sweep", "--format", "csv"]):
        assert "weight=50" in program(tmp_path, "report", *command)
    assert any("weight" in path.stem for path in (tmp_path / "figures").iterdir())

    done = finished(start(tmp_path, *own, *shared, "logger=none", "method=majority", "hydra.run.dir=run"))
    assert "majority" in done
    assert "0 images encoded, 12 from the cache" in (tmp_path / "run" / "test_time.log").read_text()
    for run in ("run", "sweep/1"):
        path = read_records(tmp_path / run)["path"][0].as_py()
        sheet = program(tmp_path, "views", run, path, "--trust", "--out", f"{Path(run).name}.png")
        assert Path(tmp_path, sheet.strip()).stat().st_size > 0


@pytest.mark.slow
def test_a_killed_run_is_resumed(small: list[str], own: list[str], tmp_path: Path) -> None:
    each = ["data.batch_size=1", "callbacks.records.shard_size=1", "method.steps=60"]  # slow enough to be killed midway
    process = start(tmp_path, *own, "method=dispersed", *small, *each)
    wait_until(lambda: list((tmp_path / "run" / "records").glob("*.parquet")), process)
    process.kill()
    process.communicate()
    before = read_records(tmp_path / "run").to_pylist()
    assert 0 < len(before) < 12

    finished(start(tmp_path, "resume=run"))  # uses the run's own --config-dir
    after = {record["path"]: record for record in read_records(tmp_path / "run").to_pylist()}
    assert len(after) == 12 and all(after[record["path"]] == record for record in before)


def test_their_settings_are_checked_and_in_the_help(run_script: Run, small: list[str], own: list[str]) -> None:
    for wrong, sentence in (
        ("method.weigth=3", r"got 'method\.weigth'; did you mean method\.weight"),
        ("method.weight=-3", "to be a number of at least 0, got -3"),
        ("method.weight=heavy", "Expected `method.weight` to be a number of at least 0, got 'heavy'"),
        ("method=dispersion", r"got 'dispersion'; did you mean dispersed\?"),
    ):
        done = run_script("test_time.py", *own, "method=dispersed", *small, wrong, ok=False)
        assert re.search(sentence, done.stderr), done.stderr
    done = run_script("test_time.py", *own, "-m", *small, "method=dispersed", "method.weight=0,heavy", ok=False)
    assert (
        "Expected `method.weight` to be a number of at least 0, got 'heavy'" in done.stderr and "job" not in done.stdout
    )
    said = run_script("test_time.py", *own, "method=dispersed", "--help").stdout
    assert "* dispersed" in said and "TPT that keeps the text features apart" in said
    assert re.search(r"method\.weight=50\.0 +of the text features' mean distance", said)
