"""BibTeX entries for the methods, backbones and datasets of runs, from `citations.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from tpt.results.tables.runs import Run

HEAD = ("key", "kind", "cites")  # keys of an entry that are not BibTeX fields


@cache
def entries() -> list[dict[str, Any]]:
    """All entries: key, kind, fields, and in `cites` patterns of what each is cited for, such as `method:tpt`."""
    return list(json.loads((resources.files("tpt.results.tables") / "citations.json").read_text("utf-8")))


def to_bibtex(runs: Sequence[Run]) -> str:
    """The entries for the methods, backbones and datasets of some runs; comments name those without an entry."""
    wanted: dict[str, None] = {}
    for run in runs:  # the method, the parts of its row (such as tpt+coop), backbone and datasets
        wanted |= dict.fromkeys([f"method:{run.option}", *(f"row:{part}" for part in run.method.split("+"))])
        wanted |= dict.fromkeys([f"backbone:{run.backbone.lower()}", *(f"dataset:{name}" for name in run.to_test)])
    found = [e for e in entries() if any(fnmatchcase(subject, p) for p in e["cites"] for subject in wanted)]
    known = [pattern for entry in found for pattern in entry["cites"]]
    without = [s for s in wanted if not s.startswith("row:") and not any(fnmatchcase(s, p) for p in known)]
    comments = [f"% no entry for {' '.join(subject.split())}" for subject in without]
    return "\n".join([*map(_entry, found), *comments, ""])


def _entry(entry: dict[str, Any]) -> str:
    fields = {k: v for k, v in entry.items() if k not in HEAD} | {"title": f"{{{entry['title']}}}"}  # keeps capitals
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{entry['kind']}{{{entry['key']},\n{body}}}\n"
