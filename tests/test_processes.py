"""Runs in real processes: several processes per run, and processes that are killed or suspended."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.processes import QUICK, children, start, told, wait_until
from tpt.results.runs import read_records
from tpt.results.runs.records import shard_files

DDP = ("trainer.accelerator=cpu", "trainer.strategy=ddp")


@pytest.fixture
def small(image_tree: Path, noise_file: Callable[..., Path]) -> list[str]:
    """Settings of a small run: twelve pictures and a CLIP with random weights."""
    model = ["backbone=file", f"backbone.pretrained={noise_file()}", "backbone.quick_gelu=true"]
    return [*QUICK, *model, "data=folder", f"data.root={image_tree}", "callbacks.records.shard_size=2"]


BUNDLED = ("data.module.datasets.domains=[twemoji]", "data.limit=60")
SLOW = (*QUICK, *BUNDLED, "data.batch_size=2", "callbacks.records.shard_size=2")  # a run takes about ten seconds


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Waits for a process, checks that its stderr has no traceback, and returns stderr."""
    _, errors = told(process)
    assert process.returncode == code, errors
    assert "Traceback" not in errors, errors
    return errors


def run(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    finish(start(folder, *arguments, "hydra.run.dir=run"))
    return without_time(folder / "run")


def without_time(run_dir: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_records(run_dir).drop_columns(["seconds"]).to_pylist()
    return rows


def begun(run_dir: Path, shards: int = 1) -> Callable[[], bool]:
    return lambda: len(shard_files(run_dir)) >= shards


def test_two_processes_give_the_records_of_one(small: list[str], tmp_path: Path, run_script: Any) -> None:
    """Nine images in batches of two, split over two processes, give the same records as in one process."""
    small += ["data.limit=9", "data.batch_size=2"]
    run_script("test_time.py", *small, "hydra.run.dir=one")
    process = start(tmp_path, *small, "hydra.run.dir=two", *DDP, "trainer.devices=2")
    output, errors = told(process)
    assert process.returncode == 0 and errors == "", errors
    assert output.count("zero-shot and tpt: accuracy") == 1 and "gain [95 %]" in output  # one table, and nothing else
    assert without_time(tmp_path / "two") == without_time(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "limit", "batch"), [(3, 10, 3), (3, 4, 3), (2, 1, 8)])
def test_sizes_that_do_not_divide_evenly(
    small: list[str], tmp_path: Path, run_script: Any, devices: int, limit: int, batch: int
) -> None:
    """Also with fewer batches than processes."""
    small += [f"data.limit={limit}", f"data.batch_size={batch}"]
    run_script("test_time.py", *small, "hydra.run.dir=one")
    finish(start(tmp_path, *small, "hydra.run.dir=more", *DDP, f"trainer.devices={devices}"))
    assert without_time(tmp_path / "more") == without_time(tmp_path / "one")
    assert len(without_time(tmp_path / "more")) == limit


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", ["listed", "shuffled"])
@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (3, 2), (8, 0)])
def test_records_do_not_depend_on_the_number_of_processes(
    small: list[str], tmp_path: Path, run_script: Any, batch: int, workers: int, shuffle: str
) -> None:
    small += [f"data.batch_size={batch}", f"data.num_workers={workers}", f"data.order={shuffle}"]
    run_script("test_time.py", *small, "hydra.run.dir=one")
    finish(start(tmp_path, *small, "hydra.run.dir=two", *DDP, "trainer.devices=2"))
    assert without_time(tmp_path / "two") == without_time(tmp_path / "one")


