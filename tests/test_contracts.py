"""The import contracts of pyproject.toml reject forbidden imports planted in a copy of the sources."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# File -> (planted statement, import that the linter must report).
PLANTS = {
    "methods/base.py": ("from tpt.views import Views", "tpt.methods.base -> tpt.views"),
    "methods/tpt.py": ("import tpt.data.images", "tpt.methods.tpt -> tpt.data.images"),
    "methods/zero_shot.py": ("import tpt.data.cache.cache", "tpt.methods.zero_shot -> tpt.data.cache.cache"),
    "methods/functional/entropy.py": ("import tpt.results.runs", "tpt.methods.functional.entropy -> tpt.results.runs"),
    "methods/functional/selection.py": ("import numpy as np", "tpt.methods.functional.selection -> numpy"),
    "clip/model.py": ("from tpt.results.tables import make_report", "tpt.clip.model -> tpt.results.tables"),
    "clip/prompts/context.py": ("import tpt.engine.stop", "tpt.clip.prompts.context -> tpt.engine.stop"),
    "clip/prompts/learner.py": ("from tpt.methods import TPT", "tpt.clip.prompts.learner -> tpt.methods"),
    "clip/tokens.py": ("from tpt.data.dataset import Sample", "tpt.clip.tokens -> tpt.data.dataset"),
    "results/runs/manifest.py": ("from omegaconf import OmegaConf", "tpt.results.runs.manifest -> omegaconf"),
    "results/runs/records.py": ("import hydra", "tpt.results.runs.records -> hydra"),
    "results/runs/environment.py": ("import tpt.engine.stop", "tpt.results.runs.environment -> tpt.engine.stop"),
    "results/tables/grid.py": ("import tpt.clip.prompts", "tpt.results.tables.grid -> tpt.clip.prompts"),
    "results/tables/report.py": ("import torch", "tpt.results.tables.report -> torch"),
    "results/tables/formats.py": ("from matplotlib.figure import Figure", "tpt.results.tables.formats -> matplotlib"),
    "results/predictions.py": ("from tpt.methods import base", "tpt.results.predictions -> tpt.methods.base"),
    "errors.py": ("from tpt.data.store import Store", "tpt.errors -> tpt.data.store"),
    "files/reading.py": ("from tpt.data.cache import cache", "tpt.files.reading -> tpt.data.cache.cache"),
    "data/folder.py": ("from tpt.methods.base import Method", "tpt.data.folder -> tpt.methods.base"),
    "data/listing.py": ("import open_clip", "tpt.data.listing -> open_clip"),
    "data/cache/store.py": ("from tpt.clip.model import CLIP", "tpt.data.cache.store -> tpt.clip.model"),
    "views/maker.py": ("from tpt.data.dataset import ImageDataset", "tpt.views.maker -> tpt.data.dataset"),
    "engine/contact_sheet.py": ("import tpt.cli.places", "tpt.engine.contact_sheet -> tpt.cli.places"),
    "engine/tasks/outcome.py": ("import omegaconf", "tpt.engine.tasks.outcome -> omegaconf"),
    "engine/callbacks/records.py": ("import wandb", "tpt.engine.callbacks.records -> wandb"),
    "engine/tasks/method_maker.py": ("from tpt import TPT", "tpt.engine.tasks.method_maker -> tpt"),
    "cli/sweeps.py": ("import gradio", "tpt.cli.sweeps -> gradio"),
    "cli/places.py": ("import tpt.__main__", "tpt.cli.places -> tpt.__main__"),
}  # fmt: skip


def copy_of_sources(folder: Path) -> Path:
    shutil.copytree(
        ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.zip")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder / "src" / "tpt"


def lint(folder: Path) -> tuple[int, str]:
    """Runs the linter on the sources in a folder; returns its exit code and its output on one line."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "250"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_planted_imports_are_found(tmp_path: Path) -> None:
    package = copy_of_sources(tmp_path)
    for name, (statement, _) in PLANTS.items():
        with (package / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\ndef planted() -> None:\n    {statement.replace(chr(10), chr(10) + '    ')}\n")
    code, said = lint(tmp_path)
    assert code == 1
    missed = [found for _, found in PLANTS.values() if f"{found} (l." not in said]
    assert missed == [], said


@pytest.mark.parametrize("room", ["new_module.py", "new_folder/__init__.py"])
def test_a_module_or_folder_without_a_layer_is_found(tmp_path: Path, room: str) -> None:
    package = copy_of_sources(tmp_path)
    assert lint(tmp_path)[0] == 0
    (package / room).parent.mkdir(exist_ok=True)
    (package / room).write_text('"""New."""\n')
    code, said = lint(tmp_path)
    assert code == 1 and room.split("/", maxsplit=1)[0].removesuffix(".py") in said


def test_design_page_lists_the_folders_of_the_contract() -> None:
    """The table of folders in docs/design.md has the contract's levels and folders, in the same order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    floors = enumerate(next(c["layers"] for c in contracts if c["type"] == "layers"), 1)
    rooms = [(number, room.strip()) for number, floor in floors for room in floor.split("|")]
    lines = re.findall(r"^\| (\d+) \| `(\w+)` \|", (ROOT / "docs" / "design.md").read_text("utf-8"), re.MULTILINE)
    assert [(int(number), room) for number, room in lines] == rooms


def test_a_name_stands_for_one_thing() -> None:
    """No two modules define a public class or function of the same name; each program has a `main` or `run`."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src" / "tpt").rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert len(places) > 500
    assert {name for name, found in places.items() if len(found) > 1} == {"main", "run"}
