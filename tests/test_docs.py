"""The documentation builds without warnings, and its notebook runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import tpt
from tests.conftest import ROOT

docs = pytest.mark.docs
HEADING = re.findall("^## (.+)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)[0]
OUTSIDE = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'> ]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a broken link or a page without a menu entry fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@docs
def test_every_public_name_is_documented(site: Path) -> None:
    pages = "".join(page.read_text("utf-8") for page in (site / "api").rglob("index.html"))
    headings = set(re.findall(r'<h\d id="(tpt\.[\w.]+)"', pages))
    missing = [
        name
        for name in tpt.__all__
        if not name.startswith("__") and not any(heading.endswith(f".{name}") for heading in headings)
    ]
    assert not missing


@docs
def test_pages_load_nothing_from_outside(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    assert {str(page): found for page in pages if (found := OUTSIDE.findall(page.read_text("utf-8")))} == {}


@docs
def test_readme_and_notebook_are_pages(site: Path) -> None:
    assert HEADING in (site / "index.html").read_text("utf-8")
    look = (site / "first_look" / "index.html").read_text("utf-8")
    assert look.count("data:image/png;base64,") == 2 and "tiger" in look


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder over HTTP on this machine, and yields its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def opened(browser: Any, address: str) -> tuple[str, set[str]]:
    """Opens a page in Chromium; returns its content and the hosts that it sent requests to."""
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    content = page.content()
    page.close()
    return content, {str(urlsplit(url).hostname) for url in asked if not url.startswith("data:")}


@pytest.mark.browser
@pytest.mark.parametrize(("page", "text"), [("", HEADING), ("api/methods/", "(B, V, E)"), ("first_look/", "img")])
def test_pages_load_in_a_browser(site: Path, browser: Any, page: str, text: str) -> None:
    """Pages are complete, their scripts ran, and they send no request to another host."""
    with served(site) as address:
        content, asked = opened(browser, f"{address}/{page}")
    assert text in content and '<html lang="en" class="js' in content
    assert asked == {"127.0.0.1"}


@pytest.mark.browser
def test_requests_to_other_hosts_are_seen(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "index.html").write_text('<html><script src="https://elsewhere.invalid/x.js"></script></html>')
    with served(tmp_path) as address:
        assert opened(browser, address)[1] == {"127.0.0.1", "elsewhere.invalid"}


@docs
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Running the notebook in an empty folder prints its stored numbers."""
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    kept, notebook = (nbformat.read(ROOT / "docs" / "first_look.ipynb", 4) for _ in range(2))
    settings = {"cwd": str(tmp_path), "env": {**os.environ, "TPT_CACHE": str(tmp_path / "cache")}}
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute(**settings)
    for before, after in zip(kept.cells, notebook.cells, strict=True):
        assert _told(after) == _told(before), before.source


def _told(cell: Any) -> list[str]:
    """Returns the lines that a cell printed, with numbers cut to one decimal, without timings, paths and rules."""
    text = "".join(output["text"] for output in cell.get("outputs", []) if output.get("name") == "stdout")
    lines = [re.sub(r"\s+[\d.]+$", "", line) for line in text.splitlines() if "/" not in line and "─" not in line]
    return [re.sub(r"(\d+\.\d)\d+", r"\1", line) for line in lines]
