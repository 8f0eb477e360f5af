"""Features on disk: exact, bounded, shared, and safe on whatever lies there."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpt.cli.programs.cache import main
from tpt.data.cache import eviction, store
from tpt.data.cache.eviction import clear, segments, size
from tpt.data.cache.segment import MAGIC, IndexEntry
from tpt.data.cache.store import FeatureStore

SPACE, OTHER = "0" * 32, "f" * 32
WIDTH = 8


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def features(number: int, views: int = 4) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((views, WIDTH)).astype(np.float32)


def fill(folder: Path, numbers: range, space: str = SPACE, views: int = 4, max_bytes: int | None = None) -> None:
    filled = FeatureStore(folder, space, {"backbone": "noise"}, max_bytes)
    for number in numbers:
        filled.put(key(number), features(number, views), number / 3)
    filled.close()


def holds(folder: Path, number: int, views: int = 4, space: str = SPACE) -> bool:
    """Whether the entry is there; what is there must be right."""
    found = FeatureStore(folder, space).get(key(number), views, WIDTH)
    if found is not None:
        assert np.array_equal(found[0], features(number, 16)[:views]) or np.array_equal(found[0], features(number))
        assert found[1] == float(np.float32(number / 3))
    return found is not None


def data_file(folder: Path) -> Path:
    (found,) = folder.rglob("*.f32")
    return found


def test_entries_come_back_bit_by_bit(tmp_path: Path) -> None:
    """Few files whatever the number of images, and the first of more views."""
    fill(tmp_path, range(50), views=16)
    assert len(list(tmp_path.rglob("*.f32"))) == len(list(tmp_path.rglob("*.idx"))) == 1
    assert all(holds(tmp_path, number, views) for number in (0, 7, 49) for views in (1, 4, 16))
    assert not holds(tmp_path, 50) and not holds(tmp_path, 0, views=17) and not holds(tmp_path, 0, space=OTHER)
    assert FeatureStore(tmp_path, SPACE).get(key(0), 4, WIDTH + 1) is None
    assert size(tmp_path) == 50 * (16 * WIDTH * 4 + 64) + len(MAGIC)


def test_more_views_are_added_beside_fewer(tmp_path: Path) -> None:
    fill(tmp_path, range(2), views=4)
    fill(tmp_path, range(2), views=16)
    assert holds(tmp_path, 1, 16) and holds(tmp_path, 1, 4)


def test_a_reader_sees_what_others_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = FeatureStore(tmp_path, SPACE)
    assert reader.get(key(0), 4, WIDTH) is None
    fill(tmp_path, range(1))
    assert reader.get(key(0), 4, WIDTH) is None  # looked a moment ago
    monkeypatch.setattr(store, "REFRESH_S", 0.0)
    assert reader.get(key(0), 4, WIDTH) is not None


@pytest.mark.parametrize("ending", [".f32", ".idx"])
@pytest.mark.parametrize("damage", [lambda c: c[:-40], lambda c: b"", lambda c: c[:-9] + b"!" + c[-8:]])
def test_damage_is_found_and_made_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, damage: Callable[[bytes], bytes]
) -> None:
    fill(tmp_path, range(3))
    file = data_file(tmp_path).with_suffix(ending)
    file.write_bytes(damage(file.read_bytes()))
    assert not holds(tmp_path, 2)
    assert ("Damaged entries" in caplog.text) == (ending == ".f32")
    fill(tmp_path, range(2, 3))
    assert holds(tmp_path, 2)
    caplog.clear()
    assert holds(tmp_path, 2) and not caplog.text  # the new entry is looked at first


def test_a_file_that_shrinks_under_a_reader_is_a_miss(tmp_path: Path) -> None:
    """To look behind the end of a mapped file would kill the process."""
    fill(tmp_path, range(2000))
    reader = FeatureStore(tmp_path, SPACE)
    assert reader.get(key(0), 4, WIDTH) is not None
    with data_file(tmp_path).open("r+b") as file:
        file.truncate(4096)
    assert reader.get(key(1999), 4, WIDTH) is None and reader.get(key(0), 4, WIDTH) is not None


ENTRIES = st.builds(
    IndexEntry,
    key=st.sampled_from([key(0), key(1)]),
    digest=st.binary(min_size=16, max_size=16),
    offset=st.integers(0, 2**64 - 1),
    views=st.integers(0, 2**32 - 1),
    width=st.sampled_from([0, WIDTH, 2**32 - 1]),
    norm=st.floats(width=32),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(ENTRIES.map(IndexEntry.pack) | st.binary(max_size=70), max_size=4).map(b"".join),
    data=st.binary(max_size=300),
    magic=st.sampled_from([MAGIC, MAGIC[:-1], b""]),
    about=st.binary(max_size=40),
)
def test_any_bytes_are_a_miss(tmp_path: Path, lines: bytes, data: bytes, magic: bytes, about: bytes) -> None:
    """Entries with right checks and impossible places among them."""
    folder = tmp_path / SPACE
    folder.mkdir(exist_ok=True)
    (folder / "1-1-a.idx").write_bytes(magic + lines)
    (folder / "1-1-a.f32").write_bytes(data)
    (folder / "about.json").write_bytes(about)
    for number in (0, 1):
        assert FeatureStore(tmp_path, SPACE).get(key(number), 1, WIDTH) is None
    assert main(["show", str(tmp_path)]) == 0


def test_planted_files_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pipes, which would be waited for, and files of 40 GB that take no room on the disk."""
    fill(tmp_path, range(3))
    space = tmp_path / SPACE
    for name in ("pipe.idx", "pipe.f32", "about.json"):
        (space / name).unlink(missing_ok=True)
        os.mkfifo(space / name)
    for name in ("huge.idx", "huge.f32"):
        with (space / name).open("wb") as file:
            file.write(MAGIC)
            file.truncate(40 * 10**9)
    claim = IndexEntry(key(7), b"0" * 16, 0, 2**20, 2**12, 1.0)  # 16 GB of features
    (space / "claim.idx").write_bytes(MAGIC + claim.pack())
    (space / "claim.f32").symlink_to("huge.f32")
    began = time.monotonic()
    assert holds(tmp_path, 2) and FeatureStore(tmp_path, SPACE).get(key(7), 4, 2**12) is None
    assert main(["show", str(tmp_path)]) == 0 and "None" in capsys.readouterr().out
    assert time.monotonic() - began < 5


