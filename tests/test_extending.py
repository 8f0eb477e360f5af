"""The examples of docs/extending.md: files outside the repository that everything takes up by itself."""

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
from tests.noise_models import noise_clip
from tpt.runs import read_manifest, read_records

EXAMPLES = ROOT / "docs" / "extending"
NAMES = ["airplane", "hot air balloon", "cat", "kite (bird of prey)", "T-shirt"]
Run = Callable[..., Done]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The examples in a folder of a user's; what Hydra is told of it."""
    shutil.copytree(EXAMPLES, tmp_path / "own")
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "own"), *sys.path]))
    for name in ("dispersed", "majority"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return ["--config-dir", str(tmp_path / "own" / "conf")]


@pytest.fixture
def examples(own: list[str]) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module("dispersed"), importlib.import_module("majority")


@pytest.fixture
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(4, 1, noise_clip().embed_dim, generator=generator)
    views = base + 0.5 * torch.randn(4, 20, noise_clip().embed_dim, generator=generator)
    return torch.nn.functional.normalize(views, dim=-1)


def test_the_page_shows_the_files() -> None:
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    shown = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    files = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("conf/method/*.yaml")]
    assert len(files) == 4
    for file in files:
        text = file.read_text("utf-8")
        assert text in shown, f"{file} is not what docs/extending.md shows"
        assert len(text.splitlines()) < 50
        if file.suffix == ".py":
            assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("weight", [0.0, 50.0])
def test_the_tuner_is_c_tpt(examples: tuple[ModuleType, ...], features: torch.Tensor, weight: float) -> None:
    ours = examples[0].Dispersed(noise_clip(), NAMES, weight=weight, selection_p=0.2)(features)
    theirs = tpt.CTPT(noise_clip(), NAMES, penalty_weight=weight, selection_p=0.2)(features)
    assert torch.equal(ours.selected, theirs.selected)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-6, rtol=0)
    if weight == 0:
        plain = tpt.TPT(noise_clip(), NAMES, selection_p=0.2)(features)
        torch.testing.assert_close(ours.logits, plain.logits, atol=1e-6, rtol=0)


def test_the_vote_is_zeros_where_nothing_ties(examples: tuple[ModuleType, ...], features: torch.Tensor) -> None:
    ours = examples[1].Majority(noise_clip(), NAMES)(features)
    theirs = tpt.ZERO(noise_clip(), NAMES)(features)
    shares = ours.logits.softmax(-1).sort(-1).values
    alone = shares[:, -1] - shares[:, -2] > 1e-3
    assert alone.any() and torch.equal(ours.selected, theirs.selected)
    torch.testing.assert_close(ours.logits.softmax(-1)[alone], theirs.logits.softmax(-1)[alone])
    torch.testing.assert_close(ours.initial_logits, theirs.initial_logits)


CONDITIONAL = ["context=cocoop", "context.path=net.safetensors"]
TEMPLATES = ["method.templates=imagenet_7"]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("dispersed", []),
        ("majority", []),
        ("dispersed", CONDITIONAL),
        ("majority", CONDITIONAL),
        ("majority", TEMPLATES),
    ],
)
def test_any_prompt(
    run_script: Run, small: list[str], own: list[str], tmp_path: Path, method: str, more: list[str]
) -> None:
    """Words, a context of CoCoOp, which every image makes its own of, and templates."""
    clip = noise_clip()
    net = tpt.ConditionalContext(
        tpt.context_from_words(clip, "a photo of a"), tpt.prompts.MetaNet(clip.embed_dim, clip.width)
    )
    tpt.save_context(tmp_path / "net.safetensors", net)
    run_script("test_time.py", *own, f"method={method}", *small, *more)
    records = read_records(tmp_path / "run")
    assert records.num_rows == 12 and records["problem"].null_count == 12


def test_everything_takes_them_up(
    run_script: Run, small: list[str], own: list[str], tmp_path: Path, stop_after: Any
) -> None:
    """Labels, the figure of a setting, the recorded division, the cache, a resume, a contact sheet."""
    shared = [a for a in small if a not in ("cache=off", "hydra.run.dir=run")]
    sweep = [*own, "-m", *shared, "method=dispersed", "method.weight=0,50", "hydra.sweep.dir=sweep"]
    done = run_script("test_time.py", *sweep)
    assert "dispersed (weight=0)" in done.stdout and "dispersed (weight=50)" in done.stdout
    assert "0 images encoded, 12 from the cache" in (tmp_path / "sweep" / "1" / "test_time.log").read_text()
    assert "max_graph_tokens" in read_manifest(tmp_path / "sweep" / "0")["division"]
    for command in (["sweep", "--figures", "figures"], ["sweep", "--format", "csv"]):
        report = subprocess.run(
            [sys.executable, "-m", "tpt.reports", *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "weight=50" in report.stdout
    assert any("weight" in path.stem for path in (tmp_path / "figures").iterdir())

    single = [*own, *shared, "method=majority", "hydra.run.dir=run"]
    stop_after(2)
    run_script("test_time.py", *single, ok=False)
    stop_after(-1)
    before = read_records(tmp_path / "run").num_rows
    assert 0 < before < 12
    run_script("test_time.py", "resume=run", "trust=true", *own)
    assert read_records(tmp_path / "run").num_rows == 12
    path = read_records(tmp_path / "run")["path"][0].as_py()
    sheet = [sys.executable, "-m", "tpt.contact_sheet", "run", path, "--trust"]
    drawn = subprocess.run(sheet, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert drawn.returncode == 0, drawn.stderr


def test_their_settings_are_checked_and_helped(run_script: Run, small: list[str], own: list[str]) -> None:
    for wrong, sentence in (
        ("method.weigth=3", r"got 'method\.weigth'; did you mean method\.weight"),
        ("method.weight=-3", "Expected `weight` of at least 0, got -3"),
        ("method.weight=heavy", "Expected `method.weight` to be a number, got 'heavy'"),
        ("method=dispersion", r"got 'dispersion'; did you mean dispersed\?"),
    ):
        done = run_script("test_time.py", *own, "method=dispersed", *small, wrong, ok=False)
        assert re.search(sentence, done.stderr), done.stderr
    done = run_script("test_time.py", *own, "-m", *small, "method=dispersed", "method.weight=0,heavy", ok=False)
    assert "Expected `method.weight` to be a number, got 'heavy'" in done.stderr and "job" not in done.stdout
    said = run_script("test_time.py", *own, "method=dispersed", "--help").stdout
    assert "* dispersed" in said and "TPT that keeps the text features apart" in said
    assert re.search(r"method\.weight=50\.0 +of the text features' mean distance", said)
