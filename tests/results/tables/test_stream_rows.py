"""Rows of stream methods: listed separately, and summarised over orders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.results.figures import figures_of
from tpt.results.figures.along import along, along_figure
from tpt.results.tables.brief import brief_text
from tpt.results.tables.formats import render
from tpt.results.tables.grid import OF_STREAMS, STREAMS, grids
from tpt.results.tables.report import Cell, make_report
from tpt.results.tables.rows import rows_of as table_rows
from tpt.results.tables.runs import load_runs

ABOUT: dict[str, Any] = {"tunes": False, "selects": True, "kind": "stream"}
LIMIT = {"data.limit": 100}
ACCURACIES = (60, 70, 65)


def stream(folder: Path, accuracy: float, seed: int = 1, dataset: str = "a", method: str = "tda", **given: Any) -> Path:
    """Makes a run on 100 images in the order of the seed, half of them right before adaptation."""
    places = np.random.default_rng(seed).permutation(100).tolist()
    made = answers(dataset, 50, accuracy, 100)
    rows = {dataset: [{**row, "position": place} for row, place in zip(made, places, strict=True)]}
    settings: dict[str, Any] = {"data.order": "shuffled", "data.order_seed": seed, "method._target_": "tpt.TDA"}
    settings |= LIMIT | {"method.feature": "view0", "data.order_concentration": 0.1} | given.pop("settings", {})
    return make_run(folder, rows, method, option="tda", settings=settings, about_method=ABOUT, **given)


def sweep(folder: Path) -> Path:
    """Makes runs of a stream method in three orders, and of two episodic methods."""
    make_run(folder / "0", {"a": answers("a", 50, 50, 100)}, "clip", option="zero_shot", settings=LIMIT)
    for seed, accuracy in enumerate(ACCURACIES, 1):
        stream(folder / str(seed), accuracy, seed)
    make_run(folder / "9", {"a": answers("a", 50, 55, 100)}, "tpt", settings=LIMIT)
    return folder


def cells(folder: Path) -> dict[str, dict[str, Cell]]:
    return {row.label: dict(found) for row, found in make_report(load_runs([folder])).tables[0].rows}


def test_orders_are_summarised_with_the_worst_one(tmp_path: Path) -> None:
    cell = cells(sweep(tmp_path))["tda (shuffled stream, view0, 3 orders)"]["a"]
    assert (cell.accuracy, cell.std, cell.worst) == (pytest.approx(65), pytest.approx(5), 60)
    assert cell.gain is not None and cell.gain.mean == pytest.approx(15)
    assert not any("drew other images" in mark.why for mark in cell.marks)  # the seed that draws the images is the same


def test_stream_rows_are_listed_separately(tmp_path: Path) -> None:
    report = make_report(load_runs([sweep(tmp_path)]))
    (grid,), legend = grids(report)
    labels = [line.label for line in grid.lines if line.main]
    assert labels[2:] == [STREAMS, "tda (shuffled stream, view0, 3 orders)"] and len(labels) == 4
    assert OF_STREAMS in legend.remarks
    text = brief_text(load_runs([tmp_path]))
    best = {line.split()[0] for line in text.splitlines() if "55.00*" in line or "65.00" in line}
    assert best == {"tpt", "tda"} and "* best, of stream methods and of the others" in text
    assert text.index("tpt") < text.index(STREAMS) < text.index("tda (") and "worst" in text and OF_STREAMS in text
    csv = render(report, "csv")
    assert "a worst" in csv.splitlines()[0] and STREAMS not in csv


def test_reports_without_streams_do_not_mention_them(tmp_path: Path) -> None:
    make_run(tmp_path / "0", {"a": answers("a", 50, 50, 100)}, "tpt")
    assert "stream" not in render(make_report(load_runs([tmp_path])), "terminal")


def test_different_orders_and_features_are_separate_rows(tmp_path: Path) -> None:
    stream(tmp_path / "0", 60)
    stream(tmp_path / "1", 60, settings={"data.order": "sorted"})
    for number, concentration in enumerate((0.1, 1.0), 2):
        settings = {"data.order": "dirichlet", "data.order_concentration": concentration}
        stream(tmp_path / str(number), 60, settings=settings)
    stream(tmp_path / "4", 60, settings={"method.feature": "confident"})
    stream(tmp_path / "5", 60, settings={"data.order_concentration": 1.0})  # irrelevant to a shuffled stream
    labels = [row.label for row in table_rows(load_runs([tmp_path]))]
    assert labels[1].startswith("tda (sorted stream, view0") and labels[2].startswith("tda (dirichlet stream, view0")
    assert labels[4] == "tda (shuffled stream, confident)" and len(labels) == 6


def test_a_stream_is_paired_with_others_by_image(tmp_path: Path) -> None:
    """The stream is right on the same 50 of 100 images and ten more; positions in the stream do not matter."""
    make_run(tmp_path / "0", {"a": answers("a", 50, 50, 100)}, "clip", option="zero_shot")
    stream(tmp_path / "1", 60)
    report = make_report(load_runs([tmp_path]), against="clip")
    (row,) = [found for row, found in report.tables[0].rows if row.first.stream]
    against = row["a"].against
    assert against is not None and (against.images, against.only_one) == (100, 0)
    assert against.points.mean == pytest.approx(10) and against.p_value == pytest.approx(2 * 0.5**10)


def test_published_ensemble_numbers_need_templates(tmp_path: Path) -> None:
    model = "ViT-B-16-quickgelu/openai"
    stream(tmp_path / "0", 60, dataset="dtd", backbone=model)
    stream(
        tmp_path / "1", 60, dataset="dtd", backbone=model, method="tda+ensemble", settings={"method.templates": "paper"}
    )
    stream(tmp_path / "2", 60, 2, "dtd", backbone=model, method="dota+ensemble", settings={"data.order": "sorted"})
    one, several, other = (found["dtd"] for found in cells(tmp_path).values())
    assert one.printed is None and several.printed == 47.40 and other.printed == 47.64
    stream(tmp_path / "3", 60, dataset="dtd", backbone=model, settings={"method.templates": "dataset"})
    own = make_report(load_runs([tmp_path / "3"]))  # TDA's code uses these on this dataset
    ((_, found),) = own.tables[0].rows
    assert found["dtd"].printed == 47.40 and not any("templates" in mark.why for mark in found["dtd"].marks)
    assert {"order=sorted, in the paper shuffled"} <= {mark.why for mark in other.marks}
    assert not any("templates" in mark.why or "AugMix" in mark.why for mark in several.marks)


def test_accuracy_and_gain_along_the_stream(tmp_path: Path) -> None:
    """The first 50 images were right before adaptation; the next ten became right."""
    rows = answers("a", 50, 60, 100)
    placed = [{**row, "position": place} for place, row in enumerate(sorted(rows, key=lambda r: r["pred_zero_shot"]))]
    settings = {"data.order": "listed", "method.feature": "view0"}
    make_run(tmp_path / "0", {"a": placed}, "tda", option="tda", settings=settings, about_method=ABOUT)
    make_run(tmp_path / "1", {"a": answers("a", 50, 50, 100)}, "tpt")  # an old run without positions
    runs = load_runs([tmp_path])
    (line,) = along(table_rows(runs), "a")
    assert line.accuracy[49] == 100 and line.accuracy[-1] == pytest.approx(60)
    middle, gains = line.gains
    assert middle[0] == 10.5 and gains.tolist() == [0, 0, 50, 0, 0]  # twenty images per part
    accuracy, gain = along_figure([line], "a").axes
    assert accuracy.lines[0].get_ydata()[-1] == pytest.approx(60)
    assert list(gain.lines[0].get_ydata()) == gains.tolist()
    assert "stream_a" in dict(figures_of(runs))
    assert along(table_rows(runs[1:]), "a") == []
