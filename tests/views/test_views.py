"""Views: the plain view 0, the distribution of the random crops, and reproducibility."""

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision import transforms

from tests.conftest import noise_image
from tpt.views import AugMix, Views

GOLDEN_CROPS = [16320, 19072, 16128, 18560]
GOLDEN_AUGMIX = [-1044.706, -876.676, -970.409, -1011.311]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def ramp(size: int = 256) -> Image.Image:
    """An image with x as red and y as green, so that the pixels of a crop show its position."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8))


def test_view_0_is_the_plain_centre_crop() -> None:
    image = noise_image(1, (300, 200))
    expected = transforms.Compose(
        [
            transforms.Resize(64, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.PILToTensor(),
        ]
    )(image)
    assert torch.equal(Views(64, 4)(image, "x")[0], expected)
    normalised = transforms.Normalize(MEAN, STD)(expected.float() / 255)
    torch.testing.assert_close(Views(64, 4, AugMix())(image, "x")[0], normalised, atol=1e-6, rtol=0)


@pytest.mark.parametrize("made_on", ["loader", "device"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_view_0_equals_open_clips_preprocessing(resize: str, interpolation: str, made_on: str) -> None:
    image = noise_image(1, (300, 200))
    transform = image_transform(
        64, False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=resize, interpolation=interpolation
    )
    expected = (transform(image) * 255).round().to(torch.uint8)
    make = Views(64, 3, made_on=made_on, resize=resize, interpolation=interpolation)
    views = make.make(image, "x") if made_on == "loader" else make.render([make.plan(image, "x")])[0]
    assert (views[0].int() - expected.int()).abs().max() <= (0 if made_on == "loader" else 1)
    plain = Views(64, 3).make(image, "x")
    assert torch.equal(make.make(image, "x")[1:], plain[1:]), "random crops are the same for all models"


def test_an_unknown_resize_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected `resize` to be shortest or squash"):
        Views(64, resize="longest")


def test_views_depend_only_on_seed_and_identity() -> None:
    image, views = noise_image(2), Views(32, 8, seed=3)
    first = views(image, "set/a.png")
    torch.manual_seed(99)
    np.random.seed(99)
    views(noise_image(5), "set/b.png")
    state = torch.random.get_rng_state()
    assert torch.equal(views(image, "set/a.png"), first)
    assert torch.equal(torch.random.get_rng_state(), state)  # and the global generator is unchanged
    assert not torch.equal(views(image, "set/b.png"), first)
    assert not torch.equal(Views(32, 8, seed=4)(image, "set/a.png"), first)
    assert torch.equal(Views(32, 5, seed=3)(image, "set/a.png"), first[:5])  # fewer views are a prefix of more


def test_golden_views_do_not_change() -> None:
    """Sums over each view, computed with torchvision 0.29, Pillow 13 and NumPy 2.4 when the code was written."""
    views = Views(16, 4, seed=0)(ramp(64), "golden")
    assert views.dtype == torch.uint8 and views.shape == (4, 3, 16, 16)
    assert views.long().sum((1, 2, 3)).tolist() == GOLDEN_CROPS
    mixed = Views(16, 4, AugMix(), seed=0)(ramp(64), "golden").double().sum((1, 2, 3))
    torch.testing.assert_close(mixed, torch.tensor(GOLDEN_AUGMIX, dtype=torch.float64), atol=0.01, rtol=0)


def test_crops_follow_torchvisions_distribution() -> None:
    """Area is uniform in (0.08, 1), log aspect ratio in log(3/4, 4/3); half are flipped; positions are uniform."""
    crops = torch.cat([Views(32, 200, seed=s)(ramp(), "x")[1:] for s in range(5)]).float()
    width = (crops[:, 0, :, -2:].mean((1, 2)) - crops[:, 0, :, :2].mean((1, 2))) * 32 / 30
    height = (crops[:, 1, -2:].mean((1, 2)) - crops[:, 1, :2].mean((1, 2))) * 32 / 30
    assert float((width < 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert bool((height > 0).all())
    area = (width.abs() * height) / 256**2
    assert float(area.min()) > 0.06 and float(area.max()) < 1.03
    torch.manual_seed(0)
    taken = [transforms.RandomResizedCrop.get_params(ramp(), (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(1000)]
    assert float(area.mean()) == pytest.approx(np.mean([h * w / 256**2 for _, _, h, w in taken]), abs=0.03)
    aspect = (width.abs() / height).log()
    assert float(aspect.abs().max()) < np.log(4 / 3) + 0.1
    assert float(aspect.mean()) == pytest.approx(0, abs=0.02)
    assert float(aspect.std()) == pytest.approx(np.log(4 / 3) / np.sqrt(3), abs=0.02)
    centre = crops[:, :2].mean((2, 3)) / 255
    assert torch.allclose(centre.mean(0), torch.tensor(0.5), atol=0.02)


def test_crops_come_from_the_original_not_the_centre() -> None:
    image = Image.fromarray(np.zeros((40, 400, 3), np.uint8))
    image.paste((255, 255, 255), (0, 0, 60, 40))  # outside the centre crop
    views = Views(32, 64)(image, "x")
    assert int(views[0].max()) == 0
    assert int(views[1:].max()) == 255


@pytest.mark.parametrize(
    ("num_views", "message"),
    [(0, "Expected `num_views` to be a whole number of at least 1"), (-3, "Expected `num_views`")],
)
def test_wrong_numbers_of_views_are_refused(num_views: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Views(32, num_views)
    assert Views(32, 1)(noise_image(0), "x").shape == (1, 3, 32, 32)
