"""Programs do not load libraries that they do not use, and all public names exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tpt

HEAVY = ("torch", "torchvision", "lightning", "torchmetrics", "open_clip", "timm", "wandb", "hydra", "matplotlib")
LIGHT = ["tpt", "tpt.errors", "tpt.cli.programs.report", "tpt.results.runs", "tpt.data.catalog.entries"]


@pytest.mark.parametrize("module", LIGHT)
def test_no_heavy_library_is_loaded(module: str) -> None:
    say = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "program, arguments",
    [("words", ["nothing.pt"]), ("demo", ["--host", ""])],
)
def test_a_mistake_is_found_before_torch_is_loaded(program: str, arguments: list[str], tmp_path: Path) -> None:
    code = (
        f"import atexit, sys; from tpt.cli.programs import {program}; "
        f"atexit.register(lambda: print('torch' in sys.modules)); {program}.main({arguments})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("Error: ")
    assert done.stdout.strip() == "False"


def test_every_public_name_exists() -> None:
    assert {"TPT", "ZeroShot", "load_clip", "Views"} <= set(tpt.__all__)
    for name in tpt.__all__:
        assert getattr(tpt, name) is not None
    assert set(tpt.__all__) <= set(dir(tpt))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = tpt.no_such_thing  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["tpt.data", "tpt.data.catalog"])
def test_public_names_of_packages_exist(module: str) -> None:
    room = __import__(module, fromlist=["__all__"])
    assert room.__all__ and all(getattr(room, name) is not None for name in room.__all__)


def test_the_configuration_uses_only_public_names() -> None:
    """Stored configurations then stay valid when modules move."""
    text = "".join(path.read_text("utf-8") for path in (Path(__file__).parents[1] / "conf").rglob("*.yaml"))
    named = set(re.findall(r"(?:_target_|class): tpt\.([\w.]+)", text))
    assert len(named) > 30 and named <= set(tpt.__all__)
