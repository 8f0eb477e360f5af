"""Lists of class names in every form, for every reader; notes on unusual classes; a root that is a level too high."""

from __future__ import annotations

import gzip
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest

from tests.own_data import png, save_huggingface, write_shard
from tpt.cli.quoting import as_texts
from tpt.clip.texts import load_templates
from tpt.data import ImageDataset, huggingface_dataset, image_folder, image_list, tar_shards
from tpt.data.pictures import class_list
from tpt.errors import DataError
from tpt.files.lists import parse_list

NAMES = ["pizza", "banana", "air plane", "yes"]
LABELS = [0, 3, 1, 2, 0]
# Each form lists NAMES; if it has number keys, 0 is pizza.
FORMS = {
    "plain.txt": "pizza\nbanana\nair plane\nyes\n",
    "comment.txt": "# classes\npizza\nbanana\n\nair plane  # sky\nyes\n",
    "header.txt": "class_name\npizza\nbanana\nair plane\nyes\n",
    "list.json": '[\n "pizza",\n "banana",\n "air plane",\n "yes"\n]\n',
    "map.json": '{"3": "yes", "2": "air plane", "1": "banana", "0": "pizza"}',
    "config.json": '{"model_type": "vit", "label2id": {"pizza": 0, "yes": 3, "banana": 1, "air plane": 2}}',
    "index.json": '{"0": ["n01", "pizza"], "1": ["n02", "banana"], "2": ["n03", "air plane"], "3": ["n04", "yes"]}',
    "data.yaml": "nc: 4\nnames:\n  0: pizza\n  1: banana\n  2: air plane\n  3: yes\n",
    "flow.yaml": "train: a/b\nnames: [pizza, 'banana', air plane, yes]\n",
    "dashes.txt": "- pizza\n- banana\n- air plane\n- yes\n",
    "python.txt": "CLASSES = [\n    'pizza', 'banana',\n    'air plane',\n    'yes',\n]\n",
    "lines.txt": "'pizza',\n'banana',\n'air plane',\n'yes',\n",
    "quotes.txt": '"pizza"\n"banana"\n"air plane"\n"yes"\n',
    "commas.txt": "pizza, banana, air plane, yes\n",
    "tab.txt": "0\tpizza\n2\tair plane\n1\tbanana\n3\tyes\n",
    "behind.txt": "pizza 0\nair plane 2\nbanana 1\nyes 3\n",
    "space.txt": "0 pizza\n1 banana\n2 air plane\n3 yes\n",
    "colon.txt": "3: yes\n2: air plane\n1: banana\n0: pizza\n",
    "table.csv": "id,name\n0,pizza\n1,banana\n2,air plane\n3,yes\n",
    "more.csv": "name;id;kind\nyes;3;word\npizza;0;food\nair plane;2;thing\nbanana;1;food\n",
    "pandas.csv": ",0\n0,pizza\n1,banana\n2,air plane\n3,yes\n",
}
Read = Callable[[Path], ImageDataset]


def table(root: Path) -> Read:
    (root / "t.csv").write_text("path,label\n" + "".join(f"{n}.png,{k}\n" for n, k in enumerate(LABELS)))
    for n in range(len(LABELS)):
        (root / f"{n}.png").write_bytes(png(n))
    return lambda names: image_list(root / "t.csv", class_names=names)


def shards(root: Path) -> Read:
    write_shard(root / "s" / "a.tar", [(f"{n:03}", str(k)) for n, k in enumerate(LABELS)])
    (root / "s" / "classnames.txt").write_text("never read")
    return lambda names: tar_shards(root / "s", class_names=names)


def beside_shards(root: Path) -> Read:
    shards(root)

    def read(names: Path) -> ImageDataset:
        (root / "s" / "classnames.txt").write_bytes(names.read_bytes())
        return tar_shards(root / "s")

    return read


def saved(root: Path) -> Read:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(len(LABELS))], "label": LABELS}
    datasets.Dataset.from_dict(rows, features).with_format("torch").save_to_disk(root / "d")
    return lambda names: huggingface_dataset(root / "d", class_names=names)


