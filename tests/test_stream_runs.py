"""Runs of stream methods: order of the images, stored states, several processes."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tpt
from tests.conftest import Done, save_tree
from tests.processes import QUICK, start, told, wait_until
from tpt.cli.programs import predict
from tpt.data import EpisodeDataModule, emoji_shift_domains
from tpt.errors import UserError
from tpt.results.runs import read_records
from tpt.results.runs.records import shard_files
from tpt.results.runs.states import STATES, latest_state, write_state

Run = Callable[..., Done]
DDP = ("trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2")
STREAM = ("method=tda", "data.order=shuffled", "data.order_seed=3")


def rows_of(run: Path, *without: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_records(run).drop_columns(["seconds", *without]).to_pylist()
    return rows


def states(run: Path) -> list[Path]:
    return sorted((run / STATES).glob("*.safetensors"))


def test_episodic_answers_do_not_depend_on_the_order(run_script: Run, small: list[str], tmp_path: Path) -> None:
    """With one image per batch, records are equal except for the position in the stream."""
    positions = []
    orders = ("shuffled", "dirichlet")
    for order in orders:
        run_script("test_time.py", *small, "data.batch_size=1", f"data.order={order}", f"hydra.run.dir={order}")
        assert rows_of(tmp_path / order, "position") == rows_of(tmp_path / "shuffled", "position")
        positions.append(read_records(tmp_path / order)["position"].to_pylist())
        assert sorted(positions[-1]) == list(range(12)) != positions[-1]
    assert positions[0] != positions[1]


@pytest.fixture(scope="module")
def image_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four images."""
    return save_tree(tmp_path_factory.mktemp("shared") / "pictures")


WHOLE: dict[str, list[dict[str, Any]]] = {}  # by method; kept between tests, which all use the same pictures and model


