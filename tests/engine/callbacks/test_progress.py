"""Progress as text: counts, rates and times, by a clock that the tests set."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import Done
from tpt.engine.callbacks.progress import EpisodeProgressBar, Pace, line, rate_text, summary
from tpt.results.runs.sweep import Sweep, seconds_of

Run = Callable[..., Done]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rows(count: int, before: int, after: int, dataset: str = "a", bad: int = 0) -> list[dict[str, Any]]:
    """Records, of which the first `before` and `after` are right."""
    good = [
        {"dataset": dataset, "label": 1, "pred_zero_shot": int(i < before), "pred": int(i < after), "problem": None}
        for i in range(count - bad)
    ]
    lost = {"dataset": dataset, "label": 1, "pred_zero_shot": None, "pred": None, "problem": "unreadable"}
    return good + [lost] * bad


def test_progress_line(clock: Clock) -> None:
    pace = Pace({"a": 40, "b": 60}, clock=clock)
    assert line(pace, "a") == "a: 0 of 100 images (0 %)"  # no rate yet
    clock.now = 4.0
    pace.add("a", rows(40, 20, 30))
    assert line(pace, "a") == "a: 40 of 100 images (40 %), 10 images/s, 00:06 left, acc 50.0 -> 75.0"
    clock.now = 5.0
    pace.add("b", rows(10, 9, 3, "b", bad=1))
    assert line(pace, "b") == "b: 50 of 100 images (50 %), 10 images/s, 00:05 left, acc 100.0 -> 33.3"


def test_a_resumed_run_counts_earlier_images(clock: Clock) -> None:
    """Images of earlier sessions count as done and in the accuracy, but not in the rate."""
    earlier = pa.Table.from_pylist([*rows(30, 15, 15, bad=2), *rows(5, 5, 5, "gone")])
    pace = Pace({"a": 40, "b": 60}, earlier=earlier, clock=clock)
    assert pace.done == 30 and pace.rate is None
    clock.now = 5.0
    pace.add("a", rows(10, 4, 4))
    assert line(pace, "a") == "a: 40 of 100 images (40 %), 2 images/s, 00:30 left, acc 50.0 -> 50.0"


def test_several_processes_are_estimated_from_one(clock: Clock) -> None:
    pace = Pace({"a": 30}, processes=4, clock=clock)
    clock.now = 2.0
    pace.add("a", rows(5, 5, 5))
    assert "20 of 30 images of all 4 processes (66 %), 10 images/s, 00:01 left" in line(pace, "a")
    pace.add("a", rows(3, 3, 3))
    assert pace.done == 30  # not every process has a last batch


def test_the_rate_covers_the_last_minutes(clock: Clock) -> None:
    pace = Pace({"a": 100_000}, clock=clock)
    for seconds, images in [(600, 60), (100, 1000), (100, 1000), (100, 1000), (100, 1000)]:
        clock.now += seconds
        pace.add("a", rows(images, 0, 0))
    assert pace.rate == pytest.approx(10.0)


def test_rates() -> None:
    assert (rate_text(123.456), rate_text(1.234), rate_text(0.025)) == (
        "123 images/s",
        "1.23 images/s",
        "40 s per image",
    )


def job(folder: Path, number: int, seconds: float, images: int = 10, rate: float = 1e9) -> None:
    (folder / str(number)).mkdir(parents=True)
    found = {"seconds": seconds, "datasets": {"a": {"images": images, "images_per_second": rate}}}
    (folder / str(number) / "results.json").write_text(json.dumps(found))


def test_time_left_of_a_sweep(tmp_path: Path, clock: Clock) -> None:
    """Each job to come is estimated by the median finished job; a resumed job counts the time of its records."""
    for number, seconds in enumerate((600, 10, 20)):
        job(tmp_path, number, seconds)
    job(tmp_path, 3, 0.1, images=30, rate=1.0)
    assert seconds_of(tmp_path / "3") == 30 and seconds_of(tmp_path / "4") is None
    sweep = Sweep(tmp_path, job=4, jobs=7)
    assert sweep.seconds_left(5) == 5 + 2 * 25
    pace = Pace({"a": 20}, clock=clock)
    clock.now = 5.0
    pace.add("a", rows(10, 5, 5))
    assert line(pace, "a", sweep).startswith("job 5 of 7, a: 10 of 20 images")
    assert "00:05 left, acc 50.0 -> 50.0, about 00:55 in the sweep" in summary(pace, "a", sweep)
    assert Sweep(tmp_path, job=6, jobs=7).seconds_left(5) == 5
    unknown = [Sweep(tmp_path, 4, None), Sweep(tmp_path, 4, 7, in_turn=False), Sweep(tmp_path / "new", 0, 7)]
    assert [s.seconds_left(5) for s in unknown] == [None] * 3
    assert line(pace, "a", unknown[0]).startswith("job 5, a: ")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Log lines that the progress bars of this process write."""
    caplog.set_level(logging.INFO, "tpt.engine.callbacks.progress")
    return caplog.messages


