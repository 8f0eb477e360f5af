"""Class names that are the same prompt to the model, and labels that are ambiguous."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tpt
from tests.data.archives import zip_of_names
from tests.data.test_shards import members
from tests.own_data import png, write_shard
from tests.untrusted import FUZZ
from tpt.clip.prompts.learner import clean_name
from tpt.clip.tokens import Tokenizer
from tpt.data import ImageDataset, feature_file, huggingface_dataset, image_folder, image_list, tar_shards
from tpt.data.catalog.names import imagenet_classes
from tpt.data.labels import json_label, number_labels
from tpt.errors import DataError, UserError, refuse_one_prompt, text_key, ties

ENCODE = Tokenizer().encode
NFD = unicodedata.normalize("NFD", "café")
ALIKE = [("Pizza", "pizza"), ("banana ", "banana"), ("AT&amp;T", "AT&T"), ("hot__dog", "hot_dog"), (NFD, "café"),
         ("hot dog", "hot_dog"), ("hot\tdog", "hot dog"), ("ÉTÉ", "été")]  # fmt: skip


def folders(root: Path, names: tuple[str, ...]) -> ImageDataset:
    for number, name in enumerate(names):
        (root / "pictures" / name).mkdir(parents=True)
        (root / "pictures" / name / "a.png").write_bytes(png(number))
    return image_folder(root / "pictures")


def zipped(root: Path, names: tuple[str, ...]) -> ImageDataset:
    return image_folder(zip_of_names(root / "t.zip", [f"{name}/a.png".encode() for name in names]))


def pictures(root: Path, count: int) -> list[str]:
    for number in range(count):
        (root / f"{number}.png").write_bytes(png(number))
    return [f"{number}.png" for number in range(count)]


def listed(root: Path, names: tuple[str, ...]) -> ImageDataset:
    """The names are in a list, since labels that differ only in NFC and NFD are rightly one class."""
    (root / "t.csv").write_text("path,label\n" + "".join(f"{p},0\n" for p in pictures(root, 1)))
    return image_list(root / "t.csv", class_names=list(names))


def labelled(root: Path, names: tuple[str, ...]) -> ImageDataset:
    pq.write_table(pa.table({"path": pictures(root, len(names)), "label": list(names)}), root / "t.parquet")
    return image_list(root / "t.parquet")


def shards(root: Path, names: tuple[str, ...]) -> ImageDataset:
    return tar_shards(write_shard(root / "t.tar", [("a", "0")]), class_names=list(names))


def huggingface(root: Path, names: tuple[str, ...]) -> ImageDataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    rows = {"image": [{"bytes": png(), "path": None}], "label": [0]}
    datasets.Dataset.from_dict(rows, features).save_to_disk(root / "hf")
    return huggingface_dataset(root / "hf")


@pytest.mark.parametrize("reader", [folders, zipped, listed, shards, huggingface])
@pytest.mark.parametrize("pair", ALIKE, ids=[ascii(one) for one, _ in ALIKE])
def test_two_classes_with_the_same_prompt(
    reader: Callable[[Path, tuple[str, ...]], ImageDataset], pair: tuple[str, str], tmp_path: Path
) -> None:
    """Every reader refuses two class names that are the same prompt."""
    with pytest.raises(DataError, match=r"Two classes .* are the same prompt to the model: .*Rename one"):
        reader(tmp_path, (*pair, "dog"))


def test_table_labels_with_the_same_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"same prompt .*'AT&T' and 'at&amp;t' \(classes 0 and 1\)"):
        labelled(tmp_path, ("AT&T", "at&amp;t"))
    found = labelled(tmp_path, ("café", NFD, "dog"))
    assert found.class_names == ["café", "dog"] and found.labels() == [0, 0, 1]


def test_accents_that_differ_in_bytes_are_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9'"):
        folders(tmp_path, (NFD, "café"))


def test_the_python_interface_compares_tokens(clip: tpt.CLIP) -> None:
    for method in (tpt.TPT, tpt.ZeroShot):
        for one, other in ALIKE:
            with pytest.raises(UserError, match=r"are the same prompt to the model: .* \(classes 1 and 2\)"):
                method(clip, ["dog", one, other])
    with pytest.raises(UserError, match="are the same prompt"):
        tpt.ZeroShot(clip, ["Pizza", "pizza"], templates=["a {}.", "the {}."])
    # Only the tokenizer replaces ligatures and curly quotes.
    with pytest.raises(UserError, match="are the same prompt"):
        tpt.TPT(clip, ["jack-o\u2019-lantern", "jack-o'-lantern"])
    assert tpt.TPT(clip, ["Pizza", "pizza"], learned_class_token=True).class_names == ["Pizza", "pizza"]


def test_imagenets_own_duplicate_names_are_allowed(clip: tpt.CLIP, tmp_path: Path) -> None:
    """Only ImageNet's list or its second half may have duplicates, as in CLIP_benchmark's `classnames.txt`."""
    names = list(imagenet_classes().values())
    (tmp_path / "classnames.txt").write_text("\n".join(names))
    found = tar_shards(write_shard(tmp_path / "t.tar", [("a", "657")]))
    note = "two classes are called 'missile' and two 'sunglasses', so their answers tie"
    assert found.class_names == names and note in found.notes
    new = found.half("new")
    assert len(new.class_names) == 500 and new.notes.count(note) == 1 and new.labels() == [157]
    assert refuse_one_prompt(names[:500], names[:500]) == []
    assert len(tpt.ZeroShot(clip, names).class_names) == 1000
    for damaged in (["missile", "missile"], [*names[:999], "missile"], names[:745]):
        with pytest.raises(UserError, match="'missile' and 'missile'"):
            refuse_one_prompt(damaged, [text_key(name) for name in damaged])


@FUZZ
@given(names=st.lists(st.sampled_from(["cat", "Cat", "c\u0101t", "ca\u0304t", "a&b", "a&amp;b", "a_b", "a  b", "dog"])))
def test_names_equal_as_text_are_equal_as_tokens(names: list[str]) -> None:
    """The text check finds only pairs that the token check also finds."""
    by_text = set(ties([text_key(name) for name in names]))
    assert by_text <= set(ties([tuple(ENCODE(clean_name(name))) for name in names]))


PATH = Path("labels of a table")


@pytest.mark.parametrize("labels", [["0.0", "1.0"], ["0", "1"], [0.0, 1.0], [0, 1], ["0.", "1.0"], ["00", "1"]])
def test_whole_numbers_in_every_spelling(labels: list[object]) -> None:
    assert number_labels(labels, ["cat", "dog"], PATH) == (["cat", "dog"], [0, 1])
    with pytest.raises(DataError, match="are numbers, and there are no class names"):
        number_labels(labels, None, PATH)


def test_csv_and_parquet_agree(tmp_path: Path) -> None:
    """Whole numbers may be floats, as pandas writes a column that once had missing values."""
    paths = pictures(tmp_path, 2)
    (tmp_path / "t.csv").write_text(f"path,label\n{paths[0]},1.0\n{paths[1]},0.0\n")
    pq.write_table(pa.table({"path": paths, "label": [1.0, 0.0]}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert image_list(tmp_path / name, class_names=["cat", "dog"]).labels() == [1, 0]
    pq.write_table(pa.table({"path": paths, "label": [1.0, math.nan]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="Expected labels out of .*, got 'nan'"):
        image_list(tmp_path / "t.parquet", class_names=["cat", "dog"])


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["0", "1"], ["1", "2", "0"], r"may count classes from 0 or be names"),
        (["1", "2"], ["1", "2", "3"], r"may count classes from 0 or be names"),
        (["0.5", "1.0"], None, r"got '0.5': no label, a measured value, or a class"),
        (["0", "1", "nan"], None, r"got 'nan': no label"),
        (["0.0", "1.0", "NA"], ["a", "b"], r"got 'NA'"),
        (["0", "", "1"], ["a", "b"], "1 of the 3 rows .* have no label"),
        (["0", "2"], ["a", "b"], "Expected labels 0 to 1 in .*, got 2; check data.class_names.$"),
        (["1", "2"], ["a", "b"], "got 2; check data.class_names, or set data.first_label=1 if labels start at 1"),
        (["1", "2"], ["a", "b", "c"], r"from 0 \(1 is 'b'\) or from 1 \(1 is 'a'\)\. Set data.first_label=0 or .*=1"),
    ],
)
def test_ambiguous_or_invalid_labels(labels: list[str], names: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        number_labels(labels, names, PATH)


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["1", "2", "3"], ["1", "2", "3"], [0, 1, 2]),  # 3 is not a class number
        (["0", "1"], ["0", "1", "2"], [0, 1]),  # both readings agree
        (["0.5", "1.5"], ["1.5", "0.5"], [1, 0]),
        (["747", "Hawk"], None, [0, 1]),
        (["NA", "cat"], None, [0, 1]),
        ([" dog", "cat"], ["cat", "dog "], [1, 0]),
        ([NFD, "dog"], ["dog", "café"], [1, 0]),
    ],
)
def test_unambiguous_labels(labels: list[str], names: list[str] | None, numbers: list[int]) -> None:
    assert number_labels(labels, names, PATH)[1] == numbers


def test_a_key_named_none_is_no_default() -> None:
    with pytest.raises(DataError, match="among the keys in data.class_names, such as None, got 'dog'"):
        number_labels(["dog", "cat"], ["None\tnothing", "cat\tkitty"], PATH)


@pytest.mark.parametrize("label", ["table", "shards", "hub", "features"])
def test_labels_that_may_start_at_0_or_1(label: str, tmp_path: Path) -> None:
    """Every reader refuses such labels unless a setting gives the first one; text labels are not ambiguous."""
    read = {"table": numbered_table, "shards": numbered_shards, "hub": numbered_hub, "features": numbered_features}
    reader, names = read[label](tmp_path), ["ant", "cat", "dog"]
    with pytest.raises(DataError, match=r"Set data\.first_label=0 or data\.first_label=1"):
        reader(class_names=names)
    assert reader(class_names=names, first_label=0).labels() == [1, 2]
    assert reader(class_names=names, first_label=1).labels() == [0, 1]
    assert reader(class_names=["1\tcat", "2\tdog", "3\tant"]).labels() == [0, 1]
    with pytest.raises(DataError, match="Expected labels 1 to 1 in .*, got 2"):
        reader(class_names=["cat"], first_label=1)
    assert number_labels(["cat", "dog"], names, PATH)[1] == [1, 2]


def numbered_table(root: Path) -> Callable[..., ImageDataset]:
    paths = pictures(root, 2)
    (root / "t.csv").write_text(f"path,label\n{paths[0]},1\n{paths[1]},2\n")
    return partial(image_list, root / "t.csv")


def numbered_shards(root: Path) -> Callable[..., ImageDataset]:
    return partial(tar_shards, write_shard(root / "t.tar", [("a", "1"), ("b", "2")]))


def numbered_hub(root: Path) -> Callable[..., ImageDataset]:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(2)], "label": [1, 2]}
    datasets.Dataset.from_dict(rows, features).save_to_disk(root / "hub")
    return partial(huggingface_dataset, root / "hub")


def numbered_features(root: Path) -> Callable[..., ImageDataset]:
    np.savez(root / "f.npz", features=np.eye(2), labels=np.array([1, 2]))
    return lambda **settings: feature_file(root / "f.npz", **settings)[0]


LABEL = st.one_of(st.integers(-2, 4), st.sampled_from([0.0, 1.0, 2.5, math.nan]), st.text(max_size=3), st.none())


@FUZZ
@given(labels=st.lists(LABEL, min_size=1, max_size=5), names=st.none() | st.lists(st.text(max_size=3), max_size=5))
def test_any_labels(labels: list[object], names: list[str] | None) -> None:
    """Any labels give a DataError, or one class number per label."""
    try:
        found, numbers = number_labels(labels, names, PATH)
    except DataError as error:
        assert str(PATH) in str(error)
        return
    assert len(numbers) == len(labels) and all(0 <= k < len(found) for k in numbers)


@pytest.mark.parametrize(
    ("content", "label"),
    [({"label": 0}, "0"), ({"label": "cat", "width": 3}, "cat"), ({"cls": 1.0}, "1.0"), (7, "7"), ("dog", "dog")],
)
def test_labels_in_json(content: object, label: str) -> None:
    assert json_label(json.dumps(content)) == label


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"label": 0, "cls": 1}, "JSON that is not one number, text or object with one `label`"),
        ({"caption": "a cat"}, "JSON that is not one number, text or object with one `label`"),
        ([0, 1], "JSON that is not one number"),
        (True, "JSON that is not one number"),
    ],
)
def test_json_without_a_single_label(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        json_label(json.dumps(content))


def test_shards_with_labels_in_json(tmp_path: Path) -> None:
    files = {"a.png": png(), "a.json": b'{"label": 1}', "b.png": png(1), "b.json": b'{"label": 0}'}
    shard = members(tmp_path / "t.tar", files)
    assert tar_shards(shard, label_key="json", class_names=["cat", "dog"]).labels() == [1, 0]
    with pytest.raises(DataError, match="are numbers, and there are no class names"):
        tar_shards(shard, label_key="json")
    with pytest.raises(DataError, match="object with one `label`"):
        tar_shards(members(tmp_path / "u.tar", {**files, "a.json": b'{"label": 1, "cls": 2}'}), label_key="json")


def test_numbered_folders(tmp_path: Path) -> None:
    """Folders named by numbers may be class numbers; sorted as text they are 0, 1, 10, 2."""
    with pytest.raises(DataError, match=r"Expected folders in .*, got 0, which is a number"):
        folders(tmp_path, ("0", "1", "2", "10"))
    root, names = tmp_path / "pictures", ["zero", "one", "two", "ten"]
    with pytest.raises(DataError, match=r"'10' gets the name 'two', which may belong to '2'"):
        image_folder(root, class_names=names)
    by_name = [f"{folder}\t{name}" for folder, name in zip(("0", "1", "2", "10"), names, strict=True)]
    assert image_folder(root, class_names=by_name).class_names == ["zero", "one", "ten", "two"]
    (root / "10").rename(root / "3")
    assert image_folder(root, class_names=names).class_names == names


def test_folders_of_wordnet_ids(tmp_path: Path) -> None:
    found = folders(tmp_path, ("n01440764", "n07753592"))
    assert found.class_names == ["tench", "banana"]
    assert found.notes[0] == "the folders are WordNet ids; the class names are ImageNet's"
    (tmp_path / "pictures" / "n00000001").mkdir()
    with pytest.raises(DataError, match="all by WordNet ids of ImageNet, got n00000001"):
        image_folder(tmp_path / "pictures")
