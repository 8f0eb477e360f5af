"""Fixtures: small CLIPs with seeded random weights, image trees, runs of the scripts."""

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
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import settings

from tpt.cli.programs.opening import LINE
from tpt.engine import stop

if TYPE_CHECKING:  # xdist's first process, which runs no test, need not load PyTorch before the others start
    import torch
    from omegaconf import DictConfig
    from PIL import Image

    import tpt

if "PYTEST_XDIST_WORKER" in os.environ:  # more threads than cores would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"  # also for programs that the tests start

if hasattr(yaml, "CSafeLoader"):  # faster, for the same documents; OmegaConf derives its loader and dumper from these
    yaml.SafeLoader = yaml.CSafeLoader
    yaml.Dumper = yaml.CDumper

# `nohup` and a shell's `&` ignore some signals.  Programs that the tests start would inherit that, but not a handler.
for number in stop.STOPPING:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)

# By default, properties are tested on the same examples in every run.  `test_properties.py`, which is slow, draws new
# ones; add an example that fails there to its property with `@example`.
settings.register_profile("fixed", derandomize=True, database=None)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

ROOT = Path(__file__).parent.parent
collect_ignore = ["golden"]  # scripts that make the golden numbers; not searched for doctests
NAMES = ["airplane", "hot air balloon", "golden_retriever", "kite (bird of prey)", "T-shirt", "jack-o'-lantern", "cat"]


def pytest_collection_finish() -> None:
    """Hides all loaded objects from the garbage collector, which a run calls before every dataset."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # composing with Hydra makes many small objects, and hardly any garbage


@pytest.fixture(scope="session", autouse=True)
def quick_runs() -> Iterator[None]:
    """Skips `fsync` in this process, because no test simulates a power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def feature_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the test's feature cache; the user's own is not used."""
    folder = tmp_path / "feature-cache"
    monkeypatch.setenv("TPT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def config_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration folder with the key that signs the tests' runs."""
    return tmp_path_factory.mktemp("config")


@pytest.fixture(autouse=True)
def own_key(config_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the user's own signing key out of the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config_home))


@pytest.fixture(scope="session")
def noise_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """(arch, seed) -> a safetensors file of random weights in OpenAI's format, which does not record the activation."""
    folder = tmp_path_factory.mktemp("weights")

    def make(arch: str = "vit", seed: int = 1) -> Path:
        from tests import noise_models

        path = folder / f"{arch}{seed}.safetensors"
        return path if path.exists() else noise_models.write(path, arch, seed)

    return make


@pytest.fixture(scope="session")
def noise_clip() -> Callable[..., tpt.CLIP]:
    """(arch, seed) -> a loaded CLIP with random weights; tests share it, because a CLIP is frozen."""
    from tests import noise_models

    return noise_models.noise_clip


@pytest.fixture
def clip(noise_clip: Callable[..., tpt.CLIP]) -> tpt.CLIP:
    return noise_clip()


@pytest.fixture
def features(clip: tpt.CLIP) -> torch.Tensor:
    """Random view features of three images, (3, 16, 32)."""
    import torch

    generator = torch.Generator().manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(3, 16, 32, generator=generator), dim=-1)


def noise_image(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    low = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return low.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The installed Chromium, for tests marked `browser`; it is not downloaded."""
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
    return save_tree(tmp_path / "pictures")


def save_tree(root: Path, per_class: int = 4) -> Path:
    """Saves images of three classes, in a folder for each; returns `root`."""
    for label, name in enumerate(("cat", "hot air balloon", "T-shirt")):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            noise_image(10 * label + i).save(root / name / f"{i}.png")
    return root


@dataclass
class Done:
    """How a run ended and what it printed; `stderr` without the status line at its start."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs a script of the project with command-line arguments in the test's folder.

    It runs in this process, so libraries are not imported again; `test_run.py` also starts real processes.
    """
    from hydra.core.global_hydra import GlobalHydra

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
            for number, handler in handlers.items():  # a stopped program ignores further signals
                signal.signal(number, handler)
            GlobalHydra.instance().clear()
            logging.getLogger().handlers.clear()
            logging.getLogger().setLevel(logging.WARNING)  # Hydra lowers it and does not restore it
        out, err = capfd.readouterr()
        assert (code == 0) == ok, f"exit code {code}\n{out}\n{err}"
        assert ("Traceback" in err) == bug, err
        return Done(code, out, err.removeprefix(f"{LINE}\n"))

    return run


@pytest.fixture
def small(image_tree: Path, noise_file: Callable[..., Path]) -> list[str]:
    """Settings of a small run: twelve pictures, batches of two, a CLIP with random weights."""
    model = ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true", "logger=none"]
    data = ["data=folder", f"data.root={image_tree}", "data.batch_size=2", "callbacks.records.shard_size=2"]
    return [*model, *data, "views.num_views=10", "hydra.run.dir=run", "threads=1", "cache=off"]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function (batches, signal) that makes the run send itself the signal after that many batches; never if < 0."""
    from tpt.engine.tasks.adaptation import AdaptationTask

    step = AdaptationTask.test_step  # before any patch

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
    """Returns the configuration that a job of `script` gets, with `tmp_path` as the run's directory."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = hydra.compose(script, list(overrides), return_hydra_config=True)
    OmegaConf.set_readonly(cfg.hydra, False)
    cfg.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
