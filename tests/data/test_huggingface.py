"""Reads directories saved by Hugging Face's `datasets`."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.own_data import png, save_huggingface
from tpt.data import huggingface_dataset
from tpt.data.images import decode_image
from tpt.errors import BadImageError, DataError

hf = pytest.importorskip("datasets", reason="an optional package: pip install datasets")


def save(folder: Path, images: object = None, labels: object = None, features: object = None, **more: object) -> Path:
    """Saves a `Dataset` without splits, by default of two pictures."""
    images = [{"bytes": png(n), "path": None} for n in range(2)] if images is None else images
    columns = {"image": images, "label": ["cat", "dog"] if labels is None else labels, **more}
    table = hf.Dataset.from_dict(columns)
    table = table.cast_column("image", hf.Image()) if features is None else table.cast(features)
    table.save_to_disk(folder)
    return folder


def test_a_dictionary_of_splits(tmp_path: Path) -> None:
    found = huggingface_dataset(save_huggingface(tmp_path / "pets"))
    assert (found.name, found.split, found.class_names) == ("pets", "test", ["cat", "dog"])
    assert [s.label for s in found.samples] == [0, 1, 1, 0] and found.samples[2].path == "00000002"
    for n in range(4):
        assert np.array_equal(np.asarray(found.image(n)), np.asarray(decode_image(png(n), "x")))
    assert huggingface_dataset(tmp_path / "pets", class_names=["a", "b"]).class_names == ["a", "b"]
    with pytest.raises(DataError, match=r"Expected a split of .* out of test, got 'val'; set data\.split"):
        huggingface_dataset(tmp_path / "pets", split="val")


def test_a_dataset_without_splits_and_with_text_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "plain")
    monkeypatch.chdir(tmp_path / "plain")
    found = huggingface_dataset(".")
    assert (found.name, found.split, found.class_names) == ("plain", "", ["cat", "dog"])


def test_other_columns(tmp_path: Path) -> None:
    save(tmp_path / "d", number=[1, 0])
    names = tmp_path / "names.txt"
    names.write_text("a cat\na dog\n")
    found = huggingface_dataset(tmp_path / "d", label_column="number", class_names=names)
    assert [s.label for s in found.samples] == [1, 0] and found.class_names == ["a cat", "a dog"]
    with pytest.raises(DataError, match="are numbers, and there are no class names"):
        huggingface_dataset(tmp_path / "d", label_column="number")
    with pytest.raises(
        DataError, match=r"Expected the columns 'img' of images and 'label' in .*; set data\.image_column"
    ):
        huggingface_dataset(tmp_path / "d", image_column="img")
    with pytest.raises(DataError, match=r"set data\.image_column and data\.label_column"):
        huggingface_dataset(tmp_path / "d", label_column="class")
    with pytest.raises(DataError, match="Expected the columns 'label' of images"):
        huggingface_dataset(tmp_path / "d", image_column="label")


@pytest.mark.parametrize("labels", [["cat", None], [["cat"], ["dog"]]])
def test_labels_that_are_neither_numbers_nor_texts(tmp_path: Path, labels: list[object]) -> None:
    with pytest.raises(DataError, match="Column 'label' of .* does not hold whole numbers or texts"):
        huggingface_dataset(save(tmp_path / "d", labels=labels))


def test_the_label_minus_one_is_refused(tmp_path: Path) -> None:
    """Test sets with secret labels have the label -1."""
    with pytest.raises(DataError, match="Expected labels 0 to 1 in .*, got -1"):
        huggingface_dataset(save(tmp_path / "d", labels=[-1, 0]), class_names=["a", "b"])


def test_rows_without_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    images = [{"bytes": None, "path": str(tmp_path / "a.png")}, None, {"bytes": b"broken", "path": None}]
    found = huggingface_dataset(save(tmp_path / "d", images, ["a", "b", "c"]))
    (tmp_path / "a.png").unlink()
    assert found.image(0).size == (8, 8)  # `save_to_disk` has copied the file
    for n, message in ((1, "row 1 is not inside"), (2, "Cannot decode the image")):
        with pytest.raises(BadImageError, match=message):
            found.image(n)


def test_other_or_damaged_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"that `save_to_disk` wrote .*not found.*Check data.path"):
        huggingface_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="Cannot read .*, or save it again") as caught:
        huggingface_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    save(tmp_path / "d")
    for file in (tmp_path / "d").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="Cannot read "):
        huggingface_dataset(tmp_path / "d")
    shutil.rmtree(tmp_path / "d")

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"package `datasets`.*pip install datasets"):
        huggingface_dataset(tmp_path)
