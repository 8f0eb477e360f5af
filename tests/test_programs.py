"""The programs of an installed package, from this checkout."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tpt import cli
from tpt.programs import PROGRAMS, config_dir

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_every_program_is_a_console_script() -> None:
    assert {name: f"{module}:main" for name, (module, _) in PROGRAMS.items()} == SCRIPTS
    assert all(callable(import_module(module).main) for module, _ in PROGRAMS.values())


def test_the_package_lists_its_programs() -> None:
    done = subprocess.run([sys.executable, "-m", "tpt"], capture_output=True, text=True, check=True)
    for name, (_, what) in PROGRAMS.items():
        assert f"{name} " in done.stdout and what in done.stdout
    wrong = subprocess.run([sys.executable, "-m", "tpt", "tset"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.startswith("Error: Expected no argument, got 'tset'")


def test_a_checkout_has_its_configuration_beside_pyproject() -> None:
    assert config_dir() == ROOT / "conf"


@pytest.mark.parametrize(
    ("called", "next_one"), [("/a/test_time.py", "python train_coop.py"), ("/bin/tpt-test", "tpt-train")]
)
def test_programs_are_named_as_they_are_called(monkeypatch: pytest.MonkeyPatch, called: str, next_one: str) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert cli.command("train_coop") == next_one


@pytest.fixture
def installed_script(tmp_path: Path) -> Path:
    """What pip makes of `tpt-test`."""
    path = tmp_path / "tpt-test"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom tpt.programs.test_time import main\nsys.exit(main())\n")
    path.chmod(0o755)
    return path


def test_a_console_script_runs_as_the_script_does(installed_script: Path, small: list[str], tmp_path: Path) -> None:
    """Also as two processes, which Lightning starts from the first one's command line."""
    ddp = ("trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2", "data.limit=4")
    done = subprocess.run(
        [installed_script, *small, *ddp], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "results.json").is_file()
    wrong = subprocess.run(
        [installed_script, "method.stepz=2"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert wrong.returncode == 1 and "did you mean method.steps" in wrong.stderr, wrong.stderr
