"""The documentation's site, built strictly, and its notebook, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tpt
from tests.conftest import ROOT

docs, browser = pytest.mark.docs, pytest.mark.browser
OUTSIDE = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'> ]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; a link that leads nowhere, or a page that no menu has, ends its making."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@docs
def test_everything_public_is_described(site: Path) -> None:
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
    assert "Two commands" in (site / "index.html").read_text("utf-8")
    look = (site / "first_look" / "index.html").read_text("utf-8")
    assert look.count("data:image/png;base64,") == 2 and "confetti ball" in look


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The site's address on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@browser
@pytest.mark.parametrize(
    ("page", "text"), [("", "Two commands"), ("api/methods/", "Adaptation"), ("first_look/", "img")]
)
def test_pages_in_a_browser_that_knows_no_other_host(served: str, page: str, text: str, tmp_path: Path) -> None:
    """They are whole, their scripts ran, and the browser has nothing to complain of."""
    chromium = shutil.which("chromium") or pytest.skip("Chromium is not installed")
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    settings = [*quiet, f"--user-data-dir={tmp_path}", alone, "--enable-logging=stderr", "--virtual-time-budget=5000"]
    command = [chromium, *settings, "--dump-dom", f"{served}/{page}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert text in done.stdout and "md-search__input" in done.stdout
    assert '<html lang="en" class="js' in done.stdout  # the theme's script ran
    assert "CONSOLE" not in done.stderr, done.stderr


@docs
def test_the_notebook_runs(tmp_path: Path) -> None:
    """From a folder of its own, and with the numbers that are kept in it."""
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    kept, notebook = (nbformat.read(ROOT / "docs" / "first_look.ipynb", 4) for _ in range(2))
    settings = {"cwd": str(tmp_path), "env": {**os.environ, "TPT_CACHE": str(tmp_path / "cache")}}
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute(**settings)
    for before, after in zip(kept.cells, notebook.cells, strict=True):
        texts = [[o["text"] for o in cell.get("outputs", []) if o.get("name") == "stdout"] for cell in (before, after)]
        assert [_told(text) for text in texts[1]] == [_told(text) for text in texts[0]], before.source


def _told(text: str) -> list[str]:
    """Words, and numbers to one digit less than printed; neither paths nor rates, which are the machine's."""
    lines = [re.sub(r"\s+[\d.]+$", "", line) for line in text.splitlines() if "/" not in line]
    return [re.sub(r"(\d+\.\d)\d+", r"\1", line) for line in lines]