def batches(
    bar: EpisodeProgressBar, clock: Clock, count: int, seconds: float, first: bool = True, ends: bool = True
) -> None:
    """Passes `count` batches of two images to the bar, as one process of a run does."""
    dataset: Any = SimpleNamespace(name="a", __len__=lambda: 0)
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=first)
    task: Any = SimpleNamespace(datasets=[type("D", (), {"name": "a", "__len__": lambda _: 100})()])
    bar.setup(trainer, task, "test")
    bar.on_test_start(trainer, task)
    for number in range(count):
        clock.now += seconds
        bar.on_test_batch_end(trainer, task, SimpleNamespace(dataset=dataset, rows=rows(2, 1, 2)), None, number)
    if ends:
        bar.on_test_end(trainer, task)


def test_one_log_line_per_minute_over_many_jobs(clock: Clock, caplog: Any, lines: Any, tmp_path: Path) -> None:
    for number in range(5):
        bar = EpisodeProgressBar(clock=clock)
        bar.begin(None, {}, Sweep(tmp_path, number, 5), None)  # type: ignore[arg-type]
        batches(bar, clock, 3, 10.0)
    done = "a: 6 of 100 images (6 %), 5 s per image, 07:50 left, acc 50.0 -> 100.0"
    assert caplog.messages == [f"job 2 of 5, {done}", f"job 4 of 5, {done}"]


def test_only_the_first_process_logs_and_lines_are_printable(
    clock: Clock, caplog: Any, lines: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    batches(EpisodeProgressBar(log_every_s=1.0, clock=clock), clock, 3, 10.0, first=False)
    assert caplog.messages == []
    batches(EpisodeProgressBar(log_every_s=1.0, clock=clock), clock, 3, 10.0)
    assert len(caplog.messages) == 3 and all(message.isprintable() for message in caplog.messages)
    assert capfd.readouterr().out == ""


def test_log_of_a_resumed_run(
    run_script: Run,
    small: list[str],
    stop_after: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real run is stopped after three batches of two and resumed: the log starts with the fourth batch."""
    settings = [*small, "+callbacks.progress.log_every_s=0"]
    stop_after(3)
    run_script("test_time.py", *settings, ok=False)
    stop_after(-1)
    done = run_script("test_time.py", "resume=run")
    counts = re.findall(r"pictures: (\d+) of 12 images", done.stdout)
    assert counts == ["8", "10", "12"] and "\r" not in done.stdout and "\x1b" not in done.stdout


@pytest.mark.slow  # the text itself is tested above
def test_log_of_a_sweep_names_the_job(
    run_script: Run,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = [a for a in small if not a.startswith("hydra.run")]
    steps = ["method.steps=0,1", "seed=range(0,1)", "method.selection_p=choice(0.5)"]
    done = run_script("test_time.py", "-m", *sweep, *steps, "+callbacks.progress.log_every_s=0")
    told = [text for text in done.stdout.splitlines() if "pictures: " in text]
    assert [re.findall(r"job \d of \d", text) for text in told] == [["job 1 of 2"]] * 6 + [["job 2 of 2"]] * 6
    assert ["in the sweep" in text for text in told] == [False] * 6 + [True] * 6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def test_a_bar_on_a_terminal(
    clock: Clock, caplog: Any, lines: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bar counts images and starts from those already tested."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    bar = EpisodeProgressBar(log_every_s=1.0, clock=clock)
    earlier = pa.Table.from_pylist(rows(90, 45, 90))
    bar.begin(None, {}, Sweep(tmp_path, 0, 2), earlier)  # type: ignore[arg-type]
    batches(bar, clock, 5, 10.0)
    shown = terminal.getvalue().split("\r")
    assert any(" 90/100 images" in text for text in shown)
    assert "100/100 images, 5 s per image, 00:00 left, acc 50.0 -> 100.0" in shown[-1]
    assert shown[-1].startswith("job 1 of 2, a: 100%|")


def test_no_bar_below_the_report_of_a_stopped_run(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    bar = EpisodeProgressBar(clock=clock)
    batches(bar, clock, 2, 10.0, ends=False)
    assert not terminal.getvalue().endswith("\n")
    bar.on_exception(None, None, KeyboardInterrupt())  # type: ignore[arg-type]
    print("Stopped.")
    del bar
    gc.collect()
    assert terminal.getvalue().endswith("\nStopped.\n")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_fits_the_terminal(
    columns: int, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any
) -> None:
    """The text after it is cut, and the least important part is last."""
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    job(tmp_path, 0, 600)
    bar = EpisodeProgressBar(clock=clock)
    bar.begin(None, {}, Sweep(tmp_path, 1, 3), None)  # type: ignore[arg-type]
    batches(bar, clock, 5, 10.0)
    last = terminal.getvalue().split("\r")[-1]
    assert len(last.rstrip("\n")) <= columns and "10/100 images, 5 s per image" in last
    assert ("in the sweep" in last) == (columns == 200) and ("07:30 left" in last) == (columns >= 80)
    assert caplog.messages == []
