"""Decoding images of every kind."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.conftest import noise_image
from tpt.data.images import decode_image
from tpt.errors import BadImageError


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "1"])
def test_png_modes(mode: str) -> None:
    picture = noise_image(0)
    out = decode_image(encoded(picture.convert(mode)), "x.png")
    assert out.mode == "RGB" and out.size == picture.size
    assert np.array_equal(np.asarray(out), np.asarray(picture.convert(mode).convert("RGB")))


def test_cmyk_jpeg() -> None:
    out = decode_image(encoded(noise_image(0).convert("CMYK"), "JPEG", quality=95), "x.jpg")
    assert out.mode == "RGB"
    assert np.abs(np.asarray(out, int) - np.asarray(noise_image(0), int)).mean() < 6


@pytest.mark.parametrize(("kind", "name"), [("PNG", "x.png"), ("TIFF", "x.tif")])
def test_16_bit_grey_is_scaled(kind: str, name: str) -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    out = np.asarray(decode_image(encoded(Image.fromarray(values), kind), name))
    assert np.abs(out[..., 0].astype(float) - values / 257).max() <= 1
    assert (out[..., 0] == out[..., 1]).all()


def test_a_png_file_named_jpg_is_read() -> None:
    assert decode_image(encoded(noise_image(0)), "really_a_png.jpg").size == noise_image(0).size


@pytest.mark.parametrize("content", [b"", b"not an image", encoded(noise_image(0))[:200]], ids=["empty", "text", "cut"])
def test_unreadable_files_are_named(content: bytes) -> None:
    with pytest.raises(BadImageError, match=r"Cannot decode the image a/b\.png .*data\.on_bad_image=skip") as caught:
        decode_image(content, "a/b.png")
    assert "\n" not in str(caught.value)


def test_every_truncation_is_an_error() -> None:
    whole = encoded(noise_image(0), "JPEG")
    for cut in range(0, len(whole), 37):
        with pytest.raises(BadImageError):
            decode_image(whole[:cut], "x.jpg")


def test_decompression_bomb_is_refused() -> None:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    with pytest.raises(BadImageError, match=r"bomb\.png"):
        decode_image(bomb, "bomb.png")
