"""Every reader of a user's own data gives the same pictures."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from tests.conftest import noise_image
from tests.data.test_images import encoded
from tests.data.test_orientation import exif
from tpt.data import (
    EpisodeDataModule,
    ImageDataset,
    emoji_shift,
    huggingface_dataset,
    image_folder,
    image_list,
    tar_shards,
)
from tpt.errors import UserError

CLASSES = ["cat", "dog", "owl"]
LABELS = [number % 3 for number in range(6)]
PICTURES = [encoded(noise_image(n, (8, 6)), "JPEG", exif=exif(6 if n < 2 else 1)) for n in range(6)]
Read = Callable[..., ImageDataset]


def folder(root: Path) -> Read:
    for number, content in enumerate(PICTURES):
        path = root / "p" / CLASSES[LABELS[number]] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return lambda **settings: image_folder(root / "p", **settings)


def archive(root: Path) -> Read:
    folder(root)
    shutil.make_archive(str(root / "p"), "zip", root / "p")
    return lambda **settings: image_folder(root / "p.zip", **settings)


def table(root: Path) -> Read:
    folder(root)
    rows = [f"{CLASSES[label]}/{number}.jpg,{CLASSES[label]}" for number, label in enumerate(LABELS)]
    (root / "p" / "t.csv").write_text("\n".join(["path,label", *rows]))
    return lambda **settings: image_list(root / "p" / "t.csv", **settings)


def shards(root: Path) -> Read:
    with tarfile.open(root / "t.tar", "w") as file:
        for number, content in enumerate(PICTURES):
            for suffix, part in (("jpg", content), ("cls", CLASSES[LABELS[number]].encode())):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(part)
                file.addfile(member, io.BytesIO(part))
    return lambda **settings: tar_shards(root / "t.tar", **settings)


def huggingface(root: Path) -> Read:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    rows = {"image": [{"bytes": content, "path": None} for content in PICTURES], "label": LABELS}
    datasets.Dataset.from_dict(rows, features).save_to_disk(root / "hf")
    return lambda **settings: huggingface_dataset(root / "hf", **settings)


@pytest.mark.parametrize("make", [folder, archive, table, shards, huggingface])
def test_every_reader_gives_the_same_pictures(make: Callable[[Path], Read], tmp_path: Path) -> None:
    read = make(tmp_path)
    found, lying = read(name="mine"), read(orientation="ignore")
    assert found.name == "mine" and found.class_names == CLASSES and sorted(found.labels()) == sorted(LABELS)
    assert found.all_notes() == [
        "2 of 6 pictures were turned upright as their orientation tags say (data.orientation=ignore leaves them)"
    ]
    assert lying.all_notes() == [] and found.file_identity(0) != lying.file_identity(0)
    sizes = sorted(found.image(index).size for index in range(6))
    assert sizes == sorted([(6, 8)] * 2 + [(8, 6)] * 4) and {lying.image(i).size for i in range(6)} == {(8, 6)}
    copied = pickle.loads(pickle.dumps(found))  # as sent to workers
    assert all(np.array_equal(np.asarray(copied.image(i)), np.asarray(found.image(i))) for i in range(6))

    some, whole = lying.subset(3, seed=1), lying.subset(100)
    assert len(some) == 3 and some.size == 6 and some.notes == ["3 of 6 images, drawn with seed 1"]
    assert some.samples == read().subset(3, seed=1).samples and whole.samples == lying.samples and whole.notes == []
    assert any(some.samples != lying.subset(3, seed=seed).samples for seed in (2, 3, 4))
    new = lying.half("new")
    assert new.class_names == ["owl"] and len(new) == 2 and "new classes: 1 of 3" in new.notes


@pytest.mark.parametrize("make", [folder, archive, table, shards, huggingface])
def test_every_reader_refuses_a_wrong_orientation(make: Callable[[Path], Read], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected `orientation`"):
        make(tmp_path)(orientation="turn")


@pytest.mark.parametrize("setting", [{"limit": 0}, {"classes": "half"}])
def test_the_data_module_refuses_wrong_settings(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(UserError, match=rf"Expected `{name}`"):
        EpisodeDataModule([emoji_shift("twemoji")], **setting)
