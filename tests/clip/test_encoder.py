"""The image encoder's options: memory layout, compilation and images per pass."""

import logging
from collections.abc import Callable

import pytest
import torch

import tpt


@pytest.fixture
def views() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_channels_last_gives_the_same_features(noise_file: Callable[..., str], views: torch.Tensor) -> None:
    plain, other = (tpt.load_clip(pretrained=noise_file(), channels_last=flag) for flag in (False, True))
    torch.testing.assert_close(other.encode_image(views), plain.encode_image(views), atol=1e-5, rtol=0)
    assert other.fingerprint() == plain.fingerprint()


def test_a_limit_on_images_per_pass_keeps_the_features(noise_file: Callable[..., str], views: torch.Tensor) -> None:
    clip = tpt.load_clip(pretrained=noise_file())
    whole = clip.encode_image(views)
    clip.max_images = 2
    torch.testing.assert_close(clip.encode_image(views), whole, atol=1e-6, rtol=0)


def test_the_cpu_limit_depends_on_pixels_and_is_in_the_cache_key(noise_file: Callable[..., str]) -> None:
    clip = tpt.load_clip(pretrained=noise_file())
    for clip.image_size, size in ((32, 64), (224, 8), (384, 2), (1024, 1)):
        assert clip.images_per_pass == clip.encoding()["max_images"] == size
    clip.max_images = 5
    assert clip.encoding()["max_images"] == 5


class Crowded(torch.nn.Module):
    """An encoder that runs out of memory on more than `room` images."""

    def __init__(self, visual: torch.nn.Module, room: int) -> None:
        super().__init__()
        self.visual, self.room = visual, room

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("no room")
        return self.visual(images)  # type: ignore[no-any-return]


def test_out_of_memory_halves_the_passes(
    noise_file: Callable[..., str], views: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    clip = tpt.load_clip(pretrained=noise_file())
    whole = clip.encode_image(views)
    clip.visual = Crowded(clip.visual, 1)
    torch.testing.assert_close(clip.encode_image(views), whole, atol=1e-6, rtol=0)
    assert clip.max_images == 1 and "continuing with at most 1 images per pass" in caplog.text
    clip.visual.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        clip.encode_image(views)


def broken_at_the_first_pass(function: Callable[..., torch.Tensor], **_: object) -> Callable[..., torch.Tensor]:
    """Replaces `torch.compile`; like it, fails only when the compiled function is called."""

    def compiled(*_: object) -> torch.Tensor:
        raise RuntimeError("no compiler")

    return compiled


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["stand-in", "inductor"])
def test_failed_compilation_continues_uncompiled(
    real: bool,
    noise_file: Callable[..., str],
    views: torch.Tensor,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if real:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/no/such/compiler",))
        torch._dynamo.reset()
    else:
        monkeypatch.setattr(torch, "compile", broken_at_the_first_pass)
    clip = tpt.load_clip(pretrained=noise_file(), compile=True)
    assert clip.fingerprint() == tpt.load_clip(pretrained=noise_file()).fingerprint()
    with caplog.at_level(logging.WARNING):
        features = clip.encode_image(views)
    assert "torch.compile failed" in caplog.text and "continuing without it" in caplog.text
    torch.testing.assert_close(features, tpt.load_clip(pretrained=noise_file()).encode_image(views))
