"""Rows, cells and marks of a report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.data.catalog.entries import CATALOG
from tpt.results.tables.formats import render
from tpt.results.tables.published import AVERAGE, OOD_AVERAGE, PAPER, printed_tables
from tpt.results.tables.report import Cell, Report, make_report
from tpt.results.tables.runs import load_runs

VIT, RN50 = "ViT-B-16-quickgelu/openai", "RN50-quickgelu/openai"
SHIFTS = printed_tables()[0][1]
N = 1000


def report(folder: Path, **kwargs: Any) -> Report:
    return make_report(load_runs([folder]), **kwargs)


def cells(report: Report, table: int = 0) -> dict[str, dict[str, Cell]]:
    return {row.label: dict(found) for row, found in report.tables[table].rows}


def whole(name: str, **changes: Any) -> dict[str, Any]:
    """The manifest's entry for a run on a whole dataset of the paper, regardless of its records."""
    return {"size": CATALOG[name].images, "to_test": CATALOG[name].images, **changes}


def run_of(folder: Path, accuracies: dict[str, tuple[float, float]], **kwargs: Any) -> Path:
    """Makes a run with these accuracies (%) before and after, on a thousand images of each dataset."""
    rows = {name: answers(name, one, two, N) for name, (one, two) in accuracies.items()}
    return make_run(folder, rows, **kwargs)


def test_a_row_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test set of the paper's size has no mark and shows the difference; printed averages are shown too."""
    monkeypatch.setitem(CATALOG, "imagenet_a", replace(CATALOG["imagenet_a"], images=N))
    about = {"imagenet_a": {"classes": 200}}
    run_of(tmp_path, {"imagenet_a": (47.9, 55.0)}, backbone=VIT, about=about)
    row = cells(report(tmp_path))["tpt"]
    cell = row["imagenet_a"]
    assert cell.marks == () and cell.printed == 54.77
    assert cell.accuracy == pytest.approx(55.0) and cell.difference == pytest.approx(0.23)
    assert cell.gain is not None and cell.gain.mean == pytest.approx(7.1)
    assert cell.gain.low < 7.1 < cell.gain.high
    missing = {AVERAGE: 62.44, OOD_AVERAGE: 60.81, "imagenet": 68.98}
    assert all(row[name] == Cell(printed=value, source=PAPER) for name, value in missing.items())


def test_averages_of_all_cells(tmp_path: Path) -> None:
    run_of(tmp_path, {name: (10 * k, 10 * k + 5) for k, name in enumerate(SHIFTS)}, backbone=VIT)
    row = cells(report(tmp_path))["tpt"]
    assert row[AVERAGE].accuracy == pytest.approx(25) and row[OOD_AVERAGE].accuracy == pytest.approx(30)
    assert row[AVERAGE].gain is not None and row[AVERAGE].gain.mean == pytest.approx(5)
    assert row[AVERAGE].difference is None  # each cell is on part of the images


PLAIN_CROPS = {"views._target_": "tpt.Views", "views.augmix": None}
MARKS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"about": {"dtd": whole("dtd", to_test=N)}}, ["on part of the images"]),
    ({"about": {"dtd": whole("dtd", split="labels/test1.txt")}}, ["another split than the paper's"]),
    ({"about": {"dtd": {"size": 999, "to_test": 999}}}, ["another test set than the paper's"]),
    ({"precision": "bf16"}, ["backbone_precision=bf16, in the paper fp32"]),
    ({"settings": {"method.steps": 2}}, ["steps=2, in the paper 1"]),
    ({"settings": {"views.num_views": 8}}, ["num_views=8, in the paper 64"]),
    ({"settings": {"method.selection_p": 0.2}}, ["selection_p=0.2, in the paper 0.1"]),
    ({"settings": {"method.lr": 0.01}}, ["lr=0.01, in the paper 0.005"]),
    ({"settings": {"context.ctx_init": "a"}},
     ["ctx_init=a, in the paper a photo of a"]),
    ({"settings": PLAIN_CROPS}, ["views without AugMix, in the paper with it"]),
    ({"settings": {"trainer.precision": "16-mixed"}}, ["precision=16-mixed, in the paper 32-true"]),
    ({"method": "coop"}, []),
    ({"backbone": "emoji-mini", "settings": {"method.steps": 2}}, []),  # no published number to compare with
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), MARKS)
def test_marks(tmp_path: Path, changes: dict[str, Any], expected: list[str]) -> None:
    about = {"dtd": whole("dtd")}
    run_of(tmp_path, {"dtd": (40, 45)}, **{"backbone": RN50, "about": about, **changes})
    ((row, found),) = report(tmp_path).tables[0].rows
    why = [mark.why for mark in found["dtd"].marks]
    unfinished = ["unfinished"] if changes.get("about", about)["dtd"].get("to_test", N) > N else []
    unknown = [w for w in why if w.startswith("learned_on=unknown")]
    assert bool(unknown) == (row.first.method == "coop")
    assert sorted(set(why) - set(unknown)) == sorted([*expected, *unfinished])
    assert found["dtd"].difference is None  # only a thousand of 1,692 images


