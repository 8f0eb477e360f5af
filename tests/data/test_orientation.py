"""Orientation tags of photographs."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from PIL import Image, ImageOps

from tests.conftest import noise_image
from tests.data.test_images import encoded
from tests.untrusted import FUZZ, damaged
from tpt.data import image_folder
from tpt.data.images import HEAD_BYTES, decode_image, is_turned


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_photographs_are_rotated_by_their_tag(tag: int, kind: str) -> None:
    """`upright=True` equals Pillow's `exif_transpose`; the default ignores the tag, as the official code does."""
    content = encoded(noise_image(0), kind, exif=exif(tag))
    lying = Image.open(io.BytesIO(content)).convert("RGB")
    assert decode_image(content, "x.jpg").tobytes() == lying.tobytes()
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    turned = decode_image(content, "x.jpg", upright=True)
    assert turned.size == upright.size and turned.tobytes() == upright.tobytes()
    assert is_turned(content) is (tag != 1)


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_invalid_tags_are_ignored(tag: int) -> None:
    content = encoded(noise_image(0), "JPEG", exif=exif(tag))
    assert decode_image(content, "x.jpg", upright=True).tobytes() == decode_image(content, "x.jpg").tobytes()
    assert is_turned(content) is False


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("before", [0, 3000, 65_000])
def test_tags_after_other_segments(order: bytes, before: int) -> None:
    """A tag beyond the first `HEAD_BYTES` is found only in the whole file."""
    tags = exif(8)
    tags.endian = "<" if order == b"II" else ">"
    content = encoded(noise_image(0), "JPEG", exif=tags.tobytes())
    other = b"\xff\xe2" + (before + 2).to_bytes(2, "big") + bytes(before)
    content = content[:2] + other + content[2:]
    assert is_turned(content[:HEAD_BYTES]) is (None if before == 65_000 else True) and is_turned(content)


@FUZZ
@given(content=damaged(encoded(noise_image(0), "JPEG", exif=exif(6))))
def test_any_bytes_give_true_false_or_none(content: bytes) -> None:
    assert is_turned(content) in (True, False, None)


def test_damaged_tags_do_not_cause_errors() -> None:
    """Pillow alone would rotate the photograph, and then fail to write the damaged tags."""
    tags = exif(6)
    tags[0x010F] = "camera"
    content = encoded(noise_image(0), "JPEG", exif=tags.tobytes().replace(b"camera", b"\xff\xfe\xff\xfe\xff\xfe"))
    assert decode_image(content, "x.jpg", upright=True).size == noise_image(0).size[::-1]
    broken = encoded(noise_image(0), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(broken, "x.jpg", upright=True).size == noise_image(0).size


@pytest.mark.parametrize("slow_s", [0.0, 1e9])
def test_turned_pictures_are_counted_with_and_without_threads(
    slow_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part of the files decides, by the time they take, whether threads read the rest."""
    monkeypatch.setattr("tpt.files.reading.SLOW_S", slow_s)
    monkeypatch.setattr("tpt.files.reading.PART", 2)
    for number in range(7):
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.jpg").write_bytes(encoded(noise_image(0), "JPEG", exif=exif(1 + number % 3)))
    assert image_folder(tmp_path).count_turned() == 8
