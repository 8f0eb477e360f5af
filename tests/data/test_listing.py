"""Reads tables of paths and labels."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tpt.data import image_list
from tpt.errors import DataError

ROWS = [("cat/0.png", "cat"), ("T-shirt/1.png", "T-shirt"), ("cat/2.png", "cat")]


def csv(folder: Path, rows: list[tuple[str, str]], header: str = "path,label") -> Path:
    path = folder / "test.csv"
    path.write_text("\n".join([header, *(f"{a},{b}" for a, b in rows)]) + "\n")
    return path


def test_text_labels(image_tree: Path) -> None:
    found = image_list(csv(image_tree, ROWS))
    assert found.name == "test" and found.class_names == ["T-shirt", "cat"]
    assert [(s.path, s.label) for s in found.samples] == [("cat/0.png", 1), ("T-shirt/1.png", 0), ("cat/2.png", 1)]
    assert found.image(1).mode == "RGB"


def test_names_may_include_classes_without_images(image_tree: Path) -> None:
    found = image_list(csv(image_tree, ROWS), class_names=["dog", "cat", "T-shirt"])
    assert found.class_names == ["dog", "cat", "T-shirt"] and [s.label for s in found.samples] == [1, 2, 1]
    with pytest.raises(DataError, match="Expected labels out of data.class_names .* got 'T-shirt'"):
        image_list(csv(image_tree, ROWS), class_names=["dog", "cat"])


def test_numeric_labels_are_positions_in_the_names(image_tree: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a cat\na shirt\n")
    table = csv(image_tree, [("cat/0.png", "0"), ("T-shirt/1.png", "1")])
    assert [s.label for s in image_list(table, class_names=names).samples] == [0, 1]
    with pytest.raises(DataError, match="are numbers, and there are no class names"):
        image_list(table)
    with pytest.raises(DataError, match="Expected labels 0 to 0 in .*, got 1"):
        image_list(table, class_names=["a cat"])


def test_parquet_with_other_columns(image_tree: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"file": [r[0] for r in ROWS], "class": [r[1] for r in ROWS]}), tmp_path / "t.parquet")
    found = image_list(tmp_path / "t.parquet", root=image_tree, path_column="file", label_column="class", name="mine")
    assert found.name == "mine" and len(found) == 3
    with pytest.raises(DataError, match="needs one column 'path', but its columns are 'file', 'class'"):
        image_list(tmp_path / "t.parquet", root=image_tree)


def test_cells_are_read_as_written(image_tree: Path) -> None:
    """Labels such as "NA" and "True" are texts, and so is the path "007"."""
    for label in ("NA", "null", "True", "1.50", "2020-01-01", "kite (bird of prey)", "jack-o'-lantern"):
        assert label in image_list(csv(image_tree, [*ROWS, ("cat/1.png", label)])).class_names
    shutil.copy(image_tree / "cat" / "0.png", image_tree / "007")
    assert image_list(csv(image_tree, [("007", "cat")])).samples[0].path == "007"
    with pytest.raises(DataError, match="have no path or no label"):
        image_list(csv(image_tree, [*ROWS, ("cat/1.png", "")]))


@pytest.mark.parametrize("label", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"\xff"])])
def test_columns_that_are_not_text(image_tree: Path, label: pa.Array) -> None:
    pq.write_table(pa.table({"path": ["cat/0.png"], "label": label}), image_tree / "t.parquet")
    with pytest.raises(DataError, match="Cannot read .* as a CSV, TSV or Parquet table of texts and numbers"):
        image_list(image_tree / "t.parquet")


def test_a_column_that_occurs_twice(image_tree: Path) -> None:
    (image_tree / "t.csv").write_text("path,path,label\ncat/0.png,cat/1.png,cat\n")
    with pytest.raises(DataError, match="needs one column 'path', but its columns are 'path', 'path', 'label'"):
        image_list(image_tree / "t.csv")


def test_absolute_paths(image_tree: Path, tmp_path: Path) -> None:
    """Absolute paths, as from `os.walk`, give images the same names as paths relative to the table."""
    whole = [(f"{image_tree}/{path}", label) for path, label in ROWS]
    relative, found = image_list(csv(image_tree, ROWS)), image_list(csv(image_tree, whole))
    assert (found.samples, found.store.root) == (relative.samples, image_tree)
    elsewhere = shutil.move(image_tree / "test.csv", tmp_path / "elsewhere.csv")
    (tmp_path / "empty").mkdir()
    for root in (None, image_tree, tmp_path):
        assert image_list(shutil.copy(elsewhere, tmp_path / "empty" / "t.csv"), root=root).image(0).mode == "RGB"
    with pytest.raises(DataError, match=r"Expected paths inside the dataset, .* got '/.*'; correct it"):
        image_list(elsewhere, root=tmp_path / "empty")
    with pytest.raises(DataError, match="Expected paths inside the dataset, .* got '/"):
        image_list(csv(image_tree, [*ROWS, whole[0]]))
    with pytest.raises(DataError, match="Expected paths inside the dataset"):
        image_list(csv(image_tree, [(f"{image_tree}/cat/../cat/0.png", "cat")]))


@pytest.mark.parametrize("path", ["../outside.png", "cat\\0.png", "cat/../../x.png"])
def test_paths_cannot_leave_the_root(image_tree: Path, path: str) -> None:
    with pytest.raises(DataError, match="Expected paths inside the dataset"):
        image_list(csv(image_tree, [*ROWS, (path, "cat")]))


def test_missing_images_are_counted(image_tree: Path, tmp_path: Path) -> None:
    rows = [*ROWS, ("cat/8.png", "cat"), ("cat/9.png", "cat")]
    with pytest.raises(DataError, match=r"2 of the 5 images .* are missing .*, such as cat/8\.png"):
        image_list(csv(image_tree, rows))
    with pytest.raises(DataError, match="No such file.*Check data.path"):
        image_list(tmp_path / "no.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="Cannot read "):
        image_list(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="have no path or no label"):
        pq.write_table(pa.table({"path": ["a", None], "label": ["x", "y"]}), tmp_path / "null.parquet")
        image_list(tmp_path / "null.parquet")
