"""`tpt-views` on real runs: contact sheets of the recorded views."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import Done, noise_image
from tpt.cli.programs import views
from tpt.cli.programs.report import main as report
from tpt.engine.contact_sheet import Sheet
from tpt.files import write_json
from tpt.results.tables.runs import load_run

Run = Callable[..., Done]
SMALL = ("views.num_views=8", "method.selection_p=0.5", "logger=none")
IMAGE = "cat/1.png"


@pytest.fixture
def run_dir(run_script: Run, tmp_path: Path, small: list[str]) -> Path:
    run_script("test_time.py", *small, *SMALL)
    return tmp_path / "run"


def panels(sheet: Sheet) -> list[tuple[str, bool]]:
    return [(axes.get_title(), bool(axes.patches)) for axes in sheet.draw().axes if axes.images]


def test_the_sheet_of_a_real_run(run_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The views are sorted by entropy; the recorded selection comes first and is framed."""
    _reports(run_dir, capfd)
    run = load_run(run_dir)
    record = run.record(IMAGE)
    sheet = views.sheet(run, record)
    assert sheet.as_recorded
    shown = panels(sheet)
    assert [framed for _, framed in shown] == [True] * 4 + [False] * 4
    names = [title.split()[0].removeprefix("#") for title, _ in shown]
    assert [0 if name == "image" else int(name) for name in names[:4]] == record["selected"]
    entropies = [float(title.split()[1]) for title, _ in shown]
    assert entropies == sorted(entropies)
    views.main([str(run_dir), IMAGE, "--out", str(tmp_path / "a.svg")])
    out, err = capfd.readouterr()
    assert out.strip() == str(tmp_path / "a.svg") and err == "" and "class: cat" in (tmp_path / "a.svg").read_text()
    record["selected"] = record["selected"][::-1]
    other = views.sheet(run, record)
    assert not other.as_recorded and any("differs from the recorded" in t.get_text() for t in other.draw().texts)


def test_an_image_is_found_by_any_unique_name(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An image can be named by any text that is unique to it; by default, the sheet is saved in the run's folder."""
    rows = [{"dataset": "a", "path": f"a {k}/{k}x.png", "class_name": f"the {k}"} for k in range(3)]
    run = dataclasses.replace(load_run(run_dir), records=pa.Table.from_pylist(rows))
    for image in ("a 1/1x.png", "1x.png", "1x", "a 1", "the 1"):
        assert run.record(image) == rows[1]
    views.main([str(run_dir), IMAGE])
    (sheet,) = (run_dir / "contact_sheets").iterdir()
    assert capfd.readouterr().out.splitlines()[-1] == str(sheet) and sheet.name == "pictures_cat_1.png"


def _reports(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Checks the reports of the finished run and of a copy without records, as if it had been killed at its start."""
    report([str(run_dir), "--format", "csv"])
    found = json.loads((run_dir / "results.json").read_text())["datasets"]["pictures"]
    line = capfd.readouterr().out.splitlines()[1].split(",")
    assert float(line[2]) == pytest.approx(found["acc"]) and float(line[3]) == pytest.approx(found["gain"]["points"])
    killed = run_dir.parent / "killed"
    shutil.copytree(run_dir, killed)
    (killed / "results.json").unlink()
    for shard in (killed / "records").iterdir():
        shard.unlink()
    report([str(killed)])
    assert "unfinished: pictures 0 of 12 images done" in capfd.readouterr().out


def test_augmix_views_made_on_the_device(run_script: Run, tmp_path: Path, small: list[str]) -> None:
    run_script("test_time.py", *small, *SMALL, "views=augmix", "views.made_on=device", "hydra.run.dir=mixed")
    run = load_run(tmp_path / "mixed")
    sheet = views.sheet(run, run.record(IMAGE))
    assert sheet.as_recorded
    image = next(axes.images[0].get_array() for axes in sheet.draw().axes if axes.get_title().startswith("image"))
    assert np.asarray(image).dtype == np.uint8 and np.asarray(image).std() > 10


def test_mistakes(run_dir: Path, image_tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            views.main(list(arguments))
        assert stop.value.code == 1
        return capfd.readouterr().err

    assert "Expected one image 'dog' in the records of" in error(str(run_dir), "dog")
    assert "such as pictures: T-shirt/1.png" in error(str(run_dir), "1.png")
    assert "got 4; give its path" in error(str(run_dir), "cat")
    assert "run.json (No such file or directory). Pass a directory of" in error(str(tmp_path), IMAGE)
    assert "Expected a file that ends in .png" in error(str(run_dir), IMAGE, "--out", "a.gif")
    noise_image(99).save(image_tree / IMAGE)
    assert "cat/1.png has changed" in error(str(run_dir), IMAGE)
    manifest = json.loads((run_dir / "run.json").read_text())
    manifest["config"]["method"] = {"_target_": "os.system", "command": "touch called"}  # must never be instantiated
    (run_dir / "run.json").write_text(json.dumps(manifest))
    assert "mean something else now: method._target_ was 'os.system'" in error(str(run_dir), IMAGE)
    write_json(json.loads((run_dir / "start.json").read_text()) | {"signature": ""}, run_dir / "start.json")
    assert "need your approval: 'backbone.pretrained=" in error(str(run_dir), IMAGE)
    assert "mean something else now" in error(str(run_dir), IMAGE, "--trust") and not list(tmp_path.rglob("called"))


def test_a_method_without_views_is_refused(
    run_script: Run, tmp_path: Path, small: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    run_script("test_time.py", *small, "method=zero_shot")
    with pytest.raises(SystemExit):
        views.main([str(tmp_path / "run"), IMAGE])
    assert "of method clip; choose another" in capfd.readouterr().err
