"""Tables of predictions in every format."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpt.errors import UserError
from tpt.results.predictions import Likely, Prediction, Predictions, write_predictions

TOP = (Likely("cat", 0.75), Likely("hot, air\nballoon", 0.2), Likely("T-shirt", 0.05))
GOOD = Prediction("a/b.png", "cat", 0.75, TOP, "T-shirt", 0.5, (0, 3), 0.1, None)
BAD = Prediction("c.png", None, None, (), None, None, (), 0.1, "it is empty")
COLUMNS = [
    *("path", "answer", "probability", "answer_2", "probability_2", "answer_3", "probability_3"),
    *("answer_before", "probability_before", "views_selected", "problem"),
]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path: Path) -> None:
    rows = read_csv(Predictions([BAD, GOOD]).write(tmp_path / "new" / "a.csv"))  # the first row has no answer
    assert list(rows[0]) == COLUMNS
    assert list(rows[0].values()) == ["c.png", *[""] * 9, "it is empty"]
    expected = ["a/b.png", "cat", "0.750000", "hot, air\\nballoon", "0.200000", "T-shirt", "0.050000"]
    assert list(rows[1].values()) == [*expected, "T-shirt", "0.500000", "2", ""]


def test_csv_has_no_empty_columns(tmp_path: Path) -> None:
    (row,) = read_csv(write_predictions([GOOD], tmp_path / "a.csv", top=9))
    assert list(row) == COLUMNS[:-1] and all(row.values())


def test_parquet_has_the_columns_of_csv_with_types(tmp_path: Path) -> None:
    table = pq.read_table(write_predictions(iter([GOOD, BAD]), tmp_path / "a.parquet", top=3))
    assert table.column_names == COLUMNS
    assert table["probability"].to_pylist() == [0.75, None] and table["views_selected"].to_pylist() == [2, None]
    assert table["answer_2"].to_pylist() == ["hot, air\nballoon", None]


def test_json(tmp_path: Path) -> None:
    found = json.loads(write_predictions([GOOD, BAD], tmp_path / "a.json", top=2).read_text())
    assert found[0]["top"] == [{"answer": "cat", "probability": 0.75}, {"answer": TOP[1].answer, "probability": 0.2}]
    assert found[0]["selected"] == [0, 3] and found[0]["path"] == "a/b.png"
    assert found[1] == {
        **dict.fromkeys(("answer", "probability", "answer_before", "probability_before")),
        **{"path": "c.png", "top": [], "selected": [], "problem": "it is empty"},
    }


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_no_rows(suffix: str, tmp_path: Path) -> None:
    path = write_predictions([], tmp_path / f"a{suffix}", top=1)
    match suffix:
        case ".csv":
            assert read_csv(path) == []
        case ".json":
            assert json.loads(path.read_text()) == []
        case _:
            assert pq.read_table(path).num_rows == 0


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_a_failed_write_keeps_the_old_table(suffix: str, tmp_path: Path) -> None:
    path = write_predictions([GOOD], tmp_path / f"a{suffix}", top=3)
    before = path.read_bytes()

    def failing() -> Iterator[Prediction]:
        yield GOOD
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_predictions(failing(), path, top=3)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_rows_are_written_in_chunks(tmp_path: Path) -> None:
    """Only part of the rows is in memory at a time."""
    import weakref

    alive: list[weakref.ref[Prediction]] = []
    most = 0

    def many() -> Iterator[Prediction]:
        nonlocal most
        for number in range(5000):
            prediction = Prediction(f"{number}.png", "cat", 0.75, TOP, "cat", 0.5, (0,), 0.1, None)
            alive.append(weakref.ref(prediction))
            if number % 500 == 0:
                most = max(most, sum(ref() is not None for ref in alive))
            yield prediction

    for suffix in (".csv", ".json", ".parquet"):
        write_predictions(many(), tmp_path / f"a{suffix}", top=3)
    assert most < 2000


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected a file that ends in \.csv, \.json, \.parquet, got 'a\.xlsx'"):
        write_predictions([GOOD], "a.xlsx", top=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(name=st.text(min_size=1), answer=st.text(min_size=1))
def test_cells_are_no_formulas_and_texts_round_trip(name: str, answer: str, tmp_path: Path) -> None:
    row = Prediction(name, answer, 0.75, (Likely(answer, 0.75),), answer, 0.5, (0,), 0.1, None)
    (csv_row,) = read_csv(write_predictions([row], tmp_path / "a.csv", top=1))
    for cell, text in ((csv_row["path"], name), (csv_row["answer"], answer), (csv_row["answer_before"], answer)):
        assert cell[:1] not in ("=", "+", "-", "@") and not {"\n", "\r", "\t"} & set(cell)
        assert cell.isprintable() or not text.isprintable()
        if text.isprintable():
            assert cell in (text, f"'{text}")
    (found,) = json.loads(write_predictions([row], tmp_path / "a.json", top=1).read_text(encoding="utf-8"))
    assert (found["path"], found["answer"]) == (name, answer)
