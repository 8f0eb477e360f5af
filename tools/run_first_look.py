"""Runs docs/first_look.ipynb and saves its outputs, without the run times of its cells."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).parents[1] / "docs" / "first_look.ipynb"


def main() -> None:
    notebook = nbformat.read(PATH, 4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
    nbformat.write(notebook, PATH)


if __name__ == "__main__":
    main()
