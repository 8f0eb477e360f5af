"""Runs and sweeps that share encoded features, started as a user would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tpt
from tests.conftest import ROOT, Done
from tpt.cli import sweeps
from tpt.results.runs import read_records

Run = Callable[..., Done]
SMALL = ("data=folder", "views.num_views=8", "method.selection_p=0.5", "logger=none")


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def counts(folder: Path) -> tuple[int, int]:
    cache = results(folder)["cache"]
    return cache["encoded"], cache["from_cache"]


@pytest.fixture
def model(noise_file: Callable[..., Path]) -> list[str]:
    """Settings of a small CLIP with random weights."""
    return ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true"]


def test_records_are_the_same_with_and_without_cache(
    run_script: Run, tmp_path: Path, image_tree: Path, model: list[str]
) -> None:
    """Records are bit-equal with the cache off, cold or warm, except the seconds; other settings use it too."""
    arguments = (*SMALL, *model, f"data.root={image_tree}")
    settings = {"off": ["cache=off"], "cold": [], "warm": ["data.num_workers=1"]}
    records = {}
    for name, more in settings.items():
        done = run_script("test_time.py", *arguments, *more, f"hydra.run.dir={tmp_path / name}")
        records[name] = read_records(tmp_path / name).drop_columns(["seconds"])
        assert ("Feature cache: " in done.stdout) == (name != "off")
    assert all(table.equals(records["off"]) for table in records.values())
    assert [counts(tmp_path / name) for name in settings] == [(12, 0), (12, 0), (0, 12)]
    assert results(tmp_path / "warm")["cache"]["folder"] == str(tmp_path / "feature-cache")
    names = image_tree.parent / "names.txt"
    names.write_text("shirt\npussy cat\nballoon\n")
    other = ("method.steps=2", "method.lr=0.01", "method.selection_p=0.25", "context.ctx_init=this is a")
    more = (*other, f"data.class_names={names}", "data.limit=7", "optimizer=sgd", f"hydra.run.dir={tmp_path / 'other'}")
    run_script("test_time.py", *arguments, *more)
    assert counts(tmp_path / "other") == (0, 7)


@pytest.mark.slow
def test_a_sweep_encodes_each_image_once(
    run_script: Run, tmp_path: Path, image_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first job encodes the largest number of views, which comes last; a second sweep encodes nothing."""
    encoded = []
    encode = tpt.CLIP.encode_views

    def count(self: tpt.CLIP, views: Any, *args: Any, **kwargs: Any) -> Any:
        encoded.append((len(views), views.shape[1]))
        return encode(self, views, *args, **kwargs)

    monkeypatch.setattr(tpt.CLIP, "encode_views", count)
    sweep = ("-m", *SMALL[:1], f"data.root={image_tree}", "logger=none", "views.num_views=4,8", "method.steps=0,1")
    for name in ("first", "second"):
        run_script("test_time.py", *sweep, "method.selection_p=0.5", f"hydra.sweep.dir={tmp_path / name}")
    assert encoded == [(8, 8), (4, 8)]
    assert sum(counts(tmp_path / "first" / str(job))[0] for job in range(4)) == 12
    assert [counts(tmp_path / "second" / str(job)) for job in range(4)] == [(0, 12)] * 4
    selected = [read_records(tmp_path / "first" / str(job))["selected"].to_pylist() for job in range(4)]
    assert [len(job[0]) for job in selected] == [2, 2, 4, 4]


def test_a_run_continues_if_the_cache_cannot_be_written(
    run_script: Run, tmp_path: Path, image_tree: Path, feature_cache: Path, model: list[str]
) -> None:
    feature_cache.write_text("in the way")
    done = run_script("test_time.py", *SMALL, *model, f"data.root={image_tree}", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.stdout.count("cannot be written") == 1 and counts(tmp_path / "run") == (12, 0)


@pytest.mark.parametrize(
    ("mode", "saved", "values"),
    [
        ("MULTIRUN", "{overrides: {task: ['views.num_views=8,64,16', 'seed=1,2']}}", [8, 64, 16]),
        ("MULTIRUN", "{overrides: {task: ['views.num_views=32']}}", [32]),
        ("MULTIRUN", "{overrides: {task: ['views.num_views=range(1,4)']}}", [1, 2, 3]),
        ("MULTIRUN", "{sweeper: {params: {views.num_views: '16,128'}}}", [16, 128]),
        ("MULTIRUN", "{sweeper: {params: {views.num_views: '16,128'}}, overrides: {task: [views.num_views=4]}}", [4]),
        ("MULTIRUN", "{overrides: {task: []}}", []),
        ("MULTIRUN", None, []),
        ("RUN", "{overrides: {task: ['views.num_views=8,64']}}", []),
    ],
)
def test_values_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, saved: str | None, values: list[int]
) -> None:
    if saved is not None:
        (tmp_path / "multirun.yaml").write_text(f"hydra: {saved}\n")

    class Now:
        class sweep:  # noqa: N801
            dir = str(tmp_path)

    Now.mode = sweeps.RunMode[mode]  # type: ignore[attr-defined]
    monkeypatch.setattr(sweeps.HydraConfig, "get", lambda: Now)
    assert sweeps.swept("views.num_views") == values


def test_runs_and_tpt_cache_have_the_same_default_folder(tmp_path: Path) -> None:
    from tpt.cli.programs.cache import DEFAULT

    assert f"'{DEFAULT}'" in (ROOT / "conf" / "cache" / "on.yaml").read_text()
