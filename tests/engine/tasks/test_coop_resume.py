"""Checkpoints from strangers and damaged disks: what is restored is what was saved, or one sentence says why not."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer

from tests.engine.tasks.test_coop import data, fit, make, pictures  # noqa: F401 -- a fixture
from tests.results.runs.test_untrusted import places, whole_manifest
from tests.untrusted import FUZZ, JSON, damaged
from tpt.engine.tasks.coop_files import checkpoints
from tpt.engine.tasks.coop_resume import CheckpointError, WholeFiles, check_checkpoint, run_of, taking_up
from tpt.errors import UserError

EPOCHS = 4


@pytest.fixture(scope="module")
def saved(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The checkpoint behind the second of four epochs."""
    folder = tmp_path_factory.mktemp("saved")
    task = make("coop", EPOCHS)
    task.run_text = json.dumps(whole_manifest())
    fit(task, data(pictures), folder, 2)
    return folder / "last.ckpt"


def trainer(folder: Path) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=checkpoints(folder, validates=True),
        plugins=[WholeFiles()],
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **quiet,  # type: ignore[arg-type]
    )


def check(path: Path, folder: Path) -> str:
    said = run_of(path)
    check_checkpoint(path, make("coop", EPOCHS), trainer(folder))
    return said


def test_what_was_saved_is_taken(saved: Path, tmp_path: Path) -> None:
    assert json.loads(check(saved, tmp_path)) == whole_manifest()
    assert not [path for path in saved.parent.iterdir() if path.name.startswith(".")]


@FUZZ
@given(data=st.data())
def test_any_bytes(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    """What is taken from a damaged file is what was saved: every part of it has a checksum."""
    content = data.draw(damaged(saved.read_bytes()))
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    try:
        check(path, tmp_path)
    except UserError as error:
        assert str(error).startswith("Expected ") and "\n" not in str(error)
    else:
        one, other = (WholeFiles().load_checkpoint(p) for p in (path, saved))
        assert torch.equal(one["state_dict"]["ctx"], other["state_dict"]["ctx"])
        momentum = [c["optimizer_states"][0]["state"][0]["momentum_buffer"] for c in (one, other)]
        assert torch.equal(*momentum)


VALUES = JSON | st.just(torch.zeros(2)) | st.just(torch.full((4, 64), torch.nan))


@FUZZ
@given(draw=st.data(), value=VALUES)
def test_any_value_anywhere(saved: Path, tmp_path: Path, pictures: Path, draw: st.DataObject, value: Any) -> None:  # noqa: F811
    """A value of another kind is refused, or changes nothing that is learned."""
    content = copy.deepcopy(WholeFiles().load_checkpoint(saved))
    *path, last = draw.draw(st.sampled_from(places(content)[1:]))
    node: Any = content
    for step in path:
        node = node[step]
    node[last] = value
    file = tmp_path / "last.ckpt"
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.write_bytes(buffer.getvalue())
    try:
        check(file, tmp_path)
    except UserError as error:
        assert str(error).startswith("Expected ") and "\n" not in str(error)
        return
    task, goes_on = make("coop", EPOCHS), trainer(tmp_path / "out")
    try:
        with taking_up(file, goes_on):
            goes_on.fit(task, data(pictures), ckpt_path=file, weights_only=True)
    except CheckpointError as error:
        assert "is damaged" in str(error)
        return
    assert torch.equal(task.ctx, _whole(pictures, tmp_path))


def _whole(pictures: Path, folder: Path, known: list[torch.Tensor] = []) -> torch.Tensor:  # noqa: B006, F811
    """What a run that was never stopped learns."""
    if not known:
        task = make("coop", EPOCHS)
        fit(task, data(pictures), folder / "whole", EPOCHS)
        known.append(task.ctx.detach().clone())
    return known[0]


@pytest.mark.parametrize(
    ("path", "value", "phrase"),
    [
        (("epoch",), 3, "training is within epoch 3, not behind it"),
        (("epoch",), True, "epoch True is none of 4"),
        (("global_step",), 10**6, "1000000 steps are counted"),
        (("state_dict", "ctx"), torch.full((4, 64), torch.nan), "ctx is not of finite"),
        (("state_dict", "ctx"), torch.zeros(4, 63), r"there is \{'ctx': \(4, 63\)\} where"),
        (("loops", "fit_loop", "epoch_progress", "current", "processed"), 0, "training is within epoch 1"),
        (("loops", "fit_loop", "epoch_loop.batch_progress", "is_last_batch"), False, "training is within epoch 1"),
        (("optimizer_states", 0, "param_groups", 0, "momentum"), 0.5, "the optimizer's momentum are not those"),
        (("optimizer_states", 0, "param_groups", 0, "lr"), 1.0, "the learning rate is 1.0, not"),
        (("optimizer_states", 0, "state", 0, "momentum_buffer"), torch.zeros(3), "momentum_buffer is no such tensor"),
        (("lr_schedulers", 0, "last_epoch"), 7, "the schedule is at another epoch"),
        (("run",), None, "the run's settings are missing"),
    ],
)
def test_what_does_not_fit_is_named(
    saved: Path, tmp_path: Path, path: tuple[Any, ...], value: Any, phrase: str
) -> None:
    content: Any = WholeFiles().load_checkpoint(saved)
    node = content
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    WholeFiles().save_checkpoint(content, tmp_path / "last.ckpt")
    with pytest.raises(
        CheckpointError, match=rf"Expected a checkpoint that this run can go on from, but in .* {phrase}"
    ):
        check(tmp_path / "last.ckpt", tmp_path)
