"""The page in a real browser, Debian's Chromium, served by the real program: `pytest -m browser`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tpt
from tests.conftest import noise_image
from tpt.cli.demo.app import DRAWINGS, first_names
from tpt.data.bundled import class_names, emoji_shift

pytestmark = pytest.mark.browser
PATIENCE_MS = 120_000


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """A fresh page; checks at the end that it sent no request to another site and had no error."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server)
    page.wait_for_selector("button:has-text('Classify')")
    yield page
    outside = [url for url in asked if not url.startswith((server, "data:", "blob:"))]
    page.close()
    assert outside == [] and errors == []


def choose(page: Any, drawing: int) -> None:
    """Clicks an example, which is classified immediately."""
    page.locator("button.gallery-item").nth(drawing).click()
    page.wait_for_selector(".tpt-views figure")


def look(page: Any) -> None:
    page.get_by_role("button", name="Classify", exact=True).click()


def choose_method(page: Any, method: str) -> None:
    page.get_by_role("combobox", name="Method").click()
    page.get_by_role("option", name=method, exact=True).click()


def test_a_bundled_drawing_gets_the_answers_of_predict(page: Any, tmp_path: Path) -> None:
    """The page shows the views, the selection and the answers that `tpt.predict` gives."""
    choose(page, 0)
    domain, name = DRAWINGS[0]
    dataset = emoji_shift(domain)
    index = next(i for i, sample in enumerate(dataset.samples) if sample.label == class_names().index(name))
    (tmp_path / "a.png").write_bytes(dataset.content(index))
    (expected,) = tpt.predict(tmp_path / "a.png", first_names())
    before, after = (card.inner_text() for card in page.locator(".tpt-card .what").all())
    assert (before, after) == (expected.answer_before, expected.answer) == ("crayon", "fountain pen")
    assert f"{100 * float(expected.probability or 0):.1f} %" in page.locator(".tpt-card.after").inner_text()
    assert page.locator(".tpt-views figure").count() == 64
    framed = page.locator(".tpt-views figure.selected")
    assert [img.get_attribute("title") for img in framed.locator("img").all()] == [
        "the picture" if view == 0 else f"view {view}" for view in expected.selected
    ]
    values = [float(text.split()[0]) for text in page.locator(".tpt-views figure").all_inner_texts()]
    assert values == sorted(values)
    assert framed.first.locator("img").evaluate("img => getComputedStyle(img).outlineWidth") == "4px"
    assert framed.first.locator("img").evaluate("img => img.naturalWidth") > 0
    assert re.search(r"total \d+\.\d\d s", page.locator(".tpt-cost").inner_text())


def test_an_uploaded_picture_with_other_class_names(page: Any, tmp_path: Path) -> None:
    noise_image(3, (90, 70)).save(tmp_path / "own.jpg")
    page.get_by_label("Class names").fill("cat, <b>dog</b>, ${1+1} {{2+2}}, hot air balloon")
    page.set_input_files("input[type=file]", str(tmp_path / "own.jpg"))
    page.wait_for_selector(".tpt-views figure")
    rows = page.locator(".tpt-bars td.name").all_inner_texts()
    assert sorted(rows) == ["${1+1} {{2+2}}", "<b>dog</b>", "cat", "hot air balloon"]


def test_each_method_shows_its_own_settings(page: Any) -> None:
    """Each method has a description with a link, and widgets for its own settings with its own defaults."""
    choose(page, 1)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Steps").fill("3")
    choose_method(page, "zero_shot")
    page.get_by_label("Prompts").wait_for()
    assert page.get_by_label("Steps").count() == page.get_by_label("Learning rate").count() == 0
    assert page.locator(".tpt-about a").get_attribute("href") == "https://arxiv.org/abs/2103.00020"
    look(page)
    page.wait_for_selector(".tpt-card.after:has-text('after zero_shot')")
    assert page.locator(".tpt-views figure").count() == 1
    assert "the same answer" in page.locator(".tpt-card.after").inner_text()
    choose_method(page, "tpt")
    page.get_by_label("Steps").wait_for()
    assert page.get_by_label("Steps").input_value() == "1"
    page.get_by_label("Selected").fill("0.5")
    look(page)
    page.wait_for_selector("text=32 of 64 views selected")


def test_the_answer_is_visible_without_scrolling(page: Any) -> None:
    """The picture, the button and the answer are visible without scrolling."""
    choose(page, 2)
    look(page)
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") == 0
    for place in (".image-frame img", "button:has-text('Classify')", ".tpt-card.after", ".tpt-bars", ".tpt-cost"):
        box = page.locator(place).last.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 900, place


def test_a_mistake_is_shown_in_place_of_the_answer(page: Any, tmp_path: Path) -> None:
    look(page)
    page.wait_for_selector(".tpt-problem:has-text('No picture yet')")
    choose(page, 0)
    page.get_by_label("Class names").fill("cat")
    look(page)
    page.wait_for_selector(".tpt-problem:has-text('Expected at least two class names')")
    assert page.locator(".tpt-card, .tpt-views figure").count() == 0
    page.get_by_label("Class names").fill("cat, dog")
    choose(page, 1)
    page.get_by_role("button", name="Remove Image").click()
    page.wait_for_selector(".tpt-empty")
    assert page.locator(".tpt-card, .tpt-views figure").count() == 0
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.set_input_files("input[type=file]", str(tmp_path / "broken.png"))
    page.wait_for_selector(".tpt-problem:has-text('Cannot decode the image broken.png')")


@pytest.mark.parametrize("width", [1400, 600])
def test_a_mistake_scrolls_into_view(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    choose(page, 0)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Class names").fill("cat")
    page.mouse.wheel(0, 3000)
    look(page)
    page.wait_for_selector(".tpt-problem:has-text('choose from in Class names, got 1')")
    page.wait_for_timeout(1000)
    box = page.locator(".tpt-problem").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900
