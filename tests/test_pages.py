"""The pages name only files, objects, programs, options and settings that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tpt.cli.places import PROGRAMS

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SOURCES = ROOT / "src" / "tpt"
FOLDERS = sorted(path.parent.name for path in SOURCES.glob("*/__init__.py"))
GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())
# A path of a source file, without capitals, which stand for a name to choose.
FILE = re.compile(
    rf"(?:{'|'.join([*FOLDERS, 'src', 'conf', 'tests', 'benchmarks', 'sweeps'])})/[a-z0-9_/.-]+\.(?:pyi?|yaml)"
)
# `data` and others are folders and also sections of the settings; these are folders only.
OBJECT = re.compile(rf"(?:tpt|{'|'.join(name for name in FOLDERS if name not in GROUPS)})(?:\.\w+)+")
OPTION = re.compile(rf"(?<![\w.@/+-])({'|'.join(GROUPS)})=\[?([a-z]\w*(?:,[a-z]\w*)*)(?=['\"\]\s]|$)")
SETTING = re.compile(rf"(?<![\w.@/+'-])({'|'.join(GROUPS)})\.([a-z]\w*)(?:=|$)")
CONFS = (ROOT / "conf", ROOT / "docs" / "extending" / "conf")
OF_RUNS = (".json", ".safetensors", ".parquet", ".pdf", ".csv")  # endings of files that runs and reports write
RESULTS = {("cache", "encoded"), ("cache", "from_cache")}  # keys of results.json
THEIRS = {"data/cls_to_names.py"}  # of TPT's official code


def in_backticks(page: Path) -> list[str]:
    """The code within the sentences of a page."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def code(page: Path) -> list[str]:
    """All code of a page: in backticks, and the lines of its blocks."""
    blocks = re.findall(r"```\w*\n(.*?)```|^((?:    .*\n)+)", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [*in_backticks(page), *(line for pair in blocks for block in pair for line in block.splitlines())]


def missing_objects(page: Path) -> Iterator[str]:
    for text in in_backticks(page):
        if (found := OBJECT.match(text)) and not found[0].endswith(OF_RUNS):
            name = found[0] if found[0].startswith("tpt.") else f"tpt.{found[0]}"
            if not exists(name):
                yield name


def exists(name: str) -> bool:
    """Whether a dotted name is a module or an object in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@cache
def keys_of(group: str) -> set[str]:
    """The keys of the settings in the files of a group, at any depth, also of those that the programs set for it."""
    files = [file for conf in CONFS for place in (conf / group, conf) for file in place.glob("*.yaml")]
    return {key for file in files for key in below(yaml.safe_load(file.read_text("utf-8")))}


def below(node: object) -> Iterator[str]:
    """All keys of nested dictionaries."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key).partition("@")[0]
            yield from below(value)
    elif isinstance(node, list):
        for value in node:
            yield from below(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_exists(page: Path) -> None:
    files = [found[0] for text in in_backticks(page) if (found := FILE.fullmatch(text))]
    assert not [name for name in {*files} - THEIRS if not any((place / name).is_file() for place in (ROOT, SOURCES))]
    assert not list(missing_objects(page))
    said = [text for text in code(page) if not text.endswith(OF_RUNS)]
    programs = {name for text in said for name in re.findall(r"(?<![\w/.-])tpt-[a-z]+\b(?![-.\w/])", text)}
    assert programs <= PROGRAMS.keys()
    options = {(group, one) for text in said for group, many in OPTION.findall(text) for one in many.split(",")}
    assert not [(g, one) for g, one in options if not any((conf / g / f"{one}.yaml").is_file() for conf in CONFS)]
    settings = {(group, key) for text in said for group, key in SETTING.findall(text)} - RESULTS
    assert not [(group, key) for group, key in settings if key not in keys_of(group)]


def test_names_that_do_not_exist_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`tpt.NoSuch`, `cli.nothing.here`, `tpt.TPT`, `cli.options.choose`\n")
    assert list(missing_objects(page)) == ["tpt.NoSuch", "tpt.cli.nothing.here"]
    for text in ("`data/no_such.py`", "`method=no_such`", "`method.no_such=1`", "`tpt-nothing`"):
        page.write_text(text)
        with pytest.raises(AssertionError):
            test_a_page_names_what_exists(page)
