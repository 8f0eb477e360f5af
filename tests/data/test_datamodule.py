"""Batches of episodes."""

from pathlib import Path

import pytest
import torch

from tpt.data import EpisodeBatch, EpisodeDataModule, image_folder
from tpt.errors import BadImageError
from tpt.views import AugMix, Views


def batches(root: Path, **settings: object) -> list[EpisodeBatch]:
    module = EpisodeDataModule([image_folder(root)], **settings)  # type: ignore[arg-type]
    return list(module.use_views(Views(16, 4)).test_dataloader()[0])


def by_path(found: list[EpisodeBatch]) -> dict[str, torch.Tensor]:
    return {path: views for batch in found for path, views in zip(batch.paths, batch.views, strict=True)}


def test_batches(image_tree: Path) -> None:
    found = batches(image_tree, batch_size=5)
    assert [len(b) for b in found] == [5, 5, 2]
    assert found[0].views.shape == (5, 4, 3, 16, 16) and found[0].views.dtype == torch.uint8
    assert torch.cat([b.indices for b in found]).tolist() == list(range(12))
    assert torch.cat([b.labels for b in found]).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_views_depend_only_on_the_image(image_tree: Path) -> None:
    """Batch size, number of workers and other images do not change a view."""
    expected = by_path(batches(image_tree, batch_size=5))
    for settings in ({"batch_size": 1}, {"batch_size": 3, "num_workers": 2}):
        found = by_path(batches(image_tree, **settings))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[p], expected[p]) for p in expected)
    (image_tree / "T-shirt" / "0.png").unlink()
    fewer = by_path(batches(image_tree, batch_size=4))
    assert len(fewer) == 11 and all(torch.equal(fewer[p], expected[p]) for p in fewer)


@pytest.mark.parametrize("augmix", [None, AugMix()], ids=["crops", "augmix"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_device_views_match_loader_views(image_tree: Path, num_workers: int, augmix: AugMix | None) -> None:
    (image_tree / "cat" / "1.png").write_bytes(b"broken")
    settings = {"batch_size": 4, "num_workers": num_workers, "on_bad_image": "skip"}
    pair = []
    for made_on in ("loader", "device"):
        module = EpisodeDataModule([image_folder(image_tree)], **settings)  # type: ignore[arg-type]
        loader = module.use_views(Views(16, 4, augmix, made_on=made_on)).test_dataloader()[0]
        arrived = [batch.to(torch.device("cpu")) for batch in loader]
        assert all(isinstance(batch.views, list) == (made_on == "device") for batch in arrived)
        pair.append(by_path([module.on_after_batch_transfer(batch, 0) for batch in arrived]))
    made, rendered = pair
    assert made.keys() == rendered.keys() and len(made) == 11
    for path, views in made.items():
        assert rendered[path].dtype == views.dtype
        difference = (rendered[path].double() - views.double()).abs().mean()
        assert float(difference) < (0.2 if augmix is None else 0.02)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_image(image_tree: Path, num_workers: int) -> None:
    (image_tree / "cat" / "1.png").write_bytes(b"broken")
    with pytest.raises(BadImageError, match=r"cat/1\.png"):
        batches(image_tree, batch_size=4, num_workers=num_workers)
    found = batches(image_tree, batch_size=4, num_workers=num_workers, on_bad_image="skip")
    assert [len(b) for b in found] == [4, 3, 4]
    assert [bad.path for b in found for bad in b.bad] == ["cat/1.png"]


def test_a_batch_with_only_bad_images(image_tree: Path) -> None:
    (image_tree / "cat" / "1.png").write_bytes(b"broken")
    found = batches(image_tree, batch_size=1, on_bad_image="skip")
    assert [len(b) for b in found].count(0) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_bad_image": "ignore"}, r"Expected `on_bad_image` to be error or skip"),
        ({"batch_size": 0}, r"Expected `batch_size` to be a whole number of at least 1"),
    ],
)
def test_settings(image_tree: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(image_tree, **settings)


def test_datasets_need_different_names(image_tree: Path) -> None:
    with pytest.raises(ValueError, match="datasets of different names, got pictures, pictures"):
        EpisodeDataModule([image_folder(image_tree)] * 2)
    for name in ("average", "shifted", "ood_average"):  # else logs and tables would have two values of one name
        with pytest.raises(ValueError, match=f"another name than those of averages, got {name}"):
            EpisodeDataModule([image_folder(image_tree, name=name)])
    with pytest.raises(ValueError, match="at least one dataset"):
        EpisodeDataModule([])