def test_unfinished_and_unanswered(tmp_path: Path) -> None:
    """A killed run, one with an unanswered image, one that has just started, and one without any answer."""
    rows = answers("a", 50, 60, 10)
    lost = {**rows[0], "problem": "unreadable", "content": None, "pred": None, "pred_zero_shot": None}
    make_run(tmp_path / "0", {"a": rows, "b": []}, about={"a": {"to_test": 30, "size": 30}, "b": {"to_test": 5}})
    make_run(tmp_path / "1", {"a": [lost, *rows[1:]]}, settings={"method.steps": 2})
    make_run(tmp_path / "2", {"a": []}, settings={"method.steps": 3}, about={"a": {"to_test": 7, "size": 7}})
    make_run(tmp_path / "3", {"a": [lost]}, settings={"method.steps": 4})
    killed, lost_one, begun, lost_all = (cells(report(tmp_path / name))["tpt"] for name in "0123")
    assert [mark.detail for mark in killed["a"].marks] == ["a 10 of 30 images done"]
    assert killed["b"].accuracy is None and killed[AVERAGE].accuracy is None
    assert [mark.why for mark in lost_one["a"].marks] == ["images without an answer are left out"]
    assert begun["a"].accuracy is None
    assert [mark.detail for mark in begun["a"].marks] == ["a 0 of 7 images done"]
    assert lost_all["a"].accuracy is None


