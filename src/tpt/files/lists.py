"""Reads lists of class names and templates in the formats that other programs write."""

from __future__ import annotations

import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tpt.errors import DataError, text_key

MOST_BYTES = 512 * 2**20  # of a text, unpacked
MOST_LINE = 10_000  # characters
_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
ZIP, PARQUET, OLD_WORKBOOK = b"PK\3\4", b"PAR1", b"\xd0\xcf\x11\xe0"
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Possible names of the column or entry that holds the names, the most certain first.
_HEADS = (
    "class_name", "classname", "class_names", "classnames", "name", "names", "label_name", "category_name",
    "display_name", "id2label", "label2id", "template", "templates", "label", "labels", "class", "classes", "category",
    "categories",
)  # fmt: skip
_COMMENT = re.compile(r"(?:^|\s)#(?:\s.*)?$")
_ASSIGNED = re.compile(r"^\w+\s*=\s*(?=[\[({])")
_LAMBDA = re.compile(r"\blambda \w+: f?(?=['\"])")  # as in open_clip's lists of templates
_NUMBER_FIRST = re.compile(
    r"\[?(?P<key>\d{1,9}|n\d{8})\]?(?:\s*(?:\.(?!\d)|[):=|])\s*|\s+-\s+|\s+)(?P<name>.*[^\W\d].*)"
)
_NUMBER_LAST = re.compile(r"(?P<name>.*[^\W\d].*?)[\s:=]+(?P<key>\d{1,9})")
_PAIR = re.compile(r"(?P<key>[^\s:,][^:,]*?)\s*:\s+(?P<name>\S.*)")
_NO_NAME = re.compile(r"[\[\]{}<>%;:=,\\*#].*|//.*|.*\|.*|.*[\[{,:=]|.*[\t\0].*")
_WHOLE = re.compile(r"[0-9]{1,18}")
_SYNSET = re.compile(r"n[0-9]{8}")


class Names(list[str]):
    """The texts of a list; `keys` are those of each text: a number, a folder, a WordNet id, or several of these."""

    def __init__(self, texts: Iterable[str], keys: Sequence[Sequence[str]] = ()) -> None:
        super().__init__(texts)
        self.keys = keys

    def places(self) -> dict[str, int]:
        """The index of each key's text, for numbers also without leading zeros; keys of several texts are left out."""
        found: dict[str, int | None] = {}
        for place, row in enumerate(self.keys):
            for key in {form for cell in row for form in (cell, str(int(cell)) if _WHOLE.fullmatch(cell) else cell)}:
                found[key] = None if key in found else place
        return {key: place for key, place in found.items() if place is not None}