@pytest.mark.slow
def test_a_sweep_with_several_processes_per_job(small: list[str], tmp_path: Path) -> None:
    """Every job starts its own processes."""
    finish(start(tmp_path, "-m", *small, *DDP, "trainer.devices=2", "method.steps=0,1", "hydra.sweep.dir=sweep"))
    assert [len(without_time(tmp_path / "sweep" / job)) for job in "01"] == [12, 12]


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts processes through torchrun instead of Lightning, as on several machines."""
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_started_by_torchrun(small: list[str], tmp_path: Path, run_script: Any) -> None:
    run_script("test_time.py", *small, "hydra.run.dir=one")
    script = ["--no-python", sys.executable, str(ROOT / "test_time.py"), *small, *DDP, "trainer.devices=2"]
    finish(torchrun(tmp_path, "--standalone", "--nproc-per-node=2", *script, "hydra.run.dir=two"))
    assert without_time(tmp_path / "two") == without_time(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("folders", [("two", "two"), ("two", "other")])
def test_two_nodes(small: list[str], tmp_path: Path, run_script: Any, folders: tuple[str, str]) -> None:
    """Two nodes, simulated on this machine with one process each, must share a directory."""
    run_script("test_time.py", *small, "hydra.run.dir=one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}", "--no-python"]
    script = [sys.executable, str(ROOT / "test_time.py"), *small, *DDP, "trainer.num_nodes=2"]
    both = [
        torchrun(tmp_path, f"--node-rank={rank}", *nodes, *script, f"hydra.run.dir={folder}")
        for rank, folder in enumerate(folders)
    ]
    errors = [node.communicate(timeout=280)[1] for node in both]
    if folders[0] == folders[1]:
        assert [node.returncode for node in both] == [0, 0], errors
        assert without_time(tmp_path / "two") == without_time(tmp_path / "one")
    else:
        assert all("Not all processes of the run work in" in text for text in errors)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["off", "on"])
def test_killed_at_random_moments(tmp_path: Path, cache: str) -> None:
    """Resuming after SIGKILL and SIGTERM in turn ends with the records of an undisturbed run."""
    whole = run(tmp_path, *SLOW)
    generator, kills = random.Random(0), 0
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", f"cache={cache}")
    while True:
        before = len(shard_files(tmp_path / "part"))
        wait_until(begun(tmp_path / "part", before + 1), process)
        time.sleep(generator.uniform(0, 1.5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGTERM if kills % 2 else signal.SIGKILL)
        process.wait(60)
        kills += 1
        process = start(tmp_path, "resume=part", f"data.num_workers={kills % 2}")
    finish(process)
    assert kills >= 3 and without_time(tmp_path / "part") == whole


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_ends_the_run(tmp_path: Path, number: signal.Signals) -> None:
    whole = run(tmp_path, *SLOW)
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", *DDP, "trainer.devices=2")
    wait_until(begun(tmp_path / "part", 4), process)
    (child,) = [pid for pid in children(process.pid) if "test_time" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(child, number)
    how = "signal SIGKILL" if number is signal.SIGKILL else "exit code 143"
    errors = finish(process, code=1)
    assert f"Process 1 of the run ended with {how}" in errors and "continue with resume=" in errors
    assert not (tmp_path / "part" / "results.json").exists()
    finish(start(tmp_path, "resume=part"))
    assert without_time(tmp_path / "part") == whole


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_other_processes_end_with_the_first(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", *DDP, "trainer.devices=3")
    wait_until(begun(tmp_path / "part", 4), process)
    started = children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number is signal.SIGTERM else -number)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    finish(start(tmp_path, "resume=part", "trainer.devices=2"))
    assert len(without_time(tmp_path / "part")) == 60


@pytest.mark.slow
def test_a_killed_data_loading_worker_is_reported(tmp_path: Path) -> None:
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", "data.num_workers=1")
    wait_until(begun(tmp_path / "part", 2), process)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    errors = finish(process, code=1)
    assert "was killed, probably by the out-of-memory killer" in errors and "resume=" in errors
    assert read_records(tmp_path / "part").num_rows >= 4


@pytest.mark.slow
def test_a_second_run_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, *SLOW, "hydra.run.dir=part", "data.limit=2000")  # runs longer than the second process waits
    wait_until(begun(tmp_path / "part"), first)
    second = start(tmp_path, "resume=part")
    assert "Another process is already writing to" in finish(second, code=1)
    before = len(without_time(tmp_path / "part"))
    first.send_signal(signal.SIGTERM)
    finish(first, code=143)
    assert len(without_time(tmp_path / "part")) >= before > 0


def limited(folder: Path, most: int, script: str, *settings: str) -> str:
    """Runs a program that must fail, with files limited to `most` bytes, and returns the last line of its stderr."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))"
    code = (
        f"import resource, runpy, sys; {limit}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], {{}}, '__main__')"
    )
    command = [sys.executable, "-c", code, str(ROOT / script), *settings]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_full_disk_while_training(tmp_path: Path, small: list[str], image_tree: Path) -> None:
    """A file at the size limit gives our own error, not one of torch or safetensors."""
    shots = ["shots=folder", f"shots.root={image_tree}", "shots.k=2", "learner.epochs=3", "hydra.run.dir=run"]
    model = [setting for setting in small if setting.startswith(("backbone", "logger"))]
    settings = [*model, *shots, "shots.num_workers=0"]
    for most in (300, 5000):  # too small for the manifest, and for last.ckpt
        line = limited(tmp_path, most, "train_coop.py", *settings, *(["resume=auto"] if most > 300 else []))
        assert line.startswith("Error: File too large.")
    finish(start(tmp_path, "resume=run", script="train_coop.py"))
    assert (tmp_path / "run" / "context.safetensors").is_file()


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, small: list[str], image_tree: Path) -> None:
    """Files are limited to 7,000 bytes; a shard with long paths is larger."""
    generator = random.Random(0)
    for number, picture in enumerate(sorted(image_tree.rglob("*.png"))):
        picture.rename(picture.with_name(f"{number:03d}{generator.randbytes(100).hex()}.png"))
    settings = [*small, "data.batch_size=6", "callbacks.records.shard_size=12", "hydra.run.dir=run"]
    line = limited(tmp_path, 7000, "test_time.py", *settings)
    assert line.startswith("Error: Cannot write records to") and "File too large" in line
    assert "Fix the problem, then continue with resume=" in line
    finish(start(tmp_path, "resume=run"))
    assert len(without_time(tmp_path / "run")) == 12


