"""A static site of results: tables, figures, settings and one page per dataset, without a server or scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tpt.files import file_name, write_text
from tpt.results.figures.drawing import draw_all
from tpt.results.tables.classes import MOST, class_grids
from tpt.results.tables.formats import html_page, html_tables, in_html
from tpt.results.tables.grid import Grid, Legend, Line, Text, grids
from tpt.results.tables.published import to_bibtex
from tpt.results.tables.report import Report
from tpt.results.tables.rows import coverage_remark, rows_of
from tpt.results.tables.runs import Run

FIGURES = "figures"


def write_site(
    report: Report, runs: Sequence[Run], folder: Path, learned_on: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Writes the pages, which any web server can serve as files, and yields their paths; older pages are replaced."""
    pictures = [path for path in draw_all(runs, folder / FIGURES, learned_on) if path.suffix == ".png"]
    names = list(dict.fromkeys(name for run in runs for name in run.results["datasets"]))
    pages = {f"{number}_{file_name(name)}.html": name for number, name in enumerate(names, 1)}
    links = [f"<li>{_link(page, name)}</li>" for page, name in pages.items()]
    body = ["<h1>Results</h1>", *html_tables(*grids(report)), "<h2>Datasets</h2><ul>", *links, "</ul>"]
    body += ["<h2>Figures</h2>", *map(_figure, pictures)]
    body += ["<h2>More</h2>", f"<p>{_link('settings.html', 'All settings')}</p>", "<h2>Papers</h2>"]
    body += ["<pre>" + "\n".join(map(in_html, to_bibtex(runs).splitlines())) + "</pre>"]
    written = {"index.html": html_page("Results", body), "settings.html": _settings_page(runs)}
    written |= {page: _dataset_page(name, runs) for page, name in pages.items()}
    for page, text in written.items():
        write_text(text, folder / page)
        yield folder / page


def _link(page: str, text: str) -> str:
    return f'<a href="{html.escape(quote(page))}">{in_html(text)}</a>'


def _figure(path: Path) -> str:
    source, name = html.escape(quote(f"{FIGURES}/{path.name}")), in_html(path.stem)
    return f'<figure><img src="{source}" alt="{name}"><figcaption>{name}</figcaption></figure>'


def _settings_page(runs: Sequence[Run]) -> str:
    """The page of all settings: one line per setting, one column per run."""
    columns = [(f"{row.label}, {run.path.name}", run.settings) for row in rows_of(runs) for run in row.runs]
    lines = []
    for key in sorted({key for _, settings in columns for key in settings}):
        values = [settings.get(key, "") for _, settings in columns]
        first, *others = (value if isinstance(value, str) else json.dumps(value) for value in values)
        lines.append(Line(key, first, tuple(map(Text, others)), main=False))
    return _page("Settings", [Grid("Settings", ("setting", *(name for name, _ in columns)), tuple(lines), dense=True)])


def _page(title: str, grids: Sequence[Grid], more: Sequence[str] = (), remarks: Sequence[str] = ()) -> str:
    tables = html_tables(grids, Legend((), tuple(remarks)))
    return html_page(title, [f"<p>{_link('index.html', 'Results')}</p>", *tables, *more])


def _dataset_page(name: str, runs: Sequence[Run]) -> str:
    """The page of one dataset: the measures of each run, and the classes."""
    tested = [(row.label, run) for row in rows_of(runs) for run in row.runs if name in run.results["datasets"]]
    found = [
        {key: f"{v:.6g}" for key, v in run.results["datasets"][name].items() if type(v) in (int, float)}
        for _, run in tested
    ]
    keys = list(dict.fromkeys(key for numbers in found for key in numbers))
    lines = [
        Line(label, run.backbone, tuple(Text(numbers.get(key, "")) for key in keys), main=False)
        for (label, run), numbers in zip(tested, found, strict=True)
    ]
    labelled = [run for _, run in tested if "acc" in run.results["datasets"][name]]
    classes = html_tables(*class_grids(labelled, MOST, [name])) if labelled else []
    left_out = [*coverage_remark([run for _, run in tested], labels=len(tested) > 1)]
    return _page(name, [Grid(name, ("method", "backbone", *keys), tuple(lines), dense=True)], classes, left_out)
