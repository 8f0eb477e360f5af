"""Pictures of every mode, range and format, and the memory they use."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import noise_image
from tests.data.test_images import encoded
from tpt.data import images
from tpt.data.images import decode_image
from tpt.errors import BadImageError


def deep(values: np.ndarray, kind: str = "TIFF") -> bytes:
    return encoded(Image.fromarray(values), kind)


RAMP = np.arange(64).reshape(8, 8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((RAMP * 1040).astype(np.uint16), RAMP * 1040 // 257),  # 16 bits
        ((RAMP * 1040).astype(np.int32), RAMP * 1040 // 257),
        ((RAMP * 1040).astype(np.float32), RAMP * 1040 // 257),
        (RAMP.astype(np.uint16), RAMP),  # 8 bits in a wider type
        (RAMP.astype(np.int32), RAMP),
        ((RAMP * 4).astype(np.float32), RAMP * 4),
        ((RAMP / 63).astype(np.float32), np.rint(RAMP / 63 * 255)),  # 0 to 1
        ((RAMP + 0.25).astype(np.float32), RAMP),  # fractions from 0 to 255
        (np.zeros((8, 8), np.float32), np.zeros((8, 8))),
    ],
)
def test_deep_greys_are_scaled_by_their_range(values: np.ndarray, expected: np.ndarray) -> None:
    out = np.asarray(decode_image(deep(values), "x.tif"))
    assert (out == expected[..., None]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((RAMP * 60).astype(np.uint16), "its pixels are 0 to 3780: of 10 or 12 bits, or of 16 and almost black"),
        ((RAMP * 2000).astype(np.int32), "0 to 126000, neither of 8 nor of 16 bits"),
        ((RAMP - 5).astype(np.int32), "-5 to 58, neither of 8 nor of 16 bits"),
        ((RAMP / 60).astype(np.float32), "0 to 1.05: from 0 to 1 with some beyond, or from 0 to 255 and almost black"),
        (np.full((8, 8), np.nan, np.float32), "its pixels are nan to nan, not all of them finite"),
        (np.full((8, 8), np.inf, np.float32), "inf to inf, not all of them finite"),
    ],
)
def test_deep_greys_with_an_unclear_range(values: np.ndarray, message: str) -> None:
    with pytest.raises(BadImageError, match=f"a/x.tif .pixel values of unclear meaning: .*{message}"):
        decode_image(deep(values), "a/x.tif")


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa", "YCbCr", "CMYK", "LAB", "P", "1", "L"])
@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP", "GIF"])
def test_every_mode_is_read_as_pillow_converts_it(mode: str, kind: str) -> None:
    """Transparency is dropped, so the colours beneath it show, as in the official code."""
    picture = Image.new("RGBA", (6, 4), (200, 30, 10, 0))
    picture = picture.convert("RGB") if mode in ("La", "RGBa", "PA", "CMYK", "LAB", "YCbCr", "P") else picture
    try:
        content = encoded(picture.convert(mode), kind)
    except (OSError, ValueError):
        return  # the format does not have this mode
    try:
        expected = Image.open(io.BytesIO(content)).convert("RGB")
    except OSError:  # Pillow 12 writes YCbCr as a TIFF that it cannot read
        with pytest.raises(BadImageError):
            decode_image(content, "x")
        return
    assert decode_image(content, "x").tobytes() == expected.tobytes()


def test_palette_with_transparency() -> None:
    picture = noise_image(0).convert("P")
    content = encoded(picture, transparency=3)
    assert decode_image(content, "x.png").tobytes() == picture.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".tga", "TGA"), (".ico", "ICO"), (".pcx", "PCX"), (".jp2", "JPEG2000"), (".sgi", "SGI"),
                         (".avif", "AVIF"), (".im", "IM"), (".msp", "MSP"), (".qoi", "QOI"), (".dds", "DDS"),
                         (".xbm", "XBM"), (".pfm", "PPM")],
)  # fmt: skip
def test_other_formats_that_pillow_reads(suffix: str, kind: str) -> None:
    picture = noise_image(0, (16, 16))
    mode = {"MSP": "1", "XBM": "1"}.get(kind, "F" if suffix == ".pfm" else "RGB")
    content = encoded(picture.convert("L" if mode == "F" else "RGB").convert(mode), kind)
    out = np.asarray(decode_image(content, f"x{suffix}"), int)
    tolerance = {"AVIF": 20, "JPEG2000": 3}.get(kind, 0)
    expected = np.asarray(picture.convert("L" if mode == "F" else mode).convert("RGB"), int)
    assert np.abs(out - expected).mean() <= tolerance


def test_memory_of_large_pictures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a picture is computed and checked before decoding."""
    content = encoded(Image.fromarray(np.full((300, 300), 5, np.uint16)))
    assert decode_image(content, "x.png").getpixel((299, 299)) == (5, 5, 5)
    monkeypatch.setattr(images, "MAX_DECODED_BYTES", 300 * 300 * 6 - 1)
    with pytest.raises(BadImageError, match="x.png .too large: 300 x 300 pixels"):
        decode_image(content, "x.png")
    assert decode_image(encoded(Image.new("L", (300, 300))), "x.png").mode == "RGB"


@pytest.mark.slow
def test_memory_of_a_huge_deep_grey() -> None:
    """13,300 x 13,300 pixels of 16 bits take about 180 MB as 8-bit grey and 0.7 GB as RGB."""
    program = (
        "import io, resource, numpy as np; from PIL import Image; from tpt.data.images import decode_image\n"
        "file = io.BytesIO(); Image.fromarray(np.ones((13300, 13300), np.uint16)).save(file, 'PNG')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert decode_image(file.getvalue(), 'x.png').size == (13300, 13300)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.5 * 2**20  # kB
