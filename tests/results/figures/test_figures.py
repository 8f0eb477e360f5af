"""Figures, read back from their axes."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from tests.results.tables.made_runs import answers, make_run, rows_of, share
from tpt.results.figures import contact_sheet, draw_all, figures_of, save_as
from tpt.results.figures.answers import entropy_figure, reliability, reliability_figure
from tpt.results.figures.heat_map import transfer_figure
from tpt.results.figures.methods import compared, methods_figure
from tpt.results.figures.settings import curves, setting_figure
from tpt.results.figures.style import POINTS, line_style
from tpt.results.tables.pivots import Transfer
from tpt.results.tables.report import Comparison, make_report
from tpt.results.tables.results import binned, calibration_error
from tpt.results.tables.runs import Run, load_runs
from tpt.results.tables.statistics import Interval


def sweep(folder: Path) -> list[Run]:
    """Runs with 1 or 2 steps and 8, 16 or 32 views; accuracy 50 + steps + views / 4, 0.1 seconds per view."""
    for steps in (1, 2):
        for views in (8, 16, 32):
            after = share(50 + steps + views / 4, 400)
            rows = [{**row, "seconds": 0.1 * views} for row in rows_of("a", share(50, 400), after)]
            settings = {"method.steps": steps, "views.num_views": views}
            make_run(folder / f"{steps}_{views}", {"a": rows}, settings=settings)
    return load_runs([folder])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")) if text.get_text()]


def test_curves_of_a_sweep(tmp_path: Path) -> None:
    runs = sweep(tmp_path)
    by_views, by_steps = curves(runs)
    assert (by_views.setting, by_steps.setting) == ("views.num_views", "method.steps")
    assert list(by_views.lines) == ["steps=1", "steps=2"] and len(by_steps.lines) == 3
    points = by_views.lines["steps=2"]
    assert [p.value for p in points] == [8, 16, 32]
    assert [p.accuracy.mean for p in points] == pytest.approx([54, 56, 60])
    assert [p.zero_shot.mean for p in points] == [50, 50, 50]
    assert [p.seconds.mean for p in points] == pytest.approx([0.8, 1.6, 3.2])
    assert all(p.accuracy.low < p.accuracy.mean < p.accuracy.high for p in points)
    figure = setting_figure(by_views)
    accuracy, seconds = figure.axes
    drawn = [container.lines[0].get_ydata() for container in accuracy.containers]
    np.testing.assert_allclose(drawn, [[53, 55, 59], [54, 56, 60]])
    assert seconds.get_xlabel() == "number of views" and "(%)" in accuracy.get_ylabel()
    assert seconds.get_xscale() == "log" and {"steps=1", "steps=2", "zero-shot"} <= set(texts(figure))


def test_curves_use_the_same_images(tmp_path: Path) -> None:
    """If one run is unfinished, all points use only its images."""
    runs = sweep(tmp_path)
    part = answers("a", 50, 51, 400)[:100]
    make_run(tmp_path / "1_64", {"a": part}, settings={"views.num_views": 64}, about={"a": {"to_test": 400}})
    found = curves([*runs, *load_runs([tmp_path / "1_64"])])[0]
    assert {p.accuracy.mean for points in found.lines.values() for p in points} == {100.0}


@pytest.mark.parametrize(
    ("key", "values", "label"),
    [
        ("method.gamma", (0.1, 0.3, 0.5), "share of views that vote"),
        ("method.my_own_weight", (-1.5, 0, 2), "my own weight"),
        ("views.augmix.severity", (0.5, 1.0, 2.0), "severity"),
    ],
)
def test_any_number_that_varies_has_a_figure(tmp_path: Path, key: str, values: tuple[float, ...], label: str) -> None:
    """Also for a method that is not in the register, tunes nothing and selects views."""
    about = {"tunes": False, "selects": True}
    for number, value in enumerate(values):
        rows = {"a": answers("a", 50, 50 + 10 * number, 40)}
        made = {"option": "new", "about_method": about, "settings": {key: value, "method.mode": "x"}}
        make_run(tmp_path / str(number), rows, "new", **made)  # type: ignore[arg-type]
    (found,) = curves(load_runs([tmp_path]))
    assert found.setting == key and [p.value for p in found.lines["new"]] == list(values)
    assert [p.accuracy.mean for p in found.lines["new"]] == [50, 60, 70]
    assert setting_figure(found).axes[1].get_xlabel() == label


@pytest.mark.parametrize("key", ["seed", "views.seed", "data.limit", "data.num_workers", "cache.max_gb", "method.name"])
def test_other_settings_have_no_figure(tmp_path: Path, key: str) -> None:
    for value in (1, 2):
        value_ = f"name{value}" if key.endswith("name") else value
        make_run(tmp_path / str(value), {"a": answers("a", 50, 50, 4)}, settings={key: value_})
    assert curves(load_runs([tmp_path])) == curves(load_runs([tmp_path / "1"])) == []


def test_entropies(tmp_path: Path) -> None:
    before, after = share(50, 20), share(50, 20)
    after[[2, 12, 13]] = [False, True, True]
    make_run(tmp_path, {"a": rows_of("a", before, after), "b": rows_of("b", before, before)})
    (run,) = load_runs([tmp_path])
    figure = entropy_figure(run)
    first, second = figure.axes
    by_label = {line.get_label(): line.get_xydata() for line in first.lines}
    assert [len(by_label[label]) for label in ("unchanged", "became right", "became wrong")] == [17, 2, 1]
    row = run.records.to_pylist()[2]
    np.testing.assert_allclose(by_label["became wrong"], [[row["entropy_zero_shot"], row["entropy"]]], rtol=1e-6)
    assert [first.get_title(), second.get_title()] == ["a", "b"]
    assert any("nats" in text for text in texts(figure))


def test_many_entropies_are_a_histogram(tmp_path: Path) -> None:
    make_run(tmp_path, {"a": answers("a", 50, 50, 3500)})
    (axes,) = entropy_figure(load_runs([tmp_path])[0]).axes
    assert len(axes.collections) == 1


def test_reliability_has_the_bins_of_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    confidence[:3] = 1.0
    right = rng.random(500) < confidence**2
    bins = reliability(confidence, right)
    assert sum(b.images for b in bins) == 500 and all(
        b.accuracy.low <= b.accuracy.mean <= b.accuracy.high for b in bins
    )
    error = sum(b.images * abs(b.accuracy.mean - b.confidence) for b in bins) / 500
    assert error == pytest.approx(100 * calibration_error(binned(confidence, right)))


def test_reliability_figure(tmp_path: Path) -> None:
    make_run(tmp_path, {"a": answers("a", 50, 70, 100)})
    (run,) = load_runs([tmp_path])
    figure = reliability_figure(run)
    about = run.results["datasets"]["a"]
    said = f"a\nECE {about['ece_zero_shot']:.1f} → {about['ece']:.1f} %"
    assert {said, "before", "after", "confidence (%), 5 bins"} <= set(texts(figure))
    drawn = figure.axes[0].containers[1].lines[0].get_xydata()
    right = run.records["pred"].to_numpy() == run.records["label"].to_numpy()
    bins = reliability(run.records["confidence"].to_numpy().astype(float), right, 5)
    np.testing.assert_allclose(drawn, [[b.confidence, b.accuracy.mean] for b in bins])


def test_heat_map() -> None:
    cell = Comparison(33.41, 61.75, Interval(-28.34, -30, -26), None, 2463, 0)
    figure = transfer_figure(
        Transfer("coop", "RN50", ("dtd", "eurosat"), ("flowers102", "dtd"), {("dtd", "flowers102"): cell})
    )
    shown = np.ma.asarray(figure.axes[0].images[0].get_array())
    assert shown.mask.tolist() == [[False, True], [True, True]] and shown[0, 0] == pytest.approx(-0.459, abs=1e-3)
    assert {"-0.46", "tested on", "learned on", "relative improvement"} <= set(texts(figure))


def test_unknown_sources_of_contexts_do_not_stop_other_figures(tmp_path: Path) -> None:
    for method in ("clip", "coop", "tpt"):
        make_run(tmp_path / method, {"a": answers("a", 50, 50, 4)}, method)
    names = [name for name, _ in figures_of(load_runs([tmp_path]))]
    assert names == ["methods", "entropy_tpt", "reliability_tpt", "risk_tpt"]


def test_contact_sheet() -> None:
    views = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((10, 4, 4, 3), np.uint8)
    order = [3, 0, 9, 1, 2, 4, 5, 6, 7, 8]
    values = [0.1 * k for k in range(10)]
    figure = contact_sheet(views, order, [3, 0], ["a line"], values, "entropy (nats)")
    panels = [axes for axes in figure.axes if axes.images]
    assert [int(np.asarray(axes.images[0].get_array())[0, 0, 0]) for axes in panels] == order
    framed = [axes for axes in panels if any(isinstance(p, Rectangle) for p in axes.patches)]
    assert framed == panels[:2]
    assert [axes.get_title() for axes in panels[:3]] == ["#3  0.30", "image  0.00", "#9  0.90"]
    assert any(text.startswith("a line\n2 of 10 views selected (framed)") for text in texts(figure))


def test_files(tmp_path: Path) -> None:
    """All figures as PNG and SVG; the same figure gives the same file; no text is smaller than 8 points."""
    runs = sweep(tmp_path / "runs")
    paths = list(draw_all(runs[:1], tmp_path / "figures"))
    assert {path.suffix for path in paths} == {".png", ".svg"} and len(set(paths)) == len(paths) == 4 * 2
    assert all(path.stat().st_size > 2000 for path in paths)
    figure = setting_figure(curves(runs)[0])
    assert all(text.get_fontsize() >= POINTS for text in figure.findobj(lambda a: hasattr(a, "get_fontsize")))
    first, second = (save_as(setting_figure(curves(runs)[0]), tmp_path / f"{n}.svg").read_bytes() for n in "ab")
    assert first == second and b"number of views" in first
    with pytest.raises(ValueError, match="Expected a file that ends in .png, .svg, .pdf"):
        save_as(figure, tmp_path / "a.gif")


def test_lines_differ_in_more_than_colour() -> None:
    looks = [tuple(line_style(n).values()) for n in range(40)]
    assert len(set(looks)) == 40
    assert len({look[1:] for look in looks[:7]}) == 7


def test_figure_of_methods(tmp_path: Path) -> None:
    """Every row shows gain, seconds and ECE next to its name; zero-shot has a gain of 0."""
    gains = {"zero_shot": 0, "view_ensemble": 4, "tpt": 8}
    for number, (method, gain) in enumerate(gains.items()):
        rows = [{**row, "seconds": 10.0**-number} for row in answers("a", 50, 50 + gain, 400)]
        about = {"tunes": method == "tpt", "selects": method != "zero_shot"}
        make_run(tmp_path / method, {"a": rows}, method=method, about_method=about)
    (table,) = make_report(load_runs([tmp_path])).tables
    found = compared(table)
    seconds = {each.row.label: each.seconds for each in found}
    assert seconds == pytest.approx({"zero_shot": 1.0, "view_ensemble": 0.1, "tpt": 0.01})
    figure = methods_figure(found)
    gain, time, ece = figure.axes
    names = [text.get_text() for text in gain.get_yticklabels()]
    assert names == [each.row.label for each in found]
    for axes, values in ((gain, gains), (time, seconds), (ece, {each.row.label: each.ece for each in found})):
        points = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert {names[int(y)]: x for x, y in points} == pytest.approx(values)
    assert [text.get_text() for text in ece.texts] == [f"{each.ece:.1f}" for each in found]
    assert "methods" in dict(figures_of(load_runs([tmp_path])))
    assert "gain over zero-shot (points)\non a" in texts(figure)
    assert [each.ece for each in found] == [cells["a"].ece for _, cells in table.rows]  # the table's definition


def test_thirteen_methods_are_readable(tmp_path: Path) -> None:
    """Texts do not overlap; an unfinished row is marked in its name and explained below the figure."""
    for number in range(13):
        rows = answers("a", 50, 50 + number, 400, seed=number)
        rows = [{**row, "seconds": 0.02 * 1.3**number} for row in rows]
        done = rows[:300] if number == 5 else rows
        made = {"method": f"a_method_of_mine_{number}", "about_method": {"tunes": True, "selects": True}}
        make_run(tmp_path / f"{number:02d}", {"a": done}, about={"a": {"size": 400, "to_test": 400}}, **made)  # type: ignore[arg-type]
    figure = dict(figures_of(load_runs([tmp_path]), kinds=["methods"]))["methods"]
    figure.draw_without_rendering()
    (remark,) = figure.legends
    shown = [*remark.findobj(Text)]
    for axes in figure.axes:
        shown += axes.texts
        for axis in (axes.xaxis, *([axes.yaxis] if axes is figure.axes[0] else [])):
            low, high = sorted(axis.get_view_interval())
            shown += [axis.label, *(tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)]
    boxes = [text.get_window_extent() for text in shown if text.get_text().strip()]
    over = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b) and a.bounds != b.bounds]
    assert len(boxes) > 26 and not over
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == 13 and [n for n, name in enumerate(names) if "(unfinished)" in name] == [5]
    assert "unfinished: a_method_of_mine_5 a 300 of 400" in remark.get_title().get_text()


def test_the_time_of_the_method_alone(tmp_path: Path) -> None:
    for number, method in enumerate(("zero_shot", "tpt")):
        rows = [{**row, "seconds": 1.0, "method_seconds": 0.1 * (number + 1)} for row in answers("a", 50, 50, 8)]
        make_run(tmp_path / str(number), {"a": rows}, method)
    (table,) = make_report(load_runs([tmp_path])).tables
    found = compared(table)
    assert [each.seconds for each in found] == pytest.approx([0.1, 0.2]) and not any(each.encodes for each in found)
    assert "seconds per image,\nof the method alone" in texts(methods_figure(found))


def test_figures_without_content_are_not_drawn(tmp_path: Path) -> None:
    """No answer and no entropy changed."""
    rows = [{**row, "entropy": row["entropy_zero_shot"]} for row in answers("a", 50, 50, 8)]
    make_run(tmp_path, {"a": rows})
    assert [name for name, _ in figures_of(load_runs([tmp_path]))] == ["reliability_tpt", "risk_tpt"]
