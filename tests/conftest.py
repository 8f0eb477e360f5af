"""Fixtures: small CLIPs of seeded noise, image trees, real processes."""

from __future__ import annotations

import gc
import logging
import os
import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hypothesis import settings
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image

import tpt
from tests import noise_models
from tpt.cli.programs.opening import LINE
from tpt.engine import stop
from tpt.engine.tasks.adaptation import AdaptationTask

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes share the cores; their threads would wait for each other
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs they start

# Programs inherit ignored signals, which `nohup` and a shell's `&` leave behind, but no handler of their parent.
for number in stop.STOPPING:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)

# Properties are tried on the same examples in every run; a slow test tries new ones, and what it finds becomes an
# example of its own (`@example`).
settings.register_profile("fixed", derandomize=True, database=None)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

ROOT = Path(__file__).parent.parent
collect_ignore = ["golden"]  # the makers of golden numbers are not looked at for examples
NAMES = ["airplane", "hot air balloon", "golden_retriever", "kite (bird of prey)", "T-shirt", "jack-o'-lantern", "cat"]


def pytest_collection_finish() -> None:
    """Hides all that is loaded from the garbage collector, which a run calls before every dataset."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def quick_runs() -> Iterator[None]:
    """A run in this process waits for no disk, since no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def feature_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The feature cache of a test's runs, never the user's own."""
    folder = tmp_path / "feature-cache"
    monkeypatch.setenv("TPT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def config_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the key that signs the tests' runs is kept."""
    return tmp_path_factory.mktemp("config")


@pytest.fixture(autouse=True)
def own_key(config_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never the user's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config_home))


@pytest.fixture(scope="session")
def noise_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """(arch, seed) -> an OpenAI-format safetensors file of noise weights, silent about its activation."""
    folder = tmp_path_factory.mktemp("weights")

    def make(arch: str = "vit", seed: int = 1) -> Path:
        path = folder / f"{arch}{seed}.safetensors"
        return path if path.exists() else noise_models.write(path, arch, seed)

    return make


@pytest.fixture(scope="session")
def noise_clip() -> Callable[..., tpt.CLIP]:
    """(arch, seed) -> a loaded CLIP of noise; shared, since a CLIP is frozen."""
    return noise_models.noise_clip


@pytest.fixture
def clip(noise_clip: Callable[..., tpt.CLIP]) -> tpt.CLIP:
    return noise_clip()


@pytest.fixture
def features(clip: tpt.CLIP) -> torch.Tensor:
    """View features of three images of noise, (3, 16, 32)."""
    generator = torch.Generator().manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(3, 16, 32, generator=generator), dim=-1)


def noise_image(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    low = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return low.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The machine's Chromium, for tests marked `browser`; none is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    assert found is not None, "apt-get install chromium"
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """Three classes, four images each."""
    root = tmp_path / "pictures"
    for label, name in enumerate(("cat", "hot air balloon", "T-shirt")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            noise_image(10 * label + i).save(root / name / f"{i}.png")
    return root


@dataclass
class Done:
    """How a run ended and what it printed, on stderr behind its first line."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs a script of the project with arguments, in an empty folder, through its own command line.

    In this process, which saves importing everything again; `test_run.py` starts real processes as well.
    """

    def run(script: str, *args: str, ok: bool = True, bug: bool = False) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *args])
        capfd.readouterr()
        code = 0
        handlers = {number: signal.getsignal(number) for number in stop.STOPPING}
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():  # a program that was stopped is at its end
                signal.signal(number, handler)
            GlobalHydra.instance().clear()
            logging.getLogger().handlers.clear()
            logging.getLogger().setLevel(logging.WARNING)  # Hydra lowers it for good
        out, err = capfd.readouterr()
        assert (code == 0) == ok, f"exit code {code}\n{out}\n{err}"
        assert ("Traceback" in err) == bug, err
        return Done(code, out, err.removeprefix(f"{LINE}\n"))

    return run


@pytest.fixture
def small(image_tree: Path, noise_file: Callable[..., Path]) -> list[str]:
    """Twelve pictures, batches of two, a CLIP of noise."""
    model = ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true", "logger=none"]
    data = ["data=folder", f"data.root={image_tree}", "data.batch_size=2", "callbacks.records.shard_size=2"]
    return [*model, *data, "views.num_views=10", "hydra.run.dir=run", "threads=1", "cache=off"]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the run get a signal when so many batches are done."""
    step = AdaptationTask.test_step  # of the class as it is

    def at(batches: int, number: int = signal.SIGTERM) -> None:
        left = [batches]

        def test_step(self: AdaptationTask, *args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), number)
            left[0] -= 1
            return step(self, *args, **kwargs)

        monkeypatch.setattr(AdaptationTask, "test_step", test_step)

    return at


def compose_config(script: str, *overrides: str, tmp_path: Path) -> DictConfig:
    """The configuration of `script` as its job sees it, with `tmp_path` as the run's directory."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose(script, list(overrides), return_hydra_config=True)
    OmegaConf.set_readonly(cfg.hydra, False)
    cfg.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
