"""AugMix at severity 1, operation by operation."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.conftest import noise_image
from tpt.views import AugMix
from tpt.views import augmix as ops

IMAGE = noise_image(4, (224, 224))


def many(operation: str, image: Image.Image = IMAGE, n: int = 200) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        ops.apply_operation(operation, image, ops.draw_magnitude(operation, 1.0, rng, *image.size)) for _ in range(n)
    ]


def test_there_are_nine_operations_and_none_on_colours() -> None:
    assert ops.OPERATIONS == (
        "autocontrast", "equalize", "posterize", "rotate", "solarize",
        "shear_x", "shear_y", "translate_x", "translate_y",
    )  # fmt: skip


def test_posterize_always_keeps_four_bits() -> None:
    expected = ImageOps.posterize(IMAGE, 4).tobytes()
    assert {image.tobytes() for image in many("posterize")} == {expected}


def test_rotate_turns_whole_degrees_up_to_two() -> None:
    turned = {IMAGE.rotate(d, resample=Image.Resampling.BILINEAR).tobytes(): d for d in range(-3, 4)}
    counts = Counter(turned[image.tobytes()] for image in many("rotate"))
    assert set(counts) == {-2, -1, 0, 1, 2}
    assert abs(counts[1] - counts[-1]) < 40


def test_solarize_thresholds() -> None:
    by_bytes = {ImageOps.solarize(IMAGE, t).tobytes(): t for t in range(256, 225, -1)}
    thresholds = {by_bytes[image.tobytes()] for image in many("solarize")}
    assert min(thresholds) >= 231 and max(thresholds) <= 254


@pytest.mark.parametrize("operation", ["translate_x", "translate_y"])
def test_translations_are_whole_pixels_up_to_seven(operation: str) -> None:
    axis = 1 if operation == "translate_x" else 0
    original = np.asarray(IMAGE)
    shifts = set()
    for image in many(operation, n=60):
        moved = np.asarray(image)
        fits = [
            s
            for s in range(-9, 10)
            if np.array_equal(np.roll(moved, s, axis)[10:-10, 10:-10], original[10:-10, 10:-10])
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert shifts <= set(range(-7, 8)) and len(shifts) > 8


@pytest.mark.parametrize("operation", ["shear_x", "shear_y"])
def test_shear_moves_the_far_edge_by_at_most_three_percent(operation: str) -> None:
    line = Image.new("RGB", (100, 100))
    line.paste((255, 255, 255), (50, 0, 52, 100) if operation == "shear_x" else (0, 50, 100, 52))
    for image in many(operation, line, 50):
        pixels = np.asarray(image)[..., 0]
        far = pixels[-1] if operation == "shear_x" else pixels[:, -1]
        assert abs(int(far.argmax()) - 50) <= 4


def test_the_mixture_is_convex_with_a_uniform_weight() -> None:
    """The mixture stays within 0..255, and the weight of the original is 1/2 on average."""
    rng = np.random.default_rng(0)
    white = Image.new("RGB", (8, 8), (255, 255, 255))
    black = np.zeros((8, 8, 3), np.float32)
    weights = []
    for _ in range(300):
        # This normalisation maps the original to 255 and every changed image to 0.
        mixed = AugMix()(white, lambda im: np.asarray(im, np.float32) if im is white else black, rng)
        weights.append(float(mixed.mean()) / 255)
    assert min(weights) >= 0 and max(weights) <= 1
    assert np.mean(weights) == pytest.approx(0.5, abs=0.05)  # Beta(1, 1) is uniform
    assert np.std(weights) == pytest.approx(1 / np.sqrt(12), abs=0.05)


def test_severity_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected `severity` to be a number of at least 0.1"):
        AugMix(0)