@pytest.mark.parametrize("source", [table, shards, beside_shards, saved])
def test_names_files_in_every_source(source: Callable[[Path], Read], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    read = source(tmp_path)
    for name, text in FORMS.items():
        if source is beside_shards and not name.endswith(".txt"):
            continue  # the reader looks only for classnames.txt
        (tmp_path / name).write_text(text)
        found = read(tmp_path / name)
        assert [found.class_names[k] for k in found.labels()] == [NAMES[k] for k in LABELS], name


def test_names_files_of_pictures_and_folders(tmp_path: Path) -> None:
    """A list of all the folders' own names may be in any order; if it has only some of them, it is an error."""
    for folder in ("Air plane", "banana", "pizza", "yes"):
        (tmp_path / "p" / folder).mkdir(parents=True)
        (tmp_path / "p" / folder / "0.png").write_bytes(png())
    for name, text in FORMS.items():
        (tmp_path / name).write_text(text)
        assert class_list(tmp_path / name) == NAMES, name
        found = image_folder(tmp_path / "p", class_names=tmp_path / name)
        assert [found.class_names[s.label or 0] for s in found.samples] == ["air plane", "banana", "pizza", "yes"], name
    with pytest.raises(DataError, match="'banana' gets the name 'pizza', which may belong to 'pizza'"):
        image_folder(tmp_path / "p", class_names=["Air plane", "pizza", "banana", "no"])


def test_keys_may_start_at_any_number_and_be_texts(tmp_path: Path) -> None:
    read = table(tmp_path)
    (tmp_path / "n.txt").write_text("1\ta\n2\tb\n3\tc\n4\td\n")
    with pytest.raises(DataError, match="among the keys in data.class_names, .*, got '0'"):
        read(tmp_path / "n.txt")
    (tmp_path / "t.csv").write_text("path,label\n0.png,n02\n1.png,90\n2.png,007\n")
    (tmp_path / "n.json").write_text(json.dumps({"n02": "tench", "90": "oven", "7": "train"}))
    found = read(tmp_path / "n.json")
    assert [found.class_names[k] for k in found.labels()] == ["tench", "oven", "train"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{\n a\n", "{"), ("a\tb\nc\n", "a\\tb"), ("cat: feline\ndog: canine", "cat: feline"), ("<html>\n", "<html>"),
        ("cat,pet\ndog,pet", "cat,pet"), ("4 cat\n9 dog", "4 cat"), ("cat | pet\ndog | pet", "cat | pet"),
        ("#cat\ndog", "#cat"),
    ],
)  # fmt: skip
def test_an_unknown_form_is_refused_with_its_line(text: str, line: str) -> None:
    with pytest.raises(DataError) as error:
        parse_list(text, "names.txt")
    assert repr(line)[1:-1].replace("\\\\", "\\") in str(error.value)


@pytest.mark.parametrize(
    "lines",
    [["0", "1", "2"], ["707-320", "737-200"], ["drake, male duck", "hen"], ["1 euro", "2 euro"], ["null", "1e3", "007"],
     ["C#", "F#"], ["'s-Hertogenbosch", "O'Neill"], ["iPhone 1", "iPhone 2"], ["0.5 l", "1.25 l", "2 l"]],
)  # fmt: skip
def test_names_that_look_like_other_forms(lines: list[str]) -> None:
    assert parse_list("\n".join(lines), "names.txt") == lines


def test_templates_in_lists(tmp_path: Path) -> None:
    wanted = ["a photo of a {}, a type of food.", "itap of 1 {}: big."]
    for text in ("{0}\n{1}\n", "templates = [\n '{0}',\n '{1}',\n]", "'{0}',\n'{1}',\n", '["{0}", "{1}"]'):
        (tmp_path / "t.txt").write_text(text.replace("{0}", wanted[0]).replace("{1}", wanted[1]))
        assert load_templates(str(tmp_path / "t.txt")) == wanted


def test_names_on_the_command_line_stay_as_typed() -> None:
    assert as_texts("data.class_names=[null,1e3, 007,yes]") == 'data.class_names=["null","1e3","007",yes]'
    assert as_texts("data.class_names=['a, b',hot dog]") == "data.class_names=['a, b',\"hot dog\"]"
    for other in ("data.class_names=names.txt", "seed=1", "data.class_names=[]", "data.keys=[1,2]"):
        assert as_texts(other) == other
    with pytest.raises(DataError, match="Expected class names as texts, got None"):
        class_list(["void", None])  # type: ignore[list-item]


def test_unusual_classes_are_noted(tmp_path: Path) -> None:
    read = table(tmp_path)

    def notes(labels: list[object], names: str) -> str:
        rows = [f"{n}.png,{k}\n" for n, k in enumerate(labels)]
        (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows))
        (tmp_path / "n.txt").write_text(names)
        return "; ".join(read(tmp_path / "n.txt").notes)

    assert "1 of 3 classes have no image, such as 'b'" in notes([0, 2, 2], "a\nb\nc")
    assert "1 of 3 classes have no image, such as 'c'" in notes([1, 2, 2], "1\ta\n2\tb\n3\tc")
    assert "each of the 3 images has its own class" in notes([0, 1, 2], "a\nb\nc")
    (tmp_path / "t.csv").write_text("path,label\n0.png,001.cat\n1.png,002.dog\n2.png,002.dog\n")
    assert "begin with numbers, such as '001.cat'" in image_list(tmp_path / "t.csv").notes[0]
    assert notes([0, 1, 1], "a\nb") == ""


@pytest.mark.parametrize(
    ("folders", "way_out"),
    [
        (["photo/cat", "photo/dog", "sketch/cat", "sketch/owl"], "point data.root at .*photo"),
        (["train/cat", "train/dog", "test/cat", "docs/x"], "pass data.split=test"),
        (["seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/sea", "seg_test/seg_test/ice"],
         "point data.root at .*seg_test/seg_test"),
        (["pets/pets/cat", "pets/pets/dog"], "point data.root at .*pets/pets"),
    ],
)  # fmt: skip
def test_a_root_that_is_a_level_too_high(folders: list[str], way_out: str, tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / "p" / folder).mkdir(parents=True)
        (tmp_path / "p" / folder / "0.png").write_bytes(png())
    with pytest.raises(DataError, match=way_out):
        image_folder(tmp_path / "p")
    tops = sorted({folder.split("/")[0] for folder in folders})
    if len(tops) > 1:  # class names make the upper folders the classes
        assert len(image_folder(tmp_path / "p", class_names=[f"{top}" for top in tops]).class_names) == len(tops)


def test_tables_of_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(2):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    text = 'path,label,note\n0.png,cat,"two\nlines"\n._0.png,cat,\n1.png,dog,"' + "a\nb, " * 300_000 + '"\n'
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    found = image_list(tmp_path / "t.csv.gz")
    assert (found.name, len(found), found.class_names) == ("t", 2, ["cat", "dog"]) and "._*" in found.notes[0]
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match="the package openpyxl.*pip install openpyxl"):
        image_list(tmp_path / "t.xlsx")
    rows = [("label", "path"), (1.0, "0.png"), (None, None), (0, "1.png")]
    sheet = SimpleNamespace(iter_rows=lambda values_only: iter(rows))
    book_of = SimpleNamespace(load_workbook=lambda path, **_: SimpleNamespace(worksheets=[sheet]))
    monkeypatch.setitem(sys.modules, "openpyxl", book_of)
    assert image_list(tmp_path / "t.xlsx", class_names=["cat", "dog"]).labels() == [1, 0]
    rows[3] = (None, "1.png")
    with pytest.raises(DataError, match="have no path or no label"):
        image_list(tmp_path / "t.xlsx", class_names=["cat", "dog"])
    rows[3] = (True, "1.png")
    assert image_list(tmp_path / "t.xlsx", class_names=["1.0", "TRUE"]).labels() == [0, 1]
    for cell, said in (
        (date(2026, 3, 1), "the date 2026-03-01"),
        ("#N/A", "A formula .* failed"),
        ("#REF!", "#REF"),
    ):
        rows[3] = (cell, "1.png")
        with pytest.raises(DataError, match=said):
            image_list(tmp_path / "t.xlsx", class_names=["cat", "dog"])
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as book:
        book.writestr("content.xml", "")
    (tmp_path / "t.xls").write_bytes(b"\xd0\xcf\x11\xe0" + b"0" * 99)
    for name in ("t.xls", "t.ods"):
        with pytest.raises(DataError, match="older workbook or an archive .*; save its sheet as CSV"):
            image_list(tmp_path / name)
    (tmp_path / "t.csv").write_text("path,label,label\n0.png,cat,dog\n")
    with pytest.raises(DataError, match=r"needs one column 'label', .*or rename one"):
        image_list(tmp_path / "t.csv")


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    saved_set = datasets.load_from_disk(str(save_huggingface(tmp_path / "d")))["test"]
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        saved_set.to_parquet(str(tmp_path / "data" / f"{split}-00000-of-00001.parquet"))
    for path in (tmp_path / "data", tmp_path / "data" / "test-00000-of-00001.parquet"):
        found = huggingface_dataset(path)
        assert (found.class_names, found.labels()) == (["cat", "dog"], [0, 1, 1, 0]) and found.image(1).mode == "RGB"
    with pytest.raises(DataError, match="needs one column 'path', but its columns are 'image', 'label'"):
        image_list(tmp_path / "data" / "test-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(gzip.compress(b"path,label\n")), "not in UTF-8"),
        (gzip.compress(b"path,label\n" * 99)[:-9], "Compressed file ended"),
        (gzip.compress(b"PAR1\xff"), "not in UTF-8"),
        (lzma.compress(b"path,label\n", lzma.FORMAT_ALONE), "not in UTF-8"),
        (b"\x28\xb5\x2f\xfd\xff", "not in UTF-8"),
        (b"PK\3\4\xff", "or a damaged one; save its sheet as CSV"),
        (b"\xff\0\1\2", "not in UTF-8"),
        ("path,label\n0.png,café\n".encode("cp1252"), "byte 20 is not in UTF-8"),
    ],
    ids=["twice", "cut", "Parquet", "lzma", "zstd", "zip", "binary", "cp1252"],  # gzip's time would vary the ids
)
def test_content_that_is_not_text_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        image_list(tmp_path / "t.csv")
    if content[:2] != b"PK":
        with pytest.raises(DataError, match=said):
            class_list(str(tmp_path / "t.csv"))
