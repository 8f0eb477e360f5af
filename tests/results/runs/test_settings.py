"""The register of settings: which ones may change on resume, separate rows, and have figures."""

from pathlib import Path
from typing import Any

import pytest

from tests.results.tables.made_runs import make_run, rows_of, share
from tpt.results.runs.manifest import differences, named_files, read_manifest
from tpt.results.runs.settings import REGISTER, Meaning, axis_label, meaning
from tpt.results.tables.rows import rows_of as table_rows
from tpt.results.tables.runs import load_runs

# A setting, whether a run can resume with a different value, and whether that makes a separate row.
MEANINGS = [
    ("method.steps", False, True),
    ("method.never_heard_of", False, True),
    ("views.num_views", False, True),
    ("context.ctx_init", False, True),
    ("threads", False, True),
    ("data.root", True, False),
    ("data.limit", False, True),
    ("data.batch_size", False, True),
    ("data.num_workers", True, False),
    ("data.on_bad_image", True, False),
    ("data.module.limit", True, False),
    ("cache.max_gb", True, False),
    ("callbacks.records.shard_size", True, False),
    ("logger.wandb.project", True, False),
    ("trainer.devices", True, False),
    ("trainer.precision", False, True),
    ("seed", False, False),
]


@pytest.mark.parametrize(("key", "continues", "row"), MEANINGS)
def test_manifests_and_rows_use_the_register(tmp_path: Path, key: str, continues: bool, row: bool) -> None:
    for value in (1, 2):
        rows = {str(value): rows_of(str(value), share(50, 4), share(50, 4))}
        make_run(tmp_path / str(value), rows, settings={key: value})
    old, new = ({**read_manifest(tmp_path / str(v)), "datasets": {}} for v in (1, 2))
    assert (differences(old, new) == []) == continues
    assert len(table_rows(load_runs([tmp_path]))) == (2 if row else 1)


def test_the_longest_matching_entry_applies() -> None:
    assert not meaning("data.root").row and meaning("data.limit").row
    assert meaning("data.limit.anything").row
    assert meaning("database.root") == Meaning()
    assert meaning("method.optimizer._partial_").label is False


def test_axis_labels() -> None:
    assert axis_label("views.num_views") == "number of views"
    assert axis_label("method.lambda_q") == "lambda q"
    assert axis_label("training.shots.k") == "shots of each class"
    assert axis_label("seed") == axis_label("training.seed") == axis_label("data.limit") == ""


def test_no_entry_is_redundant() -> None:
    for key, entry in REGISTER.items():
        parts = key.split(".")
        above = [REGISTER[up] for n in range(1, len(parts)) if (up := ".".join(parts[:n])) in REGISTER]
        assert entry != (above or [Meaning()])[-1], key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 9}, "datasets.a.b.size was 8 and is 9"),
        ({"classes": 3}, "datasets.a.b.classes was 2 and is 3"),
        ({"split": "val"}, "datasets.a.b.split was 'test' and is 'val'"),
        ({"fingerprint": "1"}, "datasets.a.b.fingerprint was '0' and is '1'"),
        ({"notes": ["x"], "root": "/elsewhere"}, None),
    ],
)
def test_changed_data_are_named(change: dict[str, Any], said: str | None) -> None:
    about = {"size": 8, "to_test": 8, "classes": 2, "split": "test", "notes": [], "root": "/", "fingerprint": "0"}
    old = {"config": {"data": {}}, "datasets": {"a.b": about}, "files": {"names.txt": "0"}}
    new = {**old, "datasets": {"a.b": {**about, **change}}}
    assert differences(old, new) == ([said] if said else [])
    assert differences(old, {**old, "files": {"names.txt": "1"}}) == ["files.names.txt was '0' and is '1'"]
    assert "datasets.a.b.size was 8 and is not set" in differences(old, {**old, "datasets": {}})


def test_files_that_settings_name_are_known_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a path that starts in the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    paths = [str(tmp_path / "names.txt"), "~/names.txt"]
    before = [named_files({"data": {"class_names": path, "root": str(tmp_path)}}) for path in paths]
    (tmp_path / "names.txt").write_text("cat\nfox\n")
    after = [named_files({"data": {"class_names": path, "root": str(tmp_path)}}) for path in paths]
    assert [*before[0].values()] == [*before[1].values()] != [*after[0].values()] == [*after[1].values()]