def test_the_bound_holds_and_what_is_used_stays(tmp_path: Path) -> None:
    """Least recently used goes first; a run does not push out its own entries, but keeps no more."""
    bound = 20_000
    fill(tmp_path, range(100), OTHER, max_bytes=bound)
    time.sleep(0.05)
    assert holds(tmp_path, 0, space=OTHER)  # the segment of the first entries is used again
    time.sleep(0.05)
    fill(tmp_path, range(60), max_bytes=bound)
    assert size(tmp_path) <= bound
    assert holds(tmp_path, 0, space=OTHER) and not holds(tmp_path, 20, space=OTHER)
    time.sleep(0.05)
    fill(tmp_path, range(1000), "a" * 32, max_bytes=bound)
    assert holds(tmp_path, 0, space="a" * 32) and not holds(tmp_path, 999, space="a" * 32)
    assert not holds(tmp_path, 59) and size(tmp_path) <= bound


def test_a_full_cache_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, range(1000), max_bytes=3000)
    assert caplog.text.count("is full: raise cache.max_gb") == 1 and holds(tmp_path, 0)


def test_the_disk_keeps_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(eviction, "FREE_BYTES", 2**62)
    fill(tmp_path, range(3))
    assert not segments(tmp_path) and "is full" in caplog.text


def test_a_cache_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, range(1))

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tpt.data.cache.segment._write", refuse)
    fill(tmp_path, range(1, 5))
    assert caplog.text.count("cannot be written (No space left on device)") == 1
    assert holds(tmp_path, 0) and not holds(tmp_path, 1)


def test_a_file_in_place_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("")
    fill(tmp_path / "taken", range(2))
    assert caplog.text.count("cannot be written") == 1 and not holds(tmp_path / "taken", 0)


def test_processes_fill_one_cache_at_once_and_one_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # starts at once, with all modules loaded
    together = context.Barrier(3)

    def work(numbers: range) -> None:
        together.wait(30)
        fill(tmp_path, numbers)

    processes = [context.Process(target=work, args=(n,)) for n in (range(300), range(200, 500), range(500, 10**6))]
    for process in processes:
        process.start()
    for process in processes[:2]:
        process.join(60)
        assert process.exitcode == 0
    deadline = time.monotonic() + 30
    while not holds(tmp_path, 500) and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[2].kill()
    processes[2].join()
    found = FeatureStore(tmp_path, SPACE)
    for number in range(501):
        got = found.get(key(number), 4, WIDTH)
        assert got is not None and np.array_equal(got[0], features(number))


def test_show_and_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPT_CACHE", str(tmp_path))
    fill(tmp_path, range(3))
    (tmp_path / "mine.idx").write_text("a user's own")
    assert main(["show"]) == 0
    shown = capsys.readouterr().out
    assert "noise" in shown and " 3 " in shown and f"0.0 MB in {tmp_path}" in shown
    assert main(["clear", str(tmp_path)]) == 0 and main(["show", str(tmp_path / "nowhere")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.idx"]


def test_clear_gives_what_it_freed(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    assert clear(tmp_path) == 3 * (4 * WIDTH * 4 + 64) + len(MAGIC) and size(tmp_path) == 0
