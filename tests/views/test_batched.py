"""Views made with tensors equal PIL's up to rounding, for the same random numbers."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from tests.conftest import noise_image
from tpt.views import AugMix, Views, batched
from tpt.views.augmix import OPERATIONS, apply_operation, draw_magnitude


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image of smooth shapes, a saturated patch and noise."""
    coarse = noise_image(seed, (7, 5)).resize((width, height), Image.Resampling.BICUBIC)
    coarse.paste((255, 255, 255), (0, 0, width // 4, height // 3))
    coarse.paste(noise_image(seed, (width // 3 + 1, height // 3 + 1)), (width // 2, height // 2))
    return coarse


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def x_first(image: Image.Image, width: int, height: int, kernel: Image.Resampling) -> Image.Image:
    """Resizes along x first, as Pillow always did before version 13 and still does for most shapes."""
    return image.resize((width, image.height), kernel).resize((width, height), kernel)


@settings(deadline=None, max_examples=40)
@given(width=st.integers(20, 400), height=st.integers(20, 400), size=st.sampled_from([16, 64, 97]))
@example(width=20, height=352, size=16)  # 3.1 % ties
def test_crops_equal_pils(width: int, height: int, size: int) -> None:
    image = photo(width, height)
    plan = Views(size, 8, seed=3).plan(image, f"{width}x{height}")
    expected = []
    for (top, left, h, w), flip in zip(plan.boxes.tolist(), plan.flips.tolist(), strict=True):
        crop = x_first(image.crop((left, top, left + w, top + h)), size, size, Image.Resampling.BILINEAR)
        expected.append(tensor(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else crop))
    short = min(width, height)
    whole = x_first(image, int(size * width / short), int(size * height / short), Image.Resampling.BICUBIC)
    expected.insert(0, tensor(transforms.CenterCrop(size)(whole)))
    found = batched.crop_views(plan, size)
    assert found.dtype == torch.uint8 and found.shape == (8, 3, size, size)
    difference = (found.int() - torch.stack(expected).int()).abs()
    assert int(difference.max()) <= 2  # different rounding between the axes can change a pixel by 2
    assert float((difference > 0).float().mean()) < 0.05  # ties in rounding, common in small crops
    assert float((difference > 1).float().mean()) < 0.001


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (80, 400), (64, 64), (50, 33)])
def test_make_and_render_give_the_same_views(shape: tuple[int, int]) -> None:
    image, views = photo(*shape), Views(64, 16, seed=3)
    expected, found = views.make(image, "x"), views.render([views.plan(image, "x")])[0]
    assert found.dtype == torch.uint8 and found.shape == expected.shape
    difference = (found.int() - expected.int()).abs().float()
    assert float(difference.max()) <= 12  # different rounding between the axes, on noise
    assert float(difference.mean()) < 0.2


def test_a_picture_of_the_right_size_is_unchanged() -> None:
    image = noise_image(1, (64, 64))
    views = Views(64, 1)
    assert torch.equal(views.render([views.plan(image, "x")])[0, 0], tensor(image))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("severity", [1.0, 5.0])
def test_operations_equal_pils(operation: str, severity: float) -> None:
    rng = np.random.default_rng(0)
    flat = Image.new("RGB", (50, 50), (9, 9, 200))
    few = photo(50, 50, 2).quantize(3).convert("RGB")
    images = [photo(50, 50, 1), flat, few, noise_image(5, (50, 50))] * 5
    values = [draw_magnitude(operation, severity, rng, 50, 50) for _ in images]
    expected = torch.stack([tensor(apply_operation(operation, im, v)) for im, v in zip(images, values, strict=True)])
    found = batched._apply(torch.stack([tensor(im) for im in images]), [(operation, v) for v in values])
    difference = (found.int() - expected.int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).float().mean()) < (1e-9 if operation in batched.TABLES else 0.01)


def test_augmix_of_several_images_equals_pils() -> None:
    views = Views(48, 12, AugMix(), seed=1)
    images = [photo(90, 60, 1), photo(60, 130, 2), photo(48, 48, 3)]
    found = views.render([views.plan(image, str(i)) for i, image in enumerate(images)])
    for i, image in enumerate(images):
        expected = views.make(image, str(i))
        # A difference of one level can change autocontrast's range or cross a step of the other look-up tables.
        difference = (found[i] - expected).abs()
        assert float(difference.mean()) < 0.01
        assert float((difference > 0.05).float().mean()) < 0.01


def test_a_single_view_equals_pils() -> None:
    for augmix in (None, AugMix()):
        views = Views(32, 1, augmix)
        image = photo(40, 50)
        expected = views.make(image, "x")
        found = views.render([views.plan(image, "x")])[0]
        torch.testing.assert_close(found.float(), expected.float(), atol=1.0 if augmix is None else 0.02, rtol=0)


def test_geometry_follows_torchvisions_distribution() -> None:
    image = photo(300, 200)
    plans = [Views(32, 200, seed=s).plan(image, "x") for s in range(5)]
    boxes = torch.cat([p.boxes for p in plans]).double()
    torch.manual_seed(0)
    taken = [transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)]
    others = torch.tensor(taken).double()
    torch.testing.assert_close(boxes.mean(0), others.mean(0), atol=6.0, rtol=0)
    torch.testing.assert_close(boxes.std(0), others.std(0), atol=6.0, rtol=0)
    assert float(torch.cat([p.flips for p in plans]).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_memory_limit_does_not_change_views(monkeypatch: pytest.MonkeyPatch) -> None:
    views, image = Views(32, 9), photo(100, 80)
    whole = views.render([views.plan(image, "x")])
    monkeypatch.setattr(batched, "MAX_FLOATS", 1)
    assert torch.equal(views.render([views.plan(image, "x")]), whole)


def test_an_unknown_made_on_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected `made_on` to be loader or device"):
        Views(32, 4, made_on="gpu")
