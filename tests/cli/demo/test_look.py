"""What the page shows for a picture, tested without a server."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tpt
from tests.conftest import noise_image
from tpt.cli.compose import method_class
from tpt.cli.demo.app import DRAWINGS, first_names, write_drawings
from tpt.cli.demo.look import KEPT, Look, Looker
from tpt.cli.demo.page import TOP, answers_html, shown_classes, views_html
from tpt.cli.options import options
from tpt.cli.programs import demo
from tpt.data.bundled import class_names
from tpt.engine.contact_sheet import PictureViews
from tpt.errors import UserError

CLASSES = ["cat", "hot air balloon", "T-shirt"]
VALUES = {"method.selection_p": 0.3, "method.lr": 0.05}
SETTINGS = [f"{key}={value}" for key, value in VALUES.items()]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    noise_image(5).save(path)
    return path


@pytest.fixture
def look(clip: tpt.CLIP, picture: Path) -> Look:
    return Looker(clip)(picture, CLASSES, "tpt", 10, VALUES)


def test_the_answer_equals_predict(look: Look, clip: tpt.CLIP, picture: Path) -> None:
    (found,) = tpt.predict(picture, CLASSES, backbone=clip, num_views=10, settings=SETTINGS)
    assert look.views.selected == list(found.selected)
    assert [CLASSES[k] for k in np.argsort(-look.after)] == [name for name, _ in found.top]
    assert np.allclose(np.sort(look.after)[::-1], [p for _, p in found.top], atol=1e-6)
    assert float(look.before.max()) == pytest.approx(found.probability_before, abs=1e-6)


def test_views_are_sorted_by_entropy_selected_first(look: Look) -> None:
    views = look.views
    assert sorted(views.order) == list(range(10)) and views.pixels.shape[0] == 10 and views.pixels.dtype == np.uint8
    assert views.order[: len(views.selected)] == views.selected and len(views.selected) == 3
    values = [look.views.values[view] for view in look.views.order]
    assert values == sorted(values) and look.views.value_name == "entropy (nats)"
    assert set(look.seconds) == {"class names", "views", "image encoder", "adaptation"}


def test_a_stream_method_restarts_for_each_picture(clip: tpt.CLIP, picture: Path) -> None:
    looker = Looker(clip)
    first, again = (looker(picture, CLASSES, "tda", 10, {}) for _ in range(2))
    assert np.array_equal(first.after, again.after)


def test_methods_are_cached_for_repeated_questions(clip: tpt.CLIP, picture: Path) -> None:
    looker = Looker(clip)
    first = looker(picture, CLASSES, "tpt", 10, VALUES)
    again = looker(picture, CLASSES, "tpt", 10, VALUES)
    assert np.array_equal(first.after, again.after) and again.seconds["class names"] < first.seconds["class names"]
    for number in range(KEPT + 2):
        looker(picture, [*CLASSES, str(number)], "zero_shot", 1, {})
    assert looker._method.cache_info().currsize == KEPT


QUICK = ("tpt", "zero_shot", "mta", "tps", "awt")  # one of each kind


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(m, marks=() if m in QUICK else pytest.mark.slow)
        for m in options("method")
        if m not in ("rlcf", "use")
    ],
)
def test_every_method_can_be_shown(method: str, clip: tpt.CLIP, picture: Path) -> None:
    """Leaves out `rlcf` and `use`, whose second CLIP needs weights from a hub."""
    values = {"method.min_selected": 1} if method in ("tpt", "ctpt", "otpt", "atpt") else {}
    look = Looker(clip)(picture, CLASSES, method, 32, values)
    assert look.after.sum() == pytest.approx(1, abs=1e-5) and set(look.views.selected) <= set(look.views.order)
    assert views_html(look).count("<figure") == len(look.views.order)
    assert len(look.views.order) == (32 if method_class(method).selects else 1)


def test_class_names_are_escaped(look: Look) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    html = answers_html(replace(look, class_names=[hostile, "b", "c"])) + views_html(look)
    assert "<script" not in html and "&lt;script&gt;" in html


def test_the_page_shows_the_computed_numbers(look: Look) -> None:
    html = answers_html(look)
    shown = [float(n) for n in re.findall(r'class="number">([\d.]+) %', html)]
    expected = [100 * p[k] for k in shown_classes(look) for p in (look.before, look.after)]
    assert shown == pytest.approx(expected, abs=0.05)
    assert f"{sum(look.seconds.values()):.2f} s" in html
    unchanged = re.findall('class="change">(.*?)<', answers_html(replace(look, after=look.before)))
    assert unchanged and {*unchanged} == {"0.0"}
    frames = views_html(look)
    assert frames.count('<figure class="selected"') == 3 and "3 of 10 views selected" in frames


def test_the_most_probable_classes_before_and_after_are_shown() -> None:
    before, after = np.linspace(0.2, 0, 20), np.linspace(0, 0.2, 20)
    views = PictureViews(np.zeros((1, 2, 2, 3), np.uint8), [0], [0.0], "x", [0])
    look = Look([str(k) for k in range(20)], views, before, after)
    assert shown_classes(look) == [*range(19, 19 - TOP, -1), *range(TOP - 1, -1, -1)]


def test_the_bundled_drawings_and_initial_class_names(tmp_path: Path) -> None:
    paths = write_drawings(tmp_path / "new")
    assert len(paths) == len(DRAWINGS) == len({path.name for path in paths})
    assert {name for _, name in DRAWINGS} <= set(first_names()) <= set(class_names())


def test_mistakes(clip: tpt.CLIP, picture: Path, tmp_path: Path) -> None:
    looker = Looker(clip)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="Cannot decode the image"):
        looker(tmp_path / "no.png", CLASSES, "zero_shot", 1, {})
    with pytest.raises(UserError, match=r"Expected a setting that exists, got 'method\.nothing'"):
        looker(picture, CLASSES, "tpt", 10, {"method.nothing": 1})


@pytest.mark.parametrize("port", ["-1", "65536", "99999999"])
def test_a_wrong_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.main(["--port", port])
    assert stop.value.code == 2
    assert f"--port: expected it to be a whole number from 0 to 65535, got '{port}'" in capsys.readouterr().err
