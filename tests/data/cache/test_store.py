"""Features on disk: exact, limited in size, shared by processes, and safe with damaged files."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.untrusted import JSON, damaged
from tpt.cli.programs.cache import main
from tpt.data.cache import store
from tpt.data.cache.store import FeatureStore, clear, shards, size

SPACE, OTHER = "0" * 32, "f" * 32
WIDTH = 8


def key(number: int) -> str:
    return f"{number:032x}"


def features(number: int, views: int = 4) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((views, WIDTH)).astype(np.float32)


def fill(folder: Path, numbers: range, space: str = SPACE, views: int = 4, max_bytes: int | None = None) -> None:
    filled = FeatureStore(folder, space, {"backbone": "noise"}, max_bytes)
    for number in numbers:
        filled.put(key(number), features(number, views), number / 3)
    filled.flush()


def holds(folder: Path, number: int, views: int = 4, space: str = SPACE) -> bool:
    """Whether the entry is stored; its features and norm must be correct."""
    found = FeatureStore(folder, space).get(key(number), views, WIDTH)
    if found is not None:
        assert np.array_equal(found[0], features(number, 16)[:views]) or np.array_equal(found[0], features(number))
        assert found[1] == number / 3
    return found is not None


def shard(folder: Path) -> Path:
    (found,) = folder.rglob("*.safetensors")
    return found


def test_entries_are_read_back_exactly(tmp_path: Path) -> None:
    """Images share files, a request for fewer views gets the first ones, and other programs can read the files."""
    fill(tmp_path, range(100), views=16)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert all(holds(tmp_path, number, views) for number in (0, 7, 99) for views in (1, 4, 16))
    assert not holds(tmp_path, 100) and not holds(tmp_path, 0, views=17) and not holds(tmp_path, 0, space=OTHER)
    assert FeatureStore(tmp_path, SPACE).get(key(0), 4, WIDTH + 1) is None
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert size(tmp_path) == sum(file.stat().st_size for file in files)
    assert np.array_equal(load_file(files[1])[key(99)], features(99, 16))


def test_later_changes_of_the_array_are_not_stored(tmp_path: Path) -> None:
    filled, values = FeatureStore(tmp_path, SPACE), features(1)
    filled.put(key(1), values, 1 / 3)
    values += 1
    filled.flush()
    assert holds(tmp_path, 1)


def test_slow_encoding_writes_before_the_file_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = FeatureStore(tmp_path, SPACE)
    filled.put(key(0), features(0), 0.0)
    assert not holds(tmp_path, 0)
    monkeypatch.setattr(store, "SHARD_S", 0.0)
    filled.put(key(1), features(1), 1 / 3)
    assert holds(tmp_path, 0) and holds(tmp_path, 1)


def test_more_views_are_added_to_fewer(tmp_path: Path) -> None:
    fill(tmp_path, range(2), views=4)
    fill(tmp_path, range(2), views=16)
    assert holds(tmp_path, 1, 16) and holds(tmp_path, 1, 4)


def test_a_reader_finds_entries_that_others_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = FeatureStore(tmp_path, SPACE)
    assert reader.get(key(0), 4, WIDTH) is None
    fill(tmp_path, range(1))
    assert reader.get(key(0), 4, WIDTH) is None  # checked for new files a moment ago
    monkeypatch.setattr(store, "REFRESH_S", 0.0)
    assert reader.get(key(0), 4, WIDTH) is not None


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def in_header(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 1 and len(old) == len(new)
    return content.replace(old, new)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda c: c[:-40],
    "cut in the header": lambda c: c[:100],
    "empty": lambda c: b"",
    "a bit of the features": lambda c: flip(c, len(c) - 9),
    "a bit of the header": lambda c: flip(c, 20),
    "the norm": lambda c: in_header(c, f"{2 / 3!r} ".encode(), f"{2 / 3!r} ".encode()[:-2] + b"7 "),
    "the offsets": lambda c: in_header(c, b"[256,384]", b"[128,256]"),
    "foreign": lambda c: b"tpt view features 1\n".ljust(64, b"\0") + c,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    fill(tmp_path, range(3))
    file = shard(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert not holds(tmp_path, 2) and "Damaged entries" in caplog.text
    fill(tmp_path, range(2, 3))
    assert holds(tmp_path, 2)


def test_an_entry_truncated_after_indexing_is_a_miss(tmp_path: Path) -> None:
    fill(tmp_path, range(60))
    reader = FeatureStore(tmp_path, SPACE)
    assert reader.get(key(0), 4, WIDTH) is not None
    with shard(tmp_path).open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 200)
    assert reader.get(key(59), 4, WIDTH) is None and reader.get(key(0), 4, WIDTH) is not None


NUMBER = st.integers(-(2**70), 2**70) | st.floats() | JSON
HEADER = st.dictionaries(
    st.sampled_from([key(0), key(1), "__metadata__"]),
    JSON
    | st.fixed_dictionaries({"shape": st.lists(NUMBER, max_size=3), "data_offsets": st.lists(NUMBER, max_size=3)})
    | st.dictionaries(st.sampled_from([key(0), key(1)]), st.text() | st.just("1.0 " + "0" * 32)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_any_bytes_are_a_miss_or_the_stored_entry(tmp_path: Path, draw: st.DataObject) -> None:
    """Damaged files and impossible headers raise no error and give no wrong features."""
    if not (tmp_path / SPACE).exists():
        fill(tmp_path, range(2))
        (tmp_path / "kept").write_bytes(shard(tmp_path).read_bytes())
    header = HEADER.map(lambda found: json.dumps(found).encode())
    made = st.builds(lambda text, rest: len(text).to_bytes(8, "little") + text + rest, header, st.binary(max_size=300))
    shard(tmp_path).write_bytes(draw.draw(damaged((tmp_path / "kept").read_bytes()) | made | st.binary(max_size=300)))
    (tmp_path / SPACE / "about.json").write_bytes(draw.draw(st.binary(max_size=40)))
    for number in (0, 1):
        holds(tmp_path, number)
    assert main(["show", str(tmp_path)]) == 0


def test_pipes_and_oversized_files_are_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pipes do not block, and sparse files of 40 GB are not read."""
    fill(tmp_path, range(3))
    space = tmp_path / SPACE
    for name in ("pipe.safetensors", "about.json"):
        (space / name).unlink(missing_ok=True)
        os.mkfifo(space / name)
    (space / "device.safetensors").symlink_to("/dev/zero")
    about = {key(7): "1.0 " + "0" * 32}  # claims 16 GB of features
    header = json.dumps({"__metadata__": about, key(7): {"shape": [2**20, 2**12], "data_offsets": [0, 2**34]}}).encode()
    for name, length in (("huge", 2**60), ("claim", len(header))):
        with (space / f"{name}.safetensors").open("wb") as file:
            file.write(length.to_bytes(8, "little") + header)
            file.truncate(40 * 10**9)
    began = time.monotonic()
    assert holds(tmp_path, 2) and FeatureStore(tmp_path, SPACE).get(key(7), 4, 2**12) is None
    assert main(["show", str(tmp_path)]) == 0 and "None" in capsys.readouterr().out
    assert time.monotonic() - began < 5


