"""Results and confusions per class."""

from pathlib import Path

import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.cli.programs.report import main
from tpt.results.figures import figures_of
from tpt.results.figures.confusion import confusion_figure
from tpt.results.tables.classes import Confusion, class_grids, class_results, confusions
from tpt.results.tables.runs import Run, load_run

NAMES = ("cat", "dog", "tram")
# class, answer before, answer after, number of images
ANSWERS = [(0, 0, 0, 5), (0, 1, 0, 3), (0, 1, 2, 1), (0, 0, 2, 1), (1, 1, 1, 4), (1, 1, 0, 2), (2, 2, 2, 3)]


def run_of(folder: Path) -> Run:
    rows = []
    for label, before, after, images in ANSWERS:
        for row in answers("a", 100, 100, images):
            names = {"class_name": NAMES[label], "pred_name": NAMES[after], "pred_name_zero_shot": NAMES[before]}
            given = {"label": label, "pred": after, "pred_zero_shot": before}
            ranks = {"rank": int(after != label), "rank_zero_shot": int(before != label)}
            number = {"index": len(rows), "path": f"{len(rows)}.png"}
            rows.append({**row, **names, **given, **ranks, **number})
    make_run(folder, {"a": rows}, about={"a": {"classes": 3}})
    return load_run(folder)


def test_classes_by_hand(tmp_path: Path) -> None:
    found = {c.name: c for c in class_results(run_of(tmp_path), "a")}
    counts = [(c.name, c.images, c.before, c.after) for c in found.values()]
    assert counts == [("dog", 6, 6, 4), ("cat", 10, 6, 8), ("tram", 3, 3, 3)]
    cat = found["cat"].gain
    assert (cat.won, cat.lost, cat.points) == (3, 1, 20.0) and cat.low < 20 < cat.high


def test_confusions_by_hand(tmp_path: Path) -> None:
    """Cats classified as dog: four before, none after; as tram: none before, two after."""
    assert confusions(run_of(tmp_path), "a") == [
        Confusion("cat", "dog", before=4, after=0, made=0, corrected=4),
        Confusion("cat", "tram", before=0, after=2, made=2, corrected=0),
        Confusion("dog", "cat", before=0, after=2, made=2, corrected=0),
    ]


def test_tables_and_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path)
    (classes, pairs), _ = class_grids([run], most=2)
    assert [line.label for line in classes.lines] == ["dog", "cat"] and "2 of 3 that changed most" in classes.caption
    assert [text.text for text in pairs.lines[0].cells] == ["4", "0", "0", "4"]
    main([str(tmp_path), "--per-class"])
    said = capsys.readouterr().out
    assert "Classes of a, tpt" in said and "Confusions of a, tpt" in said
    assert any(line.split()[:4] == ["cat", "dog", "4", "0"] for line in said.splitlines())
    main([str(tmp_path), "--per-class", "--format", "csv"])
    assert "dog,6,100.0,66.7," in capsys.readouterr().out


def test_runs_without_names_or_labels(tmp_path: Path) -> None:
    """Old runs without class names show class numbers; runs without labels are refused."""
    make_run(tmp_path / "old", {"a": answers("a", 50, 75, 4)})
    assert [c.name for c in class_results(load_run(tmp_path / "old"), "a")] == ["0"]
    unknown = dict.fromkeys(("label", "rank", "rank_zero_shot"))
    rows = [{**row, **unknown} for row in answers("a", 50, 75, 4)]
    make_run(tmp_path / "new", {"a": rows})
    with pytest.raises(ValueError, match="no answers for images with labels"):
        class_grids([load_run(tmp_path / "new")])


def test_the_figure_of_confusions(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    (axes,) = confusion_figure(run).axes
    widths = [[bar.get_width() for bar in container] for container in axes.containers]  # type: ignore[attr-defined]
    assert widths == [[-4, 0, 0], [0, 2, 2]]
    assert axes.get_yticklabels()[0].get_text() == "cat predicted as dog"
    assert "confusions_tpt" in dict(figures_of([run]))
    make_run(tmp_path / "same", {"a": answers("a", 50, 50, 4)})
    assert confusion_figure(load_run(tmp_path / "same")) is None
