"""Every command reports a user's mistake in one line and a bug with its trace."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from tests.conftest import ROOT, Done, noise_image
from tests.processes import start
from tpt.cli.errors import mistake, place, tell, told
from tpt.engine.printing import printable
from tpt.engine.stop import end_loaders
from tpt.errors import BadImageError, DataError, RunError, UnansweredError, UserError


def caught(do: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as found:
        do()
    assert isinstance(found.value, Exception)
    return found.value


@pytest.mark.parametrize("kind", [UserError, DataError, BadImageError, RunError, UnansweredError])
def test_our_own_errors_are_one_line(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(kind("Expected a, got b;\n do c.")) == (3 if kind is UnansweredError else 1)
    assert capsys.readouterr().err == "Error: Expected a, got b; do c.\n"


BUGS: list[Callable[[], object]] = [
    lambda: dict([(1, 2, 3)]),  # type: ignore[list-item]
    lambda: list(zip([1], [1, 2], strict=True)),
    lambda: len(3),  # type: ignore[arg-type]
    lambda: {}["a"],
    lambda: int("x"),
    lambda: list(range(1))[2],
    lambda: 1 / 0,
    lambda: os.read(10_000, 1),  # an OSError that names no file
    lambda: b"\xff".decode("utf-8"),
    lambda: exec("assert False"),
    lambda: exec("raise NotImplementedError"),
]


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_keep_their_trace(bug: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    error = caught(bug)
    assert mistake(error) is None
    assert tell(error, kept="continue with resume=r") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and type(error).__name__ in lines[-2]
    assert lines[-1].startswith("Internal error in ") and "(your settings are fine)" in lines[-1]
    assert lines[-1].endswith("Completed work is kept; once the error is fixed, continue with resume=r.")


def test_a_bug_is_located_outside_libraries() -> None:
    assert re.fullmatch(rf"added code: {__file__}, line \d+", place(caught(BUGS[0])))
    inside = caught(lambda: printable(type("Broken", (), {"__str__": lambda _: 1 / 0})()))
    assert place(inside).startswith("added code: ")  # `__str__` is defined in this test
    assert place(caught(lambda: tell(3))).startswith(f"{ROOT}")  # type: ignore[arg-type]


NAMED = {
    errno.ENOENT: lambda folder: (folder / "none").read_text(),
    errno.EISDIR: lambda folder: folder.read_text(),
    errno.ENOTDIR: lambda folder: (folder / "file" / "below").read_text(),
    errno.ENAMETOOLONG: lambda folder: (folder / ("x" * 300)).read_text(),
    errno.ELOOP: lambda folder: (folder / "loop").read_text(),
    errno.EEXIST: lambda folder: (folder / "file").mkdir(),
}


@pytest.mark.parametrize("number", NAMED)
def test_errors_about_files_name_the_file(number: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    error = caught(lambda: NAMED[number](tmp_path))
    assert isinstance(error, OSError) and error.errno == number
    said = mistake(error) or ""
    assert said.startswith(f"Cannot use '{tmp_path}") and "[Errno" not in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE])
def test_missing_resources_give_one_line_with_or_without_a_file(number: int) -> None:
    for error in (OSError(number, "x"), OSError(number, "x", "/a/b")):
        said = mistake(error) or ""
        assert said.endswith(".") and "\n" not in said


def test_an_error_names_its_file_in_any_form_and_not_only_in_its_text() -> None:
    for name in ("a/b", b"a/b", Path("a/b")):
        assert mistake(FileNotFoundError(errno.ENOENT, "Gone", name)) == "Cannot use 'a/b': Gone."
    assert mistake(OSError("Cannot read: [Errno 2] Gone: 'a/b'")) is None


class Broken(Dataset[int]):
    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        self.do()
        return 0


def _bad_image() -> None:
    raise BadImageError("Expected a picture: one that can\nbe read.")


def _no_file() -> None:
    Path("/no/such/file").read_bytes()


def test_an_error_in_a_data_loading_worker_keeps_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    error = caught(lambda: list(DataLoader(Broken(_bad_image), num_workers=1)))
    assert mistake(error) == "Expected a picture: one that can be read."
    error = caught(lambda: list(DataLoader(Broken(_no_file), num_workers=1)))
    assert mistake(error) == "Cannot use '/no/such/file': No such file or directory."
    error = caught(lambda: list(DataLoader(Broken(BUGS[0]), num_workers=1)))
    assert mistake(error) is None
    end_loaders()  # or PyTorch waits five seconds for each when Python deletes it


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=30))
def test_control_characters_are_not_printed(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & {chr(c) for c in (*range(9), *range(11, 32), 127, *range(128, 160))}
    shown.encode("utf-8")
    if text.isprintable():
        assert shown == text


def test_escapes_are_shown_as_codes(capsys: pytest.CaptureFixture[str]) -> None:
    tell(UserError("a \x1b]0;title\x07 \x9b31m \u202e \udce9"))
    assert capsys.readouterr().err == "Error: a \\x1b]0;title\\x07 \\x9b31m \\u202e \\udce9\n"


def test_exit_codes_and_traces_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for error, code in ((UserError("x"), 1), (UnansweredError("x"), 3), (KeyError("x"), 1), (KeyboardInterrupt(), 130)):
        with pytest.raises(SystemExit) as stop, told():
            raise error
        assert stop.value.code == code
    assert capsys.readouterr().err.count("Traceback") == 1


COMMANDS = {  # program: (arguments, function that is made to fail)
    "report": (["RUN"], "tpt.cli.programs.report.load_runs"),
    "cache": (["clear", "RUN"], "tpt.cli.programs.cache.clear"),
    "data": (["check", "--root", "RUN"], "tpt.cli.programs.data.print_check"),
    "views": (["RUN", "image"], "tpt.results.tables.runs.load_run"),
    "words": (["RUN/context.safetensors"], "tpt.clip.load_clip"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_a_bugs_trace(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, called = COMMANDS[command]
    module = import_module(f"tpt.cli.programs.{command}")
    (tmp_path / "context.safetensors").touch()  # only its presence is checked before the failure
    arguments = [a.replace("RUN", str(tmp_path)) for a in given]
    for error, said in ((ValueError("a bug"), "Internal error in "), (UserError("a mistake"), "Error: a mistake")):

        def broken(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(called, broken)
        with pytest.raises(SystemExit) as stop:
            module.main(arguments)
        err = capsys.readouterr().err
        assert stop.value.code == 1 and err.splitlines()[-1].startswith(said)
        assert ("Traceback" in err) == (said == "Internal error in ")


def test_error_reports_import_neither_hydra_nor_torch(tmp_path: Path) -> None:
    code = "import sys; import tpt.cli.errors; print({'hydra', 'torch', 'lightning'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    # An empty module replaces the package's `__init__`.
    light = f"import sys, types; p = types.ModuleType('tpt'); p.__path__ = ['{ROOT}/src/tpt']; sys.modules['tpt'] = p; "
    done = subprocess.run([sys.executable, "-c", light + code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "set()"


def test_a_closed_pipe_ends_the_command_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -c \"from tpt.cli.errors import told\nwith told():\n print('x' * 10**6)\" | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("x", "", 141)


METHOD = """
from tpt.methods import ZeroShot