def test_files_of_release_0_1_are_not_counted_but_cleared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, range(1))
    before = size(tmp_path)
    for name in ("1-1-a.idx", "1-1-a.f32"):
        (tmp_path / SPACE / name).write_bytes(b"tpt view features 1\n".ljust(64, b"\0"))
    assert holds(tmp_path, 0) and size(tmp_path) == before and not caplog.text
    clear(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_limit_holds_and_used_entries_stay(tmp_path: Path) -> None:
    """The least recently used file is deleted first; a run does not delete its own entries, but stores no more."""
    bound = 40_000
    fill(tmp_path, range(100), OTHER, max_bytes=bound)
    time.sleep(0.05)
    assert holds(tmp_path, 0, space=OTHER)  # the file of the first entries is used again
    time.sleep(0.05)
    fill(tmp_path, range(60), max_bytes=bound)
    assert size(tmp_path) <= bound
    assert holds(tmp_path, 0, space=OTHER) and not holds(tmp_path, 20, space=OTHER)
    time.sleep(0.05)
    fill(tmp_path, range(1000), "a" * 32, max_bytes=bound)
    assert holds(tmp_path, 0, space="a" * 32) and not holds(tmp_path, 999, space="a" * 32)
    assert not holds(tmp_path, 59) and size(tmp_path) <= bound


def test_a_full_cache_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, range(1000), max_bytes=3000)
    assert caplog.text.count("is full: raise cache.max_gb") == 1 and holds(tmp_path, 0)


def test_some_disk_space_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "FREE_BYTES", 2**62)
    fill(tmp_path, range(3))
    assert not shards(tmp_path) and "is full" in caplog.text


def test_a_cache_that_cannot_be_written_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, range(1))

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_bytes", refuse)
    fill(tmp_path, range(1, 5))
    assert caplog.text.count("cannot be written (No space left on device)") == 1
    assert holds(tmp_path, 0) and not holds(tmp_path, 1)


def test_a_file_in_place_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("")
    fill(tmp_path / "taken", range(2))
    assert caplog.text.count("cannot be written") == 1 and not holds(tmp_path / "taken", 0)


def test_processes_share_a_cache_and_one_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # starts quickly, with all modules loaded
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
    freed = sum(file.stat().st_size for file in (tmp_path / SPACE).iterdir())
    assert main(["show"]) == 0
    shown = capsys.readouterr().out
    assert "noise" in shown and " 3 " in shown and f"0.0 MB in {tmp_path}" in shown
    assert clear(tmp_path) == freed > 500 and main(["clear", str(tmp_path)]) == 0
    assert main(["show", str(tmp_path / "nowhere")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.idx"]
