"""Untrusted and damaged checkpoints: each restores exactly what was saved, or is refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.tasks.test_coop import StopInEpoch, data, fit, make, pictures  # noqa: F401 -- a fixture
from tests.results.runs.test_untrusted import whole_manifest
from tests.untrusted import FUZZ, damaged
from tpt.engine.tasks.coop_files import SEAL_BYTES, WholeFiles, check_checkpoint, run_of
from tpt.errors import UserError

EPOCHS = 4


@pytest.fixture(scope="module")
def saved(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The checkpoint after the second of four epochs."""
    folder = tmp_path_factory.mktemp("saved")
    task = make("coop", EPOCHS)
    task.run_text = json.dumps(whole_manifest())
    fit(task, data(pictures), folder, 2)
    return folder / "last.ckpt"


def check(path: Path) -> str:
    said = run_of(path)
    check_checkpoint(path, make("coop", EPOCHS))
    return said


def test_a_saved_checkpoint_is_accepted(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(check(saved)) == whole_manifest() and not caplog.text
    assert torch.load(saved, weights_only=True)["epoch"] == 1  # other programs can read it too
    assert not [path for path in saved.parent.iterdir() if path.name.startswith(".")]


def test_a_checkpoint_without_a_digest_gives_a_warning(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(torch.load(saved, weights_only=True), path)
    assert json.loads(check(path)) == whole_manifest() and caplog.text.count("has no digest") == 1
    content = path.read_bytes()
    at = content.index(b"noise")  # in the pickle, which stays valid
    path.write_bytes(content[:at] + b"N" + content[at + 1 :])
    with pytest.raises(UserError, match=r"or damaged \(BadZipFile\)"):
        check(path)


@FUZZ
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    """A damaged file that is accepted still holds what was saved, even if the digest is missing."""
    content = data.draw(damaged(saved.read_bytes()) | damaged(saved.read_bytes()[:-SEAL_BYTES]))
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    try:
        check(path)
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        one, other = (WholeFiles().load_checkpoint(p) for p in (path, saved))
        assert torch.equal(one["state_dict"]["ctx"], other["state_dict"]["ctx"])
        momentum = [c["optimizer_states"][0]["state"][0]["momentum_buffer"] for c in (one, other)]
        assert torch.equal(*momentum)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "write", [torch.save, lambda c, p: p.write_bytes(pickle.dumps(c)), WholeFiles().save_checkpoint]
)
def test_no_code_in_a_checkpoint_runs(saved: Path, tmp_path: Path, write: Callable[[Any, Path], None]) -> None:
    ran, path = tmp_path / "ran", tmp_path / "last.ckpt"
    write({**torch.load(saved, weights_only=True), "epoch": Hostile(ran)}, path)
    with pytest.raises(UserError, match="or damaged"):
        check(path)
    assert not ran.exists()


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="Cannot read the checkpoint"):
        run_of(tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("path", "value", "phrase"),
    [
        (("state_dict", "ctx"), torch.zeros(4, 63), r"it holds \{'ctx': \(4, 63\)\}"),
        (("state_dict",), None, "the training state is missing"),
        (("loops", "fit_loop", "epoch_loop.batch_progress", "is_last_batch"), False, "training is within epoch 1"),
        (("run",), None, "or damaged"),
    ],
)
def test_unfit_checkpoints_are_refused(
    saved: Path, tmp_path: Path, path: tuple[str, ...], value: Any, phrase: str
) -> None:
    content: Any = WholeFiles().load_checkpoint(saved)
    node = content
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    WholeFiles().save_checkpoint(content, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=rf"cannot resume .* {phrase}"):
        check(tmp_path / "last.ckpt")


def test_a_state_that_cannot_be_restored_is_refused(saved: Path, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    """For example the state of another Lightning version; errors of training itself are passed on."""
    content = WholeFiles().load_checkpoint(saved)
    content["optimizer_states"][0]["param_groups"] = []
    other = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint(content, other)

    with pytest.raises(UserError, match=r"cannot be restored \(ValueError"):
        fit(make("coop", EPOCHS), data(pictures), tmp_path / "out", EPOCHS, resume=other)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(make("coop", EPOCHS), data(pictures), tmp_path / "out", EPOCHS, saved, callbacks=[StopInEpoch(2)])
