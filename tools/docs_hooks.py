"""Hooks of mkdocs.yml: adds pages whose text is outside docs/, and the notebook as a page."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# A file in the repository -> its page.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/plain.py": "plain.md",
    "src/tpt/data/emoji_shift/README.md": "emoji_shift.md",
    "src/tpt/clip/emoji_mini/README.md": "emoji_mini.md",
    "docs/first_look.ipynb": "first_look.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
OUTPUT_LINES = 40  # maximum per cell


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for source, page in PAGES.items():
        path = ROOT / source
        text = path.read_text()
        if path.suffix == ".ipynb":
            text = from_notebook(json.loads(text))
        elif path.suffix == ".py":
            text = f"# The plain algorithm\n\n`{source}`, whole:\n\n```python\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links to files in the repository into links to their pages."""
    here = next((s for s, p in PAGES.items() if p == page.file.src_uri), f"docs/{page.file.src_uri}")

    def to_page(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), link[2]))
        found = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if ":" in link[2] or found is None:
            return link[0]
        return (
            f"{link[1]}{posixpath.relpath(found, posixpath.dirname(page.file.src_uri) or '.')}{link[3] or ''}{link[4]}"
        )

    return LINK.sub(to_page, markdown)


def from_notebook(notebook: dict[str, Any]) -> str:
    """Returns the cells of a notebook and their outputs as Markdown."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell))


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).strip()})")
        elif text := "".join(output.get("text") or data.get("text/plain", "")):
            parts.append("```text\n" + "\n".join(text.splitlines()[:OUTPUT_LINES]) + "\n```")
    return parts
