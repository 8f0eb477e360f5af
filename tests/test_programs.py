"""The console scripts of the package, run from this checkout."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT, Done
from tpt.cli.places import PROGRAMS, command, config_dir
from tpt.cli.program import Program
from tpt.cli.programs import opening
from tpt.cli.programs.opening import HYDRAS, LINE

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_every_program_is_a_console_script() -> None:
    for name, (module, _) in PROGRAMS.items():
        room, _, last = module.rpartition(".")
        assert SCRIPTS.pop(name) == f"{room}.opening:{last}"
        assert callable(getattr(opening, last))
    assert not SCRIPTS
    for module, _ in PROGRAMS.values():
        hydras = module.rpartition(".")[2] in HYDRAS
        assert callable(getattr(import_module(module), "run" if hydras else "main"))


def test_python_m_tpt_lists_the_programs() -> None:
    done = subprocess.run([sys.executable, "-m", "tpt"], capture_output=True, text=True, check=True)
    for name, (_, what) in PROGRAMS.items():
        assert f"{name} " in done.stdout and what in done.stdout
    wrong = subprocess.run([sys.executable, "-m", "tpt", "tset"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.startswith("Error: Unrecognized arguments: tset")


def test_a_checkout_uses_its_own_configuration() -> None:
    assert config_dir() == ROOT / "conf"


@pytest.mark.parametrize(
    ("called", "next_one"), [("/a/test_time.py", "python train_coop.py"), ("/bin/tpt-test", "tpt-train")]
)
def test_hints_name_programs_as_called(monkeypatch: pytest.MonkeyPatch, called: str, next_one: str) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert command("train_coop") == next_one


@pytest.fixture
def installed_script(tmp_path: Path) -> Path:
    """A script like the one that pip writes for `tpt-test`."""
    path = tmp_path / "tpt-test"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom tpt.cli.programs.opening import test_time\nsys.exit(test_time())\n"
    )
    path.chmod(0o755)
    return path


def test_a_console_script_prints_its_status_line_at_once(installed_script: Path, tmp_path: Path) -> None:
    """The line appears before torch is loaded, and the error follows."""
    command = [installed_script, "method.stepz=2"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"{LINE}\n"
        loaded = Path(f"/proc/{process.pid}/maps")
        assert not loaded.exists() or "libtorch" not in loaded.read_text()
        assert "did you mean method.steps" in process.stderr.read()
    assert process.returncode == 1


@pytest.mark.slow
def test_a_console_script_runs_with_several_processes(installed_script: Path, small: list[str], tmp_path: Path) -> None:
    """Lightning starts the second process from the first one's command line."""
    ddp = ("trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2", "data.limit=4")
    done = subprocess.run(
        [installed_script, *small, *ddp], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "results.json").is_file()


def test_a_job_can_be_pickled_for_another_process() -> None:
    """Hydra's launchers pickle jobs."""
    cloudpickle = pytest.importorskip("cloudpickle")
    job = cloudpickle.loads(cloudpickle.dumps(Program("test_time").job))
    assert (job.__func__, job.__self__.name) == (Program.job, "test_time")


@pytest.mark.parametrize(
    "flags", [("-m", "--cfg", "job"), ("--resolve",), ("--experimental-rerun", "x"), ("--run", "--cfg", "job")]
)
def test_refused_hydra_flags_give_one_sentence(flags: tuple[str, ...], run_script: Callable[..., Done]) -> None:
    done = run_script("test_time.py", *flags, "method=zero_shot", ok=False)
    assert done.stderr.splitlines()[-1].startswith("Error: Hydra refuses these flags: ")
