"""Cache keys, and cached features that equal the encoder's output."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tpt
from tests.conftest import noise_image
from tpt.data import EpisodeBatch, EpisodeDataModule, image_folder
from tpt.data.cache import CachedViews, FeatureCache
from tpt.data.cache.cache import encoding_environment
from tpt.data.cache.store import FeatureStore, size
from tpt.engine.tasks.adaptation import AdaptationTask
from tpt.views import AugMix, Views

PARTIAL = 4  # views


@pytest.fixture
def cache(clip: tpt.CLIP, tmp_path: Path) -> FeatureCache:
    return FeatureCache(clip, folder=tmp_path / "kept")


def views_of(clip: tpt.CLIP, num_views: int = 8, **settings: Any) -> Views:
    return Views(clip.image_size, num_views, **settings)


def loaded(root: Path, maker: Any, cache: FeatureCache | None, **settings: Any) -> list[EpisodeBatch]:
    """The batches of a run, after the transfer to the device."""
    module = EpisodeDataModule([image_folder(root)], **{"batch_size": 5, **settings}).use_views(maker)
    if cache is not None:
        module.use_cache(cache)
    return [module.on_after_batch_transfer(batch, 0) for batch in module.test_dataloader()[0]]


def episode(clip: tpt.CLIP, root: Path, maker: Any, folder: Path | None, **settings: Any) -> tuple[Any, FeatureCache]:
    """Features and norms of all images by path, as passed to the method, and the cache with its counts."""
    more = settings.pop("cache", {})
    cache, others = FeatureCache(clip, folder=folder, **more), more.get("others")
    task = AdaptationTask(clip, lambda _: None, [image_folder(root)], cache=cache, encoders=others)  # type: ignore[arg-type, return-value]
    found = {}
    for batch in loaded(root, maker, cache, **settings):
        features, extras = task.features(batch)
        found.update(zip(batch.paths, zip(features, *extras.values(), strict=True), strict=True))
    cache.close(lambda counts: counts, torch.device("cpu"))
    return found, cache


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(a, b) for path in left for a, b in zip(left[path], right[path], strict=True)
    )


@pytest.mark.parametrize("made_on", ["loader", "device"])
@pytest.mark.parametrize("augmix", [None, AugMix()], ids=["crops", "augmix"])
def test_a_hit_equals_the_encoded_features(
    clip: tpt.CLIP, image_tree: Path, tmp_path: Path, augmix: AugMix | None, made_on: str
) -> None:
    maker = views_of(clip, augmix=augmix, made_on=made_on)
    plain, off = episode(clip, image_tree, maker, None)
    first, filled = episode(clip, image_tree, maker, tmp_path / "kept")
    second, hit = episode(clip, image_tree, maker, tmp_path / "kept")
    assert same(plain, first) and same(plain, second)
    counts = [(c.encoded, c.from_cache) for c in (off, filled, hit)]
    assert counts == [(12, 0), (12, 0), (0, 12)]


def test_order_batch_size_and_workers_do_not_matter(clip: tpt.CLIP, image_tree: Path, tmp_path: Path) -> None:
    maker = views_of(clip)
    plain, _ = episode(clip, image_tree, maker, tmp_path / "kept")
    shuffled, hit = episode(clip, image_tree, maker, tmp_path / "kept", order="shuffled", batch_size=4, num_workers=1)
    assert hit.encoded == 0 and same(plain, shuffled)


def test_features_of_further_encoders_are_stored_too(
    clip: tpt.CLIP, noise_clip: Callable[..., tpt.CLIP], image_tree: Path, tmp_path: Path
) -> None:
    """A run whose backbone is a further encoder finds its features; stored features are not written again."""
    maker, folder, other = views_of(clip), tmp_path / "kept", noise_clip("vit", 2)
    both: dict[str, Any] = {"others": {"teacher": other}}
    episode(clip, image_tree, maker, folder)
    before = size(folder)
    off, _ = episode(clip, image_tree, maker, None, cache=dict(both))
    filled, first = episode(clip, image_tree, maker, folder, cache=dict(both))
    assert 1.9 * before < size(folder) < 2.1 * before
    hit, second = episode(clip, image_tree, maker, folder, cache=dict(both), num_workers=1)
    assert same(off, filled) and same(off, hit) and [first.encoded, second.encoded, second.from_cache] == [12, 0, 12]
    plain, _ = episode(other, image_tree, maker, None)
    alone, third = episode(other, image_tree, maker, folder)
    assert same(plain, alone) and third.encoded == 0
    for path, (_, _, features, norm) in off.items():
        assert torch.equal(features, plain[path][0]) and torch.equal(norm, plain[path][1])


def test_fewer_views_are_the_first_of_more(clip: tpt.CLIP, image_tree: Path, tmp_path: Path) -> None:
    """Fewer views are the first of the stored ones; more views are encoded again, once."""
    folder = tmp_path / "kept"
    many, _ = episode(clip, image_tree, views_of(clip, 8), folder)
    few, hit = episode(clip, image_tree, views_of(clip, 3), folder)
    alone, _ = episode(clip, image_tree, views_of(clip, 3), None)
    assert hit.encoded == 0
    for path, (features, norm) in few.items():
        assert torch.equal(features, many[path][0][:3]) and torch.equal(norm, many[path][1])
        torch.testing.assert_close(features, alone[path][0], rtol=0, atol=1e-6)
    counts = [episode(clip, image_tree, views_of(clip, v), folder)[1].encoded for v in (16, 16, 8)]
    assert counts == [12, 0, 0]


@pytest.mark.parametrize("setting", [{"swept": [4, 16]}, {"num_views": 16}])
def test_a_sweep_encodes_its_largest_number_of_views_first(
    clip: tpt.CLIP, image_tree: Path, tmp_path: Path, setting: dict[str, Any]
) -> None:
    counts, found = [], []
    for views in (4, 8, 16):
        features, cache = episode(clip, image_tree, views_of(clip, views), tmp_path / "kept", cache=setting)
        counts.append(cache.encoded)
        found.append(features)
        assert all(f.shape[0] == views and f.is_contiguous() for f, _ in features.values())
    assert counts == [12, 0, 0]
    assert all(torch.equal(found[0][path][0], found[2][path][0][:4]) for path in found[0])


def test_a_batch_is_encoded_whole(clip: tpt.CLIP, image_tree: Path, tmp_path: Path) -> None:
    """The batch of a new image is encoded as without the cache; other batches come from the cache."""
    maker = views_of(clip)
    episode(clip, image_tree, maker, tmp_path / "kept")
    noise_image(99).save(image_tree / "cat" / "0.png")
    expected, _ = episode(clip, image_tree, maker, None)
    found, cache = episode(clip, image_tree, maker, tmp_path / "kept")
    assert (cache.encoded, cache.from_cache) == (5, 7) and same(found, expected)
    assert episode(clip, image_tree, maker, tmp_path / "kept")[1].encoded == 0


def test_undecodable_images_do_not_prevent_caching(clip: tpt.CLIP, image_tree: Path, tmp_path: Path) -> None:
    (image_tree / "cat" / "1.png").write_bytes(b"broken")
    (image_tree / "T-shirt" / "3.png").unlink()
    (image_tree / "T-shirt" / "3.png").mkdir()
    maker, settings = views_of(clip), {"on_bad_image": "skip"}
    first, _ = episode(clip, image_tree, maker, tmp_path / "kept", **settings)
    second, cache = episode(clip, image_tree, maker, tmp_path / "kept", **settings)
    assert same(first, second) and cache.encoded == 0


def test_features_that_are_not_finite_are_not_stored(cache: FeatureCache, clip: tpt.CLIP) -> None:
    shelf = cache.shelf(views_of(clip))
    keys = [shelf.key(str(i), b"") for i in range(3)]
    features, norms = torch.ones(3, 8, clip.embed_dim), torch.ones(3)
    features[0, 3, 1] = torch.nan
    norms[1] = torch.inf
    cache.keep(keys, {"image_features": features, "image_norm": norms})
    cache.close(lambda counts: counts, torch.device("cpu"))
    assert [shelf.find(key) is not None for key in keys] == [False, False, True]


class OwnViews(Views):
    """A user's own views."""


