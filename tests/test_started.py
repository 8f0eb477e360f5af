"""`start.json`, which records how a run was started, and resuming moved, untrusted and damaged directories."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Done, noise_image
from tpt.files import write_json
from tpt.results.runs import read_records
from tpt.results.runs.directory import RunDirectory
from tpt.results.runs.training import TrainingDirectory

Run = Callable[..., Done]


def settings_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "start.json").read_text())
    return found


@pytest.mark.parametrize("program", ["test_time", "train_coop"])
def test_the_run_that_takes_a_directory_writes_start_json(
    run_script: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Of two runs that start at once, the one that takes the directory writes the final `start.json`."""
    kind = {"test_time": RunDirectory, "train_coop": TrainingDirectory}[program]
    take = kind.take

    def beside(self: Any) -> None:
        write_json({"program": program, "settings": ["seed=8"], "sweep": False}, self.folder / "start.json")
        take(self)

    monkeypatch.setattr(kind, "take", beside)
    training = ["shots=emoji_shift", "learner.epochs=1", "++shots.draw.limit=8", "hydra.run.dir=run"]
    training += [a for a in small if a.startswith(("backbone", "logger"))]
    run_script(f"{program}.py", *({"test_time": [*small, "data.limit=2"], "train_coop": training}[program]))
    assert "seed=8" not in settings_of(tmp_path / "run")["settings"]
    assert ("cache=off" if program == "test_time" else "learner.epochs=1") in settings_of(tmp_path / "run")["settings"]


@pytest.mark.slow  # test_resume.py has the same for one run
def test_a_refused_sweep_does_not_change_start_json(
    run_script: Run, small: list[str], tmp_path: Path, stop_after: Any
) -> None:
    sweep = [a for a in small if not a.startswith("hydra.run")]
    stop_after(8)
    run_script("test_time.py", "-m", *sweep, "method.steps=0,1", "hydra.sweep.dir=sweep", ok=False)
    stop_after(-1)
    before = settings_of(tmp_path / "sweep")
    assert before["sweep"] and "method.steps=0,1" in before["settings"]
    run_script("test_time.py", "resume=sweep", "seed=5", ok=False)
    run_script("test_time.py", "-m", *sweep, "method.steps=2,3", "hydra.sweep.dir=sweep", ok=False)
    (tmp_path / "sweep" / "multirun.yaml").write_text("hydra: [")
    assert settings_of(tmp_path / "sweep") == before
    run_script("test_time.py", "resume=sweep")
    assert [read_records(tmp_path / "sweep" / job).num_rows for job in "01"] == [12, 12]
    run_script("test_time.py", f"resume={tmp_path / 'sweep' / '1'}")  # a single job


def test_resuming_an_untrusted_directory(run_script: Run, small: list[str], tmp_path: Path) -> None:
    """Settings that are paths must be given again or need trust=true; the others are accepted."""
    (tmp_path / "theirs").mkdir()
    kept = [a for a in small if not a.startswith("hydra.")]
    content = {"program": "test_time", "settings": kept, "sweep": False}
    (tmp_path / "theirs" / "start.json").write_text(json.dumps(content))
    named = [a for a in kept if a.startswith(("backbone.pretrained=", "data.root="))]
    refused = run_script("test_time.py", "resume=theirs", ok=False).stderr
    assert all(repr(a)[:100] in refused for a in named) and "add trust=true" in refused and "num_views" not in refused
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["start.json"]
    run_script("test_time.py", "resume=theirs", *named)
    assert read_records(tmp_path / "theirs").num_rows == 12


def test_a_moved_run_is_resumed(
    run_script: Run, small: list[str], tmp_path: Path, image_tree: Path, stop_after: Any
) -> None:
    """Resuming works after the images moved and versions of libraries and of records changed.

    A changed image is refused.
    """
    stop_after(2)
    relative = [a for a in small if not a.startswith(("data.root", "hydra."))]
    shutil.move(image_tree, tmp_path / "old" / "pictures")
    run_script("test_time.py", *relative, "data.root=old/pictures", "hydra.run.dir=run", ok=False)
    stop_after(-1)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    manifest["sessions"][-1]["versions"] |= {"oldlib": "1.0"}
    for key in ("top", "logits"):  # of a run from before records had names
        del manifest["config"]["callbacks"]["records"][key]
    write_json(manifest, tmp_path / "run" / "run.json")
    (tmp_path / "old").rename(tmp_path / "new")
    shutil.copytree(tmp_path / "new" / "pictures", tmp_path / "other" / "pictures")
    noise_image(99).save(tmp_path / "other" / "pictures" / "T-shirt" / "0.png")
    found = run_script("test_time.py", "resume=run", "data.root=other/pictures", ok=False).stderr
    assert "T-shirt/0.png has changed since" in found
    run_script("test_time.py", "resume=run", "data.root=new/pictures")
    assert "oldlib 1.0, now not recorded" in (tmp_path / "run" / "test_time.log").read_text()
    assert read_records(tmp_path / "run").num_rows == 12


ODD = [(name, kind) for name in (".lock", "results.json", "run.json", "records", "damaged")
       for kind in ("folder", "loop", "pipe")]  # fmt: skip
QUICK = {  # one start of each, to be quick
    (".lock", "folder"): (),
    ("results.json", "loop"): ("resume=auto",),
    ("run.json", "pipe"): ("resume=auto",),
    ("records", "loop"): (),
    ("damaged", "folder"): ("resume=auto",),
}
EACH = [(*odd, more) for odd in ODD for more in ((), ("resume=auto",))]


@pytest.mark.parametrize(
    ("name", "what", "more"),
    [odd if QUICK.get(odd[:2]) == odd[2] else pytest.param(*odd, marks=pytest.mark.slow) for odd in EACH],
)
def test_odd_files_in_a_directory(
    run_script: Run, small: list[str], tmp_path: Path, name: str, what: str, more: tuple[str, ...]
) -> None:
    """A folder in place of a file or the reverse, a link to itself and a named pipe each give one sentence."""
    folder = tmp_path / "run"
    folder.mkdir()
    if what == "folder":
        ((folder / name).touch if name in ("records", "damaged") else (folder / name).mkdir)()
    elif what == "loop":
        (folder / name).symlink_to(name)
    else:
        os.mkfifo(folder / name)
    done = run_script("test_time.py", *small, *more, ok=False)
    assert done.stderr.count("Error: ") == 1 and name in done.stderr, done.stderr