class Planted(ZeroShot):
    def adapt(self, features_BVE):
        batch, views = features_BVE.shape
"""


def planted(tmp_path: Path, body: str = METHOD) -> dict[str, str]:
    """Writes a method with a bug outside the project; returns the environment in which it can be imported."""
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "planted.py").write_text(body)
    yaml = "_target_: planted.Planted\n_partial_: true\n"
    (tmp_path / "conf" / "method" / "planted.yaml").write_text(yaml)
    paths = [str(tmp_path / "own"), str(ROOT / "src"), str(ROOT)]
    return {"PYTHONPATH": os.pathsep.join(paths)}


BUNDLED = ("data.limit=2", "data.module.datasets.domains=[twemoji]", "cache=off", "logger=none", "threads=1")


def test_a_bug_in_a_contributed_method_shows_its_trace(
    tmp_path: Path, run_script: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method has a shape error and is found through `--config-dir`."""
    planted(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    more = ["--config-dir", str(tmp_path / "conf"), "method=planted", *BUNDLED, "hydra.run.dir=run"]
    errors = run_script("test_time.py", *more, ok=False, bug=True).stderr
    assert 'planted.py", line 7, in adapt' in errors and "batch, views = features_BVE.shape" in errors
    last = errors.splitlines()[-1]
    assert last.startswith(f"Internal error in added code: {tmp_path}/own/planted.py, line 7 (your settings are fine)")
    assert f"continue with resume={tmp_path / 'run'}." in last


@pytest.mark.slow
def test_a_bug_in_one_job_does_not_end_the_sweep(tmp_path: Path) -> None:
    env = planted(tmp_path)
    more = [f"hydra.searchpath=[file://{tmp_path}/conf]", *BUNDLED, "method=planted,zero_shot", "hydra.sweep.dir=s"]
    process = start(tmp_path, "-m", *more, **env)
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 1 and errors.count("Traceback") == 1 and errors.count("Internal error [") == 1
    assert (tmp_path / "s" / "1" / "results.json").is_file()
    assert "\nclip " in out and "More, with figures: tpt-report s" in out, out
    assert errors.endswith("1 of 2 jobs failed; see above. resume=s runs what is missing.\n")


OPTIMIZER = """
from torch.optim import SGD


class Planted(SGD):
    taken = 0

    def step(self, closure):
        self.taken += 1
        if self.taken == 3:
            batch, views = closure().shape
        return super().step(closure)
"""


@pytest.mark.slow
def test_a_bug_in_training_keeps_the_completed_epochs(tmp_path: Path) -> None:
    """It fails in the third of three epochs of one batch; once it is fixed, the run resumes."""
    env = planted(tmp_path, OPTIMIZER)
    folders = [f"shots.root={tmp_path / 'pictures'}", "shots.k=2", "shots.draw.val=null"]
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(2):
            noise_image(i).save(tmp_path / "pictures" / name / f"{i}.png")
    more = ["shots=folder", *folders, "learner.epochs=3", "learner.optimizer._target_=planted.Planted"]
    settings = [*more, "logger=none", "hydra.run.dir=run"]
    process = start(tmp_path, *settings, script="train_coop.py", **env)
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 1 and errors.count("Traceback") == 1
    assert 'planted.py", line 11, in step' in errors and "batch, views = closure().shape" in errors
    last = errors.splitlines()[-1]
    assert last.startswith("Internal error in added code: ") and "line 11 (" in last
    assert f"Completed work is kept; once the error is fixed, continue with resume={tmp_path / 'run'}." in last

    (tmp_path / "own" / "planted.py").write_text(OPTIMIZER.replace("taken == 3", "taken < 0"))
    process = start(tmp_path, "resume=run", "trust=true", script="train_coop.py", **env)
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    log = (tmp_path / "run" / "train_coop.log").read_text()
    assert log.count("epoch 3 of 3") == 1 and (tmp_path / "run" / "context.safetensors").is_file()