class OwnMix:
    """A user's own mixing, which does not describe what it depends on."""


def test_views_of_unknown_makers_are_not_stored(cache: FeatureCache, clip: tpt.CLIP, image_tree: Path) -> None:
    def plain(image: Image.Image, identity: str) -> Tensor:
        return torch.zeros(2, 3, clip.image_size, clip.image_size)

    for maker in (plain, views_of(clip, augmix=OwnMix())):
        assert cache.shelf(maker).key("a", b"") == ""
    assert [batch.cached for batch in loaded(image_tree, plain, cache)] == [None] * 3


def test_the_key_changes_with_all_that_features_depend_on(
    clip: tpt.CLIP, noise_clip: Callable[..., tpt.CLIP], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(clip: Any = clip, maker: Any = None, name: str = "a/1.png", content: bytes = b"1", **settings: Any) -> str:
        cache = FeatureCache(clip, folder=tmp_path, **settings)
        return cache.shelf(maker or views_of(clip)).key(name, content)

    def changed(**settings: Any) -> Any:
        other = object.__new__(tpt.CLIP)
        other.__dict__.update({**clip.__dict__, **settings})
        return other

    keys = [
        key(),
        key(name="a/2.png"),
        key(content=b"2"),
        key(device="cuda"),
        key(precision="bf16-true"),
        *(key(maker=views_of(clip, **s)) for s in ({"seed": 1}, {"made_on": "device"}, {"augmix": AugMix()})),
        *(key(maker=views_of(clip, augmix=AugMix(*s))) for s in ((2.0,), (1.0, 2))),
        key(maker=OwnViews(clip.image_size, 8)),
        key(noise_clip("vit", 2)),
        key(noise_clip("rn", 1)),
        *(key(changed(**s)) for s in ({"precision": "bf16"}, {"max_images": 7}, {"channels_last": True})),
    ]
    monkeypatch.setattr("tpt.data.cache.cache.torch.__version__", "9.9")
    keys.append(key())
    monkeypatch.undo()
    torch.set_float32_matmul_precision("high")
    try:
        keys.append(key())
    finally:
        torch.set_float32_matmul_precision("highest")
    assert len(set(keys)) == len(keys)
    assert key() == keys[0] == key(maker=views_of(clip, 64)) == key(max_gb=1, num_views=9, swept=[5])
    assert key(changed(logit_scale=1.0, name="other")) == keys[0]


def test_the_activation_changes_the_key(clip: tpt.CLIP, noise_file: Callable[..., Path]) -> None:
    """Two models with equal weights but other activations have different encodings."""
    other = tpt.load_clip(pretrained=noise_file(), quick_gelu=False)
    ours, theirs = clip.encoding(), other.encoding()
    assert ours["weights"] == theirs["weights"] and ours["architecture"] != theirs["architecture"]


def test_keys_are_stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = CachedViews(None, 1, "", {"image": (FeatureStore(tmp_path, ""), 4)}).key
    assert key("a/b.png", b"c") != key("a/b.pngc", b"") and len(key("\udcff", b"")) == 32
    assert encoding_environment() == encoding_environment()
    before = encoding_environment()
    monkeypatch.setattr("tpt.data.cache.cache.PACKAGE", tmp_path)
    (tmp_path / "views").mkdir()
    codes = [before["code"]]
    for text in ("a = 1", "a = 2"):
        (tmp_path / "views" / "code.py").write_text(text)
        codes.append(encoding_environment()["code"])
    assert len({*codes}) == 3


def test_settings(clip: tpt.CLIP) -> None:
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="Expected `max_gb` to be a number above 0"):
            FeatureCache(clip, max_gb=wrong)