@pytest.mark.slow
def test_a_run_continues_when_wandb_is_killed(tmp_path: Path) -> None:
    settings = [a for a in SLOW if a != "logger=none"]
    process = start(tmp_path, *settings, "hydra.run.dir=run", "logger=wandb", "callbacks.metrics.every_n_images=2")

    def cores() -> list[int]:
        return [pid for pid in children(process.pid) if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]

    wait_until(lambda: begun(tmp_path / "run", 2)() and cores(), process)
    (core,) = cores()
    os.kill(core, signal.SIGKILL)
    output, errors = told(process)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert "The logger wandb failed" in output and "continues without it" in output
    assert len(without_time(tmp_path / "run")) == 60 and (tmp_path / "run" / "results.json").exists()


@pytest.mark.slow
def test_wandb_logs_offline_without_a_server(tmp_path: Path, small: list[str]) -> None:
    """With a closed local port as W&B's server, the run is logged offline."""
    settings = [*(a for a in small if a != "logger=none"), "logger=wandb", "logger.wandb.offline=false"]
    away = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    process = start(tmp_path, *settings, "hydra.run.dir=run", **away)
    output, errors = told(process)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert "Cannot reach W&B" in output
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_sweeps_through_hydras_launchers(tmp_path: Path, small: list[str], launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_', maxsplit=1)[0]}_launcher")
    sweep = ["-m", *small, f"hydra/launcher={launcher}", "method.steps=0,1", "hydra.sweep.dir=sweep", "resume=auto"]
    finish(start(tmp_path, *sweep))
    finish(start(tmp_path, *sweep))  # completed jobs stay as they are
    assert [len(without_time(tmp_path / "sweep" / job)) for job in "01"] == [12, 12]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.3, 1.5, 4.0])
def test_a_process_killed_while_starting_is_reported(tmp_path: Path, after: float) -> None:
    """The run ends with one sentence, without a long wait."""
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", *DDP, "trainer.devices=2")
    wait_until(lambda: ranks(process.pid), process)
    time.sleep(after)
    os.kill(ranks(process.pid)[0], signal.SIGKILL)
    errors = finish(process, code=1)
    assert errors.count("Process 1 of the run ended with signal SIGKILL") == 1, errors
    finish(start(tmp_path, "resume=part"))
    assert len(without_time(tmp_path / "part")) == 60


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.3, 1.5, 4.0])
def test_sigterm_while_the_second_process_starts(tmp_path: Path, after: float) -> None:
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", *DDP, "trainer.devices=2")
    wait_until(lambda: ranks(process.pid), process)
    time.sleep(after)
    (second,) = ranks(process.pid)
    process.send_signal(signal.SIGTERM)
    errors = finish(process, code=143)
    assert errors.count("Terminated: completed work is kept") == 1 and len(errors.splitlines()) == 1, errors
    deadline = time.monotonic() + 60
    while Path(f"/proc/{second}").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not Path(f"/proc/{second}").exists()


@pytest.mark.slow
def test_sigterm_while_a_worker_is_suspended(tmp_path: Path) -> None:
    """The suspended data-loading worker is reported, and SIGTERM still ends the run."""
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", "data.num_workers=1", "data.limit=150")
    wait_until(begun(tmp_path / "part", 2), process)
    (loader,) = children(process.pid)
    os.kill(loader, signal.SIGSTOP)
    time.sleep(20)
    process.send_signal(signal.SIGTERM)
    output, errors = told(process)
    assert process.returncode == 143 and "Traceback" not in errors and errors.count("\n") == 1, errors
    assert f"Process {loader} of the run is suspended" in output
    assert not Path(f"/proc/{loader}").exists()


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", "second"])
def test_a_suspended_process_is_reported(tmp_path: Path, which: str) -> None:
    process = start(tmp_path, *SLOW, "hydra.run.dir=part", *DDP, "trainer.devices=2")
    wait_until(begun(tmp_path / "part", 4), process)
    stopped = process.pid if which == "first" else ranks(process.pid)[0]
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(20)
    os.kill(stopped, signal.SIGCONT)
    output, errors = told(process)
    assert process.returncode == 0, errors
    assert f"Process {stopped} of the run is suspended, and the run is waiting for it" in output
    assert len(without_time(tmp_path / "part")) == 60


def ranks(pid: int) -> list[int]:
    """Returns the ids of the further processes that a run's first process has started."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):  # it has just ended
            # A process that the first one has just forked still has its command line, but no rank.
            found += [child] if b"LOCAL_RANK=" in Path(f"/proc/{child}/environ").read_bytes() else []
    return found