@pytest.fixture
def whole(run_script: Run, small: list[str], tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Method -> the records of an uninterrupted stream."""

    def records(method: str = "tda") -> list[dict[str, Any]]:
        if method not in WHOLE:
            run_script("test_time.py", *small, *STREAM, f"method={method}", "hydra.run.dir=whole")
            assert states(tmp_path / "whole") == []  # a finished run keeps no states
            WHOLE[method] = rows_of(tmp_path / "whole")
            changed = [row["entropy"] != row["entropy_zero_shot"] for row in WHOLE[method]]
            assert any(changed), "earlier images matter"
        return WHOLE[method]

    return records


@pytest.mark.parametrize("method", ["tda", pytest.param("ecalp", marks=pytest.mark.slow)])
def test_a_stream_is_stopped_and_resumed(
    run_script: Run, small: list[str], tmp_path: Path, stop_after: Any, whole: Any, method: str
) -> None:
    """After stops in different batches, records equal an uninterrupted run's; ECALP's state grows."""
    settings = [*small, *STREAM, f"method={method}"]
    for batches in (1, 2):
        stop_after(batches)
        run_script("test_time.py", *settings, ok=False)
        settings = ["resume=run"]
        assert 0 < len(rows_of(tmp_path / "run")) < 12  # a state that is slow to write may be written a batch later
    stop_after(-1)
    run_script("test_time.py", "resume=run")
    assert rows_of(tmp_path / "run") == whole(method) and states(tmp_path / "run") == []


@pytest.mark.parametrize(
    "loss", ["state", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("damage", "last shard", "first shard"))]
)
def test_records_without_their_state_are_computed_again(
    run_script: Run, small: list[str], tmp_path: Path, stop_after: Any, whole: Any, loss: str
) -> None:
    stop_after(3)
    run_script("test_time.py", *small, *STREAM, ok=False)
    (state,) = states(tmp_path / "run")
    if loss == "state":
        state.unlink()
    elif loss == "damage":
        content = bytearray(state.read_bytes())
        content[-3] ^= 1
        state.write_bytes(content)
    else:
        shards = sorted(shard_files(tmp_path / "run"), key=lambda path: path.stat().st_mtime_ns)
        shards[-1 if loss == "last shard" else 0].unlink()
    stop_after(1)  # the recomputation is stopped too
    run_script("test_time.py", "resume=run", ok=False)
    stop_after(-1)
    run_script("test_time.py", "resume=run")
    assert rows_of(tmp_path / "run") == whole()


def test_the_latest_state_with_all_its_records_is_used(tmp_path: Path) -> None:
    four = write_state(b"four", tmp_path, 0, "a", 4)
    six = write_state(b"six", tmp_path, 0, "a", 6)
    write_state(b"other", tmp_path, 1, "a", 5)
    assert latest_state(tmp_path, 0, 10, range(6)) == (6, six)
    assert latest_state(tmp_path, 0, 10, range(5)) == (4, four)
    assert latest_state(tmp_path, 0, 10, {0, 1, 3, 4, 5}) == (0, None)
    assert latest_state(tmp_path, 0, 6, range(6)) == (6, None)  # the dataset is finished
    six.write_bytes(b"sex")
    assert latest_state(tmp_path, 0, 10, range(6)) == (4, four)


def test_each_dataset_goes_to_one_process() -> None:
    data = EpisodeDataModule(
        emoji_shift_domains(["twemoji", "emojione", "fxemoji"]), limit=4, batch_size=2
    ).keep_whole()
    shares = data.shares(3)
    assert all(sum(bool(batches) for batches in share) == 1 for share in shares)  # one process per dataset
    assert sum(any(share[rank] for share in shares) for rank in range(3)) == 3
    assert [batch for share in data.shares(1) for batch in share[0]] == [
        b for d in data.datasets for b in data.batches(d)
    ]


@pytest.mark.slow
def test_two_processes_with_one_stream(small: list[str], tmp_path: Path, whole: Any) -> None:
    process = start(tmp_path, *small, *STREAM, "hydra.run.dir=two", *DDP)
    output, errors = told(process)
    assert process.returncode == 0, errors
    assert "1 of 2 processes has nothing to do" in output + errors
    assert rows_of(tmp_path / "two") == whole()


@pytest.mark.slow
def test_two_processes_with_several_streams(tmp_path: Path) -> None:
    settings = [*QUICK, *STREAM, "data.limit=20", "callbacks.records.shard_size=2", "data.batch_size=2"]
    for name, more in (("one", ()), ("two", DDP)):
        process = start(tmp_path, *settings, f"hydra.run.dir={name}", *more)
        assert (told(process), process.returncode)[1] == 0
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "one")


@pytest.mark.slow
def test_a_stream_killed_ten_times_is_resumed(tmp_path: Path) -> None:
    settings = [*QUICK, "method=dota", "data.order=dirichlet", "data.batch_size=2", "callbacks.records.shard_size=2"]
    settings += ["data.module.datasets.domains=[twemoji,fxemoji]", "data.limit=120"]
    finished = start(tmp_path, *settings, "hydra.run.dir=whole")
    assert (told(finished), finished.returncode)[1] == 0
    generator, kills = random.Random(0), 0
    process = start(tmp_path, *settings, "hydra.run.dir=part")
    while kills < 10:
        before = len(shard_files(tmp_path / "part"))
        wait_until(lambda before=before: len(shard_files(tmp_path / "part")) > before, process)  # type: ignore[misc]
        time.sleep(generator.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        kills += 1
        process = start(tmp_path, "resume=part")
    _, errors = told(process)
    assert process.returncode == 0, errors
    assert kills == 10 and rows_of(tmp_path / "part") == rows_of(tmp_path / "whole")


def test_predict_refuses_stream_methods(image_tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="adapts to each picture alone, got tda, which learns from earlier"):
        tpt.predict(str(image_tree), ["cat", "dog"], method="tda")
    with pytest.raises(SystemExit):
        predict.main([str(image_tree), "--classes", "cat,dog", "--method", "ecalp"])
    assert "answers of tpt-predict would depend on the order" in capsys.readouterr().err