def test_batches_with_features_can_be_selected_and_moved() -> None:
    batch = EpisodeBatch(
        views=torch.empty(0),
        labels=torch.arange(3),
        indices=torch.arange(3),
        paths=list("abc"),
        contents=list("abc"),
        bad=[],
        cached={"image_features": torch.arange(6.0).view(3, 2, 1), "image_norm": torch.arange(3.0)},
        keys=list("xyz"),
    )
    part = replace(batch).to(torch.device("cpu")).select([2, 0])
    assert part.cached is not None and part.cached["image_norm"].tolist() == [2, 0] and part.keys == ["z", "x"]
    assert part.cached["image_features"].flatten().tolist() == [4, 5, 0, 1]


def test_a_shelf_without_stores_finds_nothing() -> None:
    shelf = CachedViews(None, None)
    assert shelf.key("a", b"") == "" and shelf.find("") is None


def test_more_views_begin_with_the_same_views(clip: tpt.CLIP) -> None:
    for augmix in (None, AugMix()):
        maker = views_of(clip, PARTIAL, augmix=augmix)
        wider = maker.more(9)
        few, many = (np.asarray(m.make(noise_image(1), "a")) for m in (maker, wider))
        assert maker.num_views == PARTIAL and len(many) == 9 and np.array_equal(few, many[:PARTIAL])