def test_seeds_make_one_row(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((60, 62, 67)):
        run_of(tmp_path / str(seed), {"a": (50, accuracy), "b": (50, 50)}, seed=seed)
    run_of(tmp_path / "other", {"a": (50, 70)}, seed=1, settings={"method.steps": 2})
    found = cells(report(tmp_path))
    assert list(found) == ["tpt (steps=1, 3 seeds)", "tpt (steps=2, seed=1)"]
    row = found["tpt (steps=1, 3 seeds)"]
    assert row["a"].accuracy == pytest.approx(63) and row["a"].std == pytest.approx(np.std([60, 62, 67], ddof=1))
    assert row[AVERAGE].accuracy == pytest.approx(56.5)
    assert row[AVERAGE].std == pytest.approx(np.std([55, 56, 58.5], ddof=1))
    assert row["a"].gain is not None and row["a"].gain.mean == pytest.approx(13)
    assert row["a"].marks == () and row["a"].p_value is None


def test_seeds_with_different_images_are_marked(tmp_path: Path) -> None:
    for seed, paths in enumerate((range(10), range(5, 15))):
        rows = answers("a", 50, 60, 10, paths=[str(i) for i in paths])
        rows = [{**row, "content": row["path"]} for row in rows]
        make_run(tmp_path / str(seed), {"a": rows}, seed=seed, settings={"data.limit": 10})
    (row,) = cells(report(tmp_path)).values()
    assert row["a"].gain is not None and row["a"].gain.mean == pytest.approx(10)
    assert any("each seed drew other images" in mark.why for mark in row["a"].marks)


OTHER_TEST_SETS: dict[str, dict[str, Any]] = {
    "more classes": {"about": {"a": {"classes": 3}}},
    "another list": {"about": {"a": {"fingerprint": "1"}}},
    "another picture": {"change": {"content": "f" * 16}},
    "another label": {"change": {"label": 5}},
    "another name": {"change": {"class_name": "dog"}},
}


@pytest.mark.parametrize("what", OTHER_TEST_SETS)
def test_seeds_share_a_row_only_on_the_same_test_set(tmp_path: Path, what: str) -> None:
    """One different image of ten makes a separate row with a marked cell; seeds on the same images share a row."""
    change = OTHER_TEST_SETS[what].get("change", {})
    rows = [{**row, "class_name": "cat"} for row in answers("a", 50, 60, 10)]
    make_run(tmp_path / "0", {"a": rows}, seed=0)
    make_run(tmp_path / "1", {"a": rows}, seed=1)
    make_run(
        tmp_path / "2", {"a": [{**rows[0], **change}, *rows[1:]]}, seed=2, about=OTHER_TEST_SETS[what].get("about")
    )
    (one, first), (two, second) = report(tmp_path).tables[0].rows
    assert [len(row.runs) for row in (one, two)] == [2, 1] and one.label != two.label
    assert first["a"].std is not None and second["a"].std is None and not first["a"].marks
    assert [mark.why.split(" than")[0] for mark in second["a"].marks] == ["other images or classes"]


def test_mean_of_classes_is_shown_with_the_accuracy(tmp_path: Path) -> None:
    """Nine of ten cats and none of two dogs are right: 75 % of the images, 45 % on average over the classes."""
    rows = answers("a", 100, 75, 12)
    classes = [{**row, "label": label} for row, label in zip(rows, [0] * 9 + [1, 1, 0], strict=True)]
    make_run(tmp_path, {"a": classes})
    found = report(tmp_path)
    cell = cells(found)["tpt"]["a"]
    assert cell.accuracy == pytest.approx(75) and cell.class_accuracy == pytest.approx(45)
    text = render(found, "terminal")
    assert any(line.split() == ["mean", "of", "classes", "45.00"] for line in text.splitlines())
    assert "45," in render(found, "csv")
    rows = answers("a", 50, 75, 4)  # with one class, both numbers are the same; one is shown
    make_run(tmp_path / "b", {"a": rows})
    assert "mean of classes" not in render(report(tmp_path / "b"), "terminal")


def test_versions_that_affect_rounding_are_reported(tmp_path: Path) -> None:
    for method, version in (("clip", "11.3.0"), ("tpt", "12.3.0")):
        folder = make_run(tmp_path / method, {"a": answers("a", 50, 75, 4)}, method)
        manifest = json.loads((folder / "run.json").read_text())
        manifest["sessions"][0]["versions"] = {"pillow": version, "torch": "2.9", "hydra-core": version}
        (folder / "run.json").write_text(json.dumps(manifest))
    text = render(report(tmp_path), "terminal", None)
    assert "several versions of pillow" in text and "11.3.0: clip; 12.3.0: tpt" in text
    assert "of torch" not in text and "hydra" not in text
    assert "several versions" not in render(report(tmp_path / "tpt"), "terminal", None)


def test_one_row_may_have_one_run_per_dataset(tmp_path: Path) -> None:
    run_of(tmp_path / "0", {"a": (50, 60)}, settings={"data.root": "/a"})
    run_of(tmp_path / "1", {"b": (50, 70)}, settings={"data.root": "/b"})
    found = cells(report(tmp_path))
    assert list(found) == ["tpt"] and found["tpt"][AVERAGE].accuracy == pytest.approx(65)
    run_of(tmp_path / "2", {"b": (50, 80)})  # b again: separate rows, labelled by directory
    labels = list(cells(report(tmp_path)))
    assert labels == [f"tpt, {tmp_path / '0'}", f"tpt, {tmp_path / '2'}"]


def test_rows_of_clean_and_attacked_images_are_labelled(tmp_path: Path) -> None:
    for number, root in enumerate((None, "/attacked", "/attacked")):
        run_of(tmp_path / str(number), {"a": (50, 60)}, settings={"data.root": root})
    clean, *attacked = cells(report(tmp_path))
    assert clean == "tpt" and attacked == [f"tpt, root=/attacked, {tmp_path / str(number)}" for number in (1, 2)]
    assert list(cells(make_report(load_runs([tmp_path / "0", tmp_path / "1"])))) == ["tpt", "tpt, root=/attacked"]


def test_labels_show_the_settings_that_differ(tmp_path: Path) -> None:
    for number, settings in enumerate(
        ({}, {"method.steps": 2, "views.num_views": 16}, {"method.optimizer.weight_decay": 0.0})
    ):
        run_of(tmp_path / str(number), {"a": (50, 60)}, settings=settings)  # fmt: skip
    run_of(tmp_path / "3", {"a": (50, 50)}, method="clip", settings={"data.limit": 5})
    assert list(cells(report(tmp_path))) == [
        "tpt (steps=1, weight_decay=0.01, num_views=64, limit=None)",
        "tpt (steps=2, weight_decay=0.01, num_views=16, limit=None)",
        "tpt (steps=1, weight_decay=0, num_views=64, limit=None)",
        "clip (limit=5)",
    ]


def test_tables_by_dataset(tmp_path: Path) -> None:
    run_of(tmp_path, {"dtd": (40, 41), "imagenet": (60, 61), "mine": (1, 2), "source_val": (3, 4)}, backbone=RN50)
    found = report(tmp_path)
    assert [table.datasets for table in found.tables] == [SHIFTS, printed_tables()[1][1], ("mine", "source_val")]
    assert found.tables[1].averages.keys() == {AVERAGE}
    assert found.tables[2].averages[OOD_AVERAGE] == ("mine",)


def test_all_views_is_compared_with_table_3(tmp_path: Path) -> None:
    run_of(tmp_path, {"imagenet": (58, 60)}, backbone=RN50, settings={"method.selection_p": 1.0})
    cell = cells(report(tmp_path))["tpt, all views"]["imagenet"]
    assert cell.printed == 60.31 and not any("selection_p" in mark.why for mark in cell.marks)


AUGMIX = {"views._target_": "tpt.Views", "views.augmix._target_": "tpt.AugMix"}
OTHERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("zero", "zero", {"method.gamma": 0.3, **PLAIN_CROPS}, []),
    ("zero", "zero", {"method.gamma": 0.1, **PLAIN_CROPS}, ["gamma=0.1, in the paper 0.3"]),
    ("zero", "zero", {"method.gamma": 0.3, **AUGMIX}, ["AugMix, in the paper plain crops"]),
    ("zero", "zero", {"method.gamma": 0.3, "context.ctx_init": "a", **PLAIN_CROPS},
     ["ctx_init=a, in the paper a photo of a"]),
    ("zero+ensemble", "zero", {"method.gamma": 0.3, "method.templates": "imagenet_7", **PLAIN_CROPS},
     ["templates=imagenet_7, the published row's are not known"]),
    ("ctpt", "ctpt", {"method.penalty_weight": "paper", **AUGMIX}, []),
    ("ctpt", "ctpt", {"method.penalty_weight": 50.0, **AUGMIX}, ["penalty_weight=50.0, in the paper 20.0"]),
    ("ctpt", "ctpt", {"method.penalty_weight": 20.0, **PLAIN_CROPS}, ["views without AugMix, in the paper with it"]),
    ("mta", "mta", {"method.lambda_q": 4.0, "method.lambda_y": 0.2}, []),
]  # fmt: skip


@pytest.mark.parametrize(("method", "option", "settings", "expected"), OTHERS)
def test_other_methods_are_compared_with_published_numbers(
    tmp_path: Path, method: str, option: str, settings: dict[str, Any], expected: list[str]
) -> None:
    """ImageNet-A, ViT-B/16: the published numbers are shown, and settings that differ are marked."""
    about = {"imagenet_a": whole("imagenet_a", size=N, to_test=N)}
    how: dict[str, Any] = {"method": method, "option": option, "settings": settings, "about": about}
    run_of(tmp_path, {"imagenet_a": (48, 55)}, backbone=VIT, **how)
    found = report(tmp_path)
    cell = cells(found)[method]["imagenet_a"]
    assert sorted({mark.why for mark in cell.marks} - {"another test set than the paper's"}) == sorted(expected)
    assert cell.printed is not None and cell.source is not None and cell.source != PAPER
    assert (cell.printed_error is not None) == (method == "ctpt")
    text = render(found, "terminal")
    assert cell.source in text and ("published ECE" in text) == (method == "ctpt")
