"""The page in a real browser, Debian's Chromium, against the real program: `pytest -m browser`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tpt
from tests.conftest import noise_image
from tpt.cli.demo.examples import DRAWINGS, first_names
from tpt.data.emoji_shift import class_names, emoji_shift

pytestmark = pytest.mark.browser
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The program in a process of its own; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tpt.cli.programs.demo", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None
    yield found[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """A fresh page, which must ask nothing of any other place and have no error."""
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server)
    page.wait_for_selector("button:has-text('Look')")
    yield page
    outside = [url for url in asked if not url.startswith((server, "data:", "blob:"))]
    page.close()
    assert outside == [] and errors == []


def choose(page: Any, drawing: int) -> None:
    page.locator("button.gallery-item").nth(drawing).click()
    page.wait_for_selector(".image-frame img")  # it is there only when the page has heard of the click


def look(page: Any) -> None:
    page.click("button:has-text('Look')")
    page.wait_for_selector(".tpt-views figure")


def test_a_bundled_drawing(page: Any, tmp_path: Path) -> None:
    """The page shows the views, the selection and the answers that `tpt.predict` gives."""
    choose(page, 0)
    look(page)
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
    assert re.search(r"in all \d+\.\d\d s", page.locator(".tpt-cost").inner_text())


def test_a_picture_of_ones_own_and_other_names(page: Any, tmp_path: Path) -> None:
    noise_image(3, (90, 70)).save(tmp_path / "own.jpg")
    page.get_by_label("Class names").fill("cat, <b>dog</b>, hot air balloon")
    page.set_input_files("input[type=file]", str(tmp_path / "own.jpg"))
    look(page)
    rows = page.locator(".tpt-bars td.name").all_inner_texts()
    assert sorted(rows) == ["<b>dog</b>", "cat", "hot air balloon"]


def test_another_method(page: Any) -> None:
    choose(page, 1)
    page.get_by_role("combobox", name="Method").click()
    page.get_by_role("option", name="zero_shot", exact=True).click()
    look(page)
    assert page.locator(".tpt-views figure").count() == 1
    assert "the same answer" in page.locator(".tpt-card.after").inner_text()


def test_a_mistake_is_said_in_its_own_words(page: Any) -> None:
    page.click("button:has-text('Look')")
    page.wait_for_selector("text=Expected a picture, got none")
    choose(page, 0)
    page.get_by_label("Class names").fill("cat")
    page.click("button:has-text('Look')")
    page.wait_for_selector("text=Expected at least two class names")


def test_it_listens_on_this_machine_alone(server: str) -> None:
    port = int(server.rsplit(":", 1)[1])
    with urllib.request.urlopen(server) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    request = urllib.request.Request(server, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    for address in found:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
            pass


def test_a_port_that_is_taken(server: str) -> None:
    port = server.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "tpt.cli.programs.demo", "--port", port],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 1 and f"Expected port {port} to be free" in done.stderr and done.stderr.count("\n") == 1
