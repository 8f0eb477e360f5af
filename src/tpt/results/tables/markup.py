"""Tables as Markdown, LaTeX and HTML; all names are escaped, because they come from files that others wrote."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from tpt.results.tables.grid import Grid, Legend, Line, Text, cleaned

_NAMED = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_LATEX = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {c: rf"\text{name}{{}}" for c, name in _NAMED.items()}
    | {"\N{EN DASH}": "--", "±": r"$\pm$", "→": r"$\rightarrow$"}
)


def _raised(text: Text) -> str:
    return f"<sup>{' '.join(text.letters)}</sup>" if text.letters else ""


def to_markdown(tables: Sequence[Grid], legend: Legend) -> str:
    """Pipe tables with marks as superscripts."""

    def escape(text: str, strong: bool = False) -> str:
        shown = re.sub(r"([\\`*_|<>\[\]])", r"\\\1", cleaned(text))
        return f"**{shown}**" if strong else shown

    parts = []
    for table in tables:
        ruler = ["---", "---", *("---:" for _ in table.header[2:])]
        rows = [list(map(escape, table.header)), ruler]
        for line in table.lines:
            cells = [escape(text.text, line.main) + _raised(text) for text in line.cells]
            rows.append([escape(line.label, line.main), escape(line.second), *cells])
        body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"{escape(table.caption, strong=True)}\n\n{body}\n")
    notes = [f"<sup>{letter}</sup> {escape(why)}" for letter, why in legend.marks]
    return "\n".join([*parts, "  \n".join([*notes, *map(escape, legend.remarks)]), ""])


def to_latex(tables: Sequence[Grid], legend: Legend) -> str:
    r"""`tabular` environments with booktabs rules; needs \usepackage{booktabs}."""

    def escape(text: str) -> str:
        return cleaned(text).translate(_LATEX)

    def cell(text: Text) -> str:
        return escape(text.text) + (f"\\textsuperscript{{{','.join(text.letters)}}}" if text.letters else "")

    def row(line: Line) -> str:
        label = escape(line.label) if line.main else rf"\quad {escape(line.label)}"
        return " & ".join([label, escape(line.second), *map(cell, line.cells)]) + r" \\"

    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        header = " & ".join(map(escape, table.header)) + r" \\"
        parts += [r"\begin{table}", r"\centering", rf"\caption{{{escape(table.caption)}}}"]
        parts += [rf"\begin{{tabular}}{{ll{'r' * (len(table.header) - 2)}}}", r"\toprule", header]
        for line in table.lines:
            parts += [r"\midrule", row(line)] if line.main else [row(line)]
        notes = [rf"\textsuperscript{{{letter}}} {escape(why)}" for letter, why in legend.marks]
        parts += [r"\bottomrule", r"\end{tabular}", "", r"\footnotesize"]
        parts += [f"{note}." for note in [*notes, *map(escape, legend.remarks)]]
        parts += [r"\end{table}", ""]
    return "\n".join(parts)


def in_html(text: str) -> str:
    """A name, escaped for HTML."""
    return html.escape(cleaned(text))


def html_page(title: str, body: Sequence[str]) -> str:
    """A page with a title and a body; it has no script and loads nothing from other hosts."""
    head = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{in_html(title)}</title><style>',
        "body{font-family:sans-serif;margin:2em} table{border-collapse:collapse;margin-bottom:1.5em}",
        "caption{text-align:left;font-weight:bold;padding-bottom:.5em} th,td{padding:.15em .6em;text-align:right}",
        "th:first-child,th:nth-child(2){text-align:left} td:nth-child(2){text-align:left}",
        "tr.main>*{border-top:1px solid #999;font-weight:bold} tr.below>*{color:#444;font-weight:normal}",
        "tr.below>th{padding-left:1.5em} img{max-width:100%}",
        "</style></head><body>",
    ]
    return "\n".join([*head, *body, "</body></html>", ""])


def to_html(tables: Sequence[Grid], legend: Legend) -> str:
    """A page with tables and their legend."""
    return html_page("Report", html_tables(tables, legend))


def html_tables(tables: Sequence[Grid], legend: Legend) -> list[str]:
    """Tables and their legend, as lines of a page's body."""
    parts = []
    for table in tables:
        head = "".join(f'<th scope="col">{in_html(name)}</th>' for name in table.header)
        parts += [f"<table><caption>{in_html(table.caption)}</caption><thead><tr>{head}</tr></thead><tbody>"]
        for line in table.lines:
            kind = "main" if line.main else "below"
            label = f'<th scope="row">{in_html(line.label)}</th><td>{in_html(line.second)}</td>'
            shown = "".join(f"<td>{in_html(text.text)}{_raised(text)}</td>" for text in line.cells)
            parts.append(f'<tr class="{kind}">{label}{shown}</tr>')
        parts.append("</tbody></table>")
    parts += [f"<p><sup>{letter}</sup> {in_html(why)}</p>" for letter, why in legend.marks]
    return [*parts, *(f"<p>{in_html(remark)}</p>" for remark in legend.remarks)]