def decode_text(content: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; gzip, bzip2 and xz are unpacked.

    Raises a ValueError, or the error of the library that unpacks, for other content.
    """
    if (unpack := _of_start(content, _PACKED)) is not None:
        with unpack(io.BytesIO(content)) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
    try:
        return content.decode(_of_start(content, _MARKS) or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not in UTF-8; save it as UTF-8") from error


def _of_start(content: bytes, kinds: dict[bytes, Any]) -> Any:
    """The value for the first bytes of a file; None if they are not among the keys."""
    return next((kind for start, kind in kinds.items() if content.startswith(start)), None)


def parse_list(text: str, path: str | Path, prose: bool = False) -> Names:
    """The texts in a list, in the order of their numbers if the list has numbers.

    The list may be JSON, YAML or Python; a mapping of numbers to names, or of names to numbers; a table with a header;
    lines with a number before or after the name, or with a key and a tab before it; or one text per line.  Lines that
    begin with `# ` are comments.  With `prose`, texts are sentences, which may contain commas, colons and numbers.

    Raises:
        DataError: the list at `path` has none of these forms; the message shows the line.
    """
    found = _structure(text, path, prose)
    if found is None:
        lines = [line for raw in text.splitlines() if (line := _COMMENT.sub("", raw).strip())]
        found = _of_lines(lines, path, prose) if lines else Names([])
    first = [row[0] for row in found.keys]
    if len({*first}) < len(first) or not all(found):
        raise DataError(f"Expected one name for each class in {path}, got an empty name, or two for one class.")
    for column in zip(*found.keys, strict=True):
        if all(_WHOLE.fullmatch(cell) for cell in column):
            order = sorted(range(len(column)), key=lambda place: int(column[place]))
            return Names([found[place] for place in order], [found.keys[place] for place in order])
    return found


def _refused(line: str, path: str | Path) -> DataError:
    return DataError(
        f"Expected a list in {path}, one per line, in JSON or YAML, or a table with a column `name`, got the line "
        f"{line.strip()[:100]!r}; write `number<TAB>name`, or one name per line, in quotes if it has numbers or signs."
    )


def _structure(text: str, path: str | Path, prose: bool) -> Names | None:
    """The names in a JSON or YAML text or in a Python list; None if the text has another form."""
    lines = [line for line in text.splitlines() if line.strip() not in ("", "---") and line.lstrip()[0] != "#"]
    bare = _LAMBDA.sub("", _ASSIGNED.sub("", "\n".join(lines).strip()))
    in_quotes = bare[:1] in ("'", '"') and bare.rstrip(",")[-1:] in ("'", '"')
    if in_quotes and not all(line.rstrip().endswith(",") for line in lines[:-1]):
        return None  # Python would join them into one text
    if in_quotes or (bare[:1], bare[-1:]) == ("(", ")"):
        bare = f"[{bare if in_quotes else bare[1:-1]}]"
    closed = (bare[:1], bare[-1:]) in [("[", "]"), *([] if prose else [("{", "}")])]
    entry = any(re.fullmatch(rf"({'|'.join(_HEADS)})\s*:(\s*\[.*)?", line) for line in lines)
    bullets = bool(lines) and all(line.lstrip().startswith("- ") for line in lines)
    if not (closed or entry or bullets or Path(path).suffix.lower() in (".json", ".yaml", ".yml")):
        return None
    with suppress(yaml.YAMLError, ValueError, RecursionError, MemoryError):
        if (found := _of_node(_parsed(bare))) is not None:
            return found
    raise _refused(lines[0] if lines else "", path)


class _Texts(yaml.BaseLoader):  # type: ignore[misc]  # PyYAML has no types
    """Keeps texts as written, such as `007` and `null`, and refuses two equal keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        return _mapping([(self.construct_object(key), self.construct_object(value)) for key, value in node.value])


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary; raises a ValueError if a key occurs twice."""
    found = {str(key): value for key, value in pairs}
    if len(found) < len(pairs):
        raise ValueError("two equal keys")
    return found


def _parsed(text: str) -> Any:
    """The parsed text, with texts and numbers as written."""
    with suppress(ValueError):
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_mapping)
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval(text)
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
    return yaml.load(text, Loader=_Texts)  # a subclass of BaseLoader, which makes only texts, lists and dictionaries


def _of_node(node: Any) -> Names | None:
    """The names in a list, a list of objects with the same keys, or a mapping; None if there are none."""
    if isinstance(node, list):
        if all(isinstance(one, str) for one in node):
            return Names(map(str.strip, node))
        alike = all(isinstance(one, dict) and [*one] == [*node[0]] for one in node)
        return _of_table([[*node[0]], *([*map(str, one.values())] for one in node)], "") if alike else None
    if not isinstance(node, dict) or not node:
        return None
    if (head := next((head for head in _HEADS if isinstance(node.get(head), list | dict)), None)) is not None:
        return _of_node(node[head])
    rows = [(key, *(value if isinstance(value, list) else [value])) for key, value in node.items()]
    if not all(isinstance(cell, str) for row in rows for cell in row) or len({len(row) for row in rows}) > 1:
        return None
    numbered = [all(_WHOLE.fullmatch(row[column]) for row in rows) for column in (0, -1)]
    return _columns(rows, 0 if numbered == [False, True] else len(rows[0]) - 1)


def _columns(rows: Sequence[Sequence[str]], names: int) -> Names:
    """One column as names and the others as keys."""
    return Names([row[names].strip() for row in rows], [(*row[:names], *row[names + 1 :]) for row in rows])


def _of_table(rows: Sequence[Sequence[str]], separator: str) -> Names | None:
    """The names in a table, with or without a header; None if it is unclear which column they are in."""
    width, heads = range(len(rows[0])), [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in rows[0]]
    headed = [head for head in _HEADS if head in heads]
    for body in (rows, rows[1:]):
        counts = [column for column in width if _counts([row[column] for row in body])]
        others = [column for column in width if column not in counts]
        beside = body is rows or not any(_WHOLE.fullmatch(rows[0][column]) for column in counts)
        if counts and len(others) == 1 and beside:  # a header, if any, may have any words
            return _columns(body, others[0])
    if headed and len(rows) > 1:
        return _columns(rows[1:], heads.index(headed[0]))
    return _columns(rows, 1) if separator == "\t" and len(width) == 2 else None


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are WordNet ids, or number all rows from 0 or 1, in any order."""
    if not cells or all(_SYNSET.fullmatch(cell) for cell in cells):
        return bool(cells)
    numbers = sorted(int(cell) for cell in cells if _WHOLE.fullmatch(cell))
    return len(numbers) == len(cells) and numbers in (list(range(len(cells))), list(range(1, len(cells) + 1)))


def _of_lines(lines: list[str], path: str | Path, prose: bool) -> Names:
    """The texts of lines that are neither JSON nor YAML."""
    if long := next((line for line in lines if len(line) > MOST_LINE), None):
        raise _refused(long, path)
    if len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.rstrip(",").strip() for line in lines]
    if not prose:
        for separator in "\t,;":
            rows = [[*map(str.strip, row)] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
            if len(rows) == 1 and len(rows[0]) > 1 and separator != "\t":
                return Names(cell for cell in rows[0] if cell)
            if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
                if (found := _of_table(rows, separator)) is None:
                    raise _refused(lines[0], path)
                return found
        if (numbered := _numbered(lines, path)) is not None:
            return numbered
        if all(line.startswith(("* ", "• ")) for line in lines):
            lines = [line[2:].strip() for line in lines]
        if odd := next((line for line in lines if _NO_NAME.fullmatch(line)), None):
            raise _refused(odd, path)
    texts = [row[0] if len(row) == 1 else line for line in lines for row in csv.reader([line])]
    return Names(texts[1:] if len(texts) > 1 and texts[0].lower() in _HEADS else texts)


def _numbered(lines: list[str], path: str | Path) -> Names | None:
    """The names of lines that all have a number or WordNet id before or after the name; None for other lines."""
    unsure = False
    for pattern in (_NUMBER_FIRST, _NUMBER_LAST, _PAIR):
        rows = [match.group("key", "name") for line in lines if (match := pattern.fullmatch(line))]
        if len(rows) < len(lines):
            continue
        keys, names_differ = [key for key, _ in rows], len({text_key(name) for _, name in rows}) == len(rows)
        certain = pattern is _PAIR and all(_WHOLE.fullmatch(key) for key in keys)
        if certain or (pattern is not _PAIR and names_differ and _counts(keys)):  # `1 euro` and `2 euro` are names
            return _columns(rows, 1)
        unsure |= pattern is _PAIR or (pattern is _NUMBER_FIRST and names_differ and len(lines) > 1)
    if unsure:
        raise _refused(lines[0], path)
    return None
