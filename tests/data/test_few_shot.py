"""Few-shot draws, halves of the classes, and training batches made from them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import noise_image
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.few_shot import draw_shots
from tpt.data.folder import image_folder
from tpt.data.shots import EpochSampler, InOrderSampler, LabelledImages, ShotsDataModule
from tpt.errors import DataError

COUNTS = {"ant": 6, "bee": 2, "cat": 9, "dog": 5, "eel": 7}


def tree(root: Path, counts: dict[str, int] = COUNTS) -> ImageDataset:
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            noise_image(100 * k + i, (40, 36)).save(root / name / f"{i}.png")
    return image_folder(root)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return tree(tmp_path_factory.mktemp("train") / "train")


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return tree(tmp_path_factory.mktemp("val") / "val", dict.fromkeys(COUNTS, 6))


def as_the_official_programs_draw(datasets: list[tuple[ImageDataset, int]], seed: int) -> list[list[str]]:
    """As in Dassl: the `random` module, seeded once, then `sample` for each class by first appearance."""
    random.seed(seed)
    drawn = []
    for dataset, shots in datasets:
        tracker = defaultdict(list)
        for sample in dataset.samples:
            tracker[sample.label].append(sample.path)
        drawn.append(
            [p for paths in tracker.values() for p in (random.sample(paths, shots) if len(paths) >= shots else paths)]
        )
    return drawn


@pytest.mark.parametrize("shots", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_draw_equals_the_official_one(train: ImageDataset, val: ImageDataset, shots: int, seed: int) -> None:
    shuffled = random.Random(7).sample(train.samples, len(train.samples))
    train = ImageDataset("train", train.class_names, shuffled, train.store)  # the classes first appear in another order
    theirs = as_the_official_programs_draw([(train, shots), (val, min(shots, 4))], seed)
    ours = draw_shots(train, val, shots, seed)
    assert ours.val is not None
    assert [[s.path for s in d.samples] for d in (ours.train, ours.val)] == theirs
    assert len(ours.train) == sum(min(shots, c) for c in COUNTS.values())


def test_the_seed_fixes_the_draw_without_global_state(train: ImageDataset) -> None:
    before = random.getstate()
    first, again, other = (draw_shots(train, None, 3, seed) for seed in (1, 1, 2))
    assert random.getstate() == before
    assert first.files() == again.files()
    assert first.files() != other.files()


def test_too_few_images_are_all_used_and_noted(train: ImageDataset, val: ImageDataset) -> None:
    shots = draw_shots(train, val, 6, seed=1)
    assert Counter(s.label for s in shots.train.samples) == {0: 6, 1: 2, 2: 6, 3: 5, 4: 6}
    assert any(
        "training: 2 classes have fewer than 6 images, all were taken (1 of them 2, 1 of them 5)" in n
        for n in shots.notes
    )
    assert not any(n.startswith("training") for n in draw_shots(train, val, 2, seed=1).notes)


def test_without_a_validation_split_undrawn_images_validate(train: ImageDataset) -> None:
    shots = draw_shots(train, None, 5, seed=1)
    assert shots.val is not None
    assert Counter(s.label for s in shots.val.samples) == {0: 1, 2: 4, 4: 2}
    assert not {s.path for s in shots.train.samples} & {s.path for s in shots.val.samples}
    assert any("were not drawn" in note for note in shots.notes)
    assert draw_shots(train, None, 16, seed=1).val is None
    assert len(draw_shots(train, None, None).train) == sum(COUNTS.values())


def test_a_picture_drawn_twice_is_noted(tmp_path: Path) -> None:
    whole = tree(tmp_path / "p", {"ant": 2, "bee": 2})
    assert not any("more than once" in note for note in draw_shots(whole, None, 2).notes)
    (tmp_path / "p" / "bee" / "0.png").write_bytes((tmp_path / "p" / "ant" / "1.png").read_bytes())
    (note,) = (note for note in draw_shots(whole, None, 2).notes if "more than once" in note)
    assert note.startswith("pictures drawn more than once: 1, such as") and note.endswith(
        "; 1 of them with different labels"
    )
    assert "ant/1.png" in note and "bee/0.png" in note


def test_files_name_split_class_and_path(train: ImageDataset, val: ImageDataset) -> None:
    files = draw_shots(train, val, 1, seed=1).files()
    assert [f["class"] for f in files] == [*COUNTS, *COUNTS]
    assert {f["split"] for f in files} == {"train", "val"}
    assert all(f["path"].startswith(f["class"] + "/") for f in files)


def test_halves_of_the_classes(train: ImageDataset, val: ImageDataset) -> None:
    whole = draw_shots(train, val, 2, seed=1)
    base, new = (draw_shots(train, val, 2, 1, classes) for classes in ("base", "new"))
    assert base.train.class_names == ["ant", "bee", "cat"]  # the first half, rounded up
    assert new.train.class_names == ["dog", "eel"]
    assert {s.label for s in new.train.samples} == {0, 1}
    both = [f for f in base.files() if f["split"] == "train"] + [f for f in new.files() if f["split"] == "train"]
    assert both == [f for f in whole.files() if f["split"] == "train"]  # drawn before halving
    assert base.val is not None
    assert base.val.class_names == base.train.class_names
    assert "base classes: 3 of 5" in base.train.notes


def test_wrong_settings_and_classes(train: ImageDataset, val: ImageDataset) -> None:
    with pytest.raises(ValueError, match="`shots` to be a whole number of at least 1 or null"):
        draw_shots(train, None, 0)
    with pytest.raises(ValueError, match="`classes` to be all or base or new, got 'old'"):
        train.half("old")  # type: ignore[arg-type]
    other = ImageDataset("other", ["a"], [Sample("a/0.png", 0)], val.store)
    with pytest.raises(DataError, match="The classes of 'train' and 'other' differ"):
        draw_shots(train, other, 1)
    with pytest.raises(DataError, match="at least two classes to halve"):
        other.half("base")


def test_crops_depend_only_on_seed_epoch_and_image(train: ImageDataset) -> None:
    images = LabelledImages(train, 32, seed=1)
    crop, label, path = images[3, 5]
    assert (crop.shape, crop.dtype) == ((3, 32, 32), torch.uint8)
    assert (label, path) == (train.samples[5].label, train.samples[5].path)
    before = torch.random.get_rng_state()
    assert torch.equal(images[3, 5][0], crop)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(images[4, 5][0], crop)
    assert not torch.equal(LabelledImages(train, 32, seed=2)[3, 5][0], crop)


def test_training_crops_are_bicubic_random_resized_crops(train: ImageDataset) -> None:
    images = LabelledImages(train, 32, seed=1)
    crop_step, flip_step = images._random.transforms
    assert (crop_step.scale, crop_step.interpolation.value) == ((0.08, 1.0), "bicubic")
    assert flip_step.p == 0.5
    whole = train.image(5)
    resized = whole.resize((32 * 40 // 36, 32), Image.Resampling.BICUBIC)  # the shorter side becomes 32
    left = round((resized.width - 32) / 2)
    expected = torch.tensor(list(resized.crop((left, 0, left + 32, 32)).getdata()), dtype=torch.uint8)
    assert torch.equal(images[-1, 5][0], expected.view(32, 32, 3).permute(2, 0, 1))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_validation_visits_every_image_once_over_all_processes(train: ImageDataset, processes: int) -> None:
    images = LabelledImages(train, 32, seed=1)
    samplers = [InOrderSampler(images, processes, rank, shuffle=False) for rank in range(processes)]
    assert sorted(i for s in samplers for _, i in s) == list(range(len(train)))
    assert all(len(list(s)) == len(s) for s in samplers)


def test_order_depends_on_seed_and_epoch(train: ImageDataset) -> None:
    def keys(epoch: int, seed: int = 1) -> list[tuple[int, int]]:
        return list(EpochSampler(LabelledImages(train, 32, 1), 1, 0, seed, lambda: epoch))

    assert keys(2) == keys(2)
    assert {epoch for epoch, _ in keys(2)} == {2}
    assert sorted(i for _, i in keys(2)) == list(range(len(train)))
    assert [i for _, i in keys(2)] != [i for _, i in keys(3)]
    assert keys(2) != keys(2, seed=5)


@pytest.mark.parametrize(("batch_size", "batches"), [(4, 2), (10, 1), (32, 1)])
def test_a_smaller_last_batch_is_dropped_after_a_full_one(train: ImageDataset, batch_size: int, batches: int) -> None:
    data = ShotsDataModule(draw_shots(train, None, 2, seed=1), batch_size=batch_size).use_image_size(32)
    loader = data.train_dataloader()
    found = list(loader)
    assert len(found) == len(loader) == batches
    assert sum(len(batch.paths) for batch in found) == (8 if batch_size == 4 else 10)
    assert found[0].images.shape[1:] == (3, 32, 32)
    assert len(found[0].images) == len(found[0].labels) == min(batch_size, 10)


def test_no_loader_without_validation_images(train: ImageDataset) -> None:
    data = ShotsDataModule(draw_shots(train, None, 16, seed=1)).use_image_size(32)
    assert data.val_dataloader() == []
    with pytest.raises(ValueError, match="`batch_size` to be a whole number of at least 1"):
        ShotsDataModule(draw_shots(train, None, 1), batch_size=0)
