"""A GPU computes the same results as a CPU."""

from collections.abc import Callable

import open_clip
import pytest
import torch

import tpt
from tests.conftest import NAMES, noise_image
from tpt.clip.weights.pretrained import wrap
from tpt.methods.tuner import pull_back

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")


@pytest.mark.parametrize("steps", [1, 3])
def test_tuning(noise_file: Callable[..., str], features: torch.Tensor, steps: int) -> None:
    both = []
    for device in ("cpu", "cuda"):
        clip = tpt.load_clip(pretrained=noise_file(), device=device)
        method = tpt.TPT(clip, NAMES, steps=steps, selection_p=0.3, lr=0.1, optimizer=torch.optim.SGD)
        both.append(method(features.to(device)))
    assert both[0].selected.tolist() == both[1].selected.tolist()
    torch.testing.assert_close(both[1].logits.cpu(), both[0].logits, atol=1e-3, rtol=0)


def test_batched_gradients_equal_single_ones(noise_file: Callable[..., str]) -> None:
    method = tpt.TPT(tpt.load_clip(pretrained=noise_file(), device="cuda"), NAMES)
    leaf, text = method.tuner._start()
    pull = torch.randn(3, *text.shape, device=GPU)
    at_once = pull_back(text, leaf, pull, keep_graph=True)
    for gradient, own in zip(at_once, pull, strict=True):
        (alone,) = torch.autograd.grad(text, leaf, own, retain_graph=True)
        torch.testing.assert_close(gradient, alone, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "coca_ViT-B-32"], ids=["causal", "padded"])
def test_a_model_that_is_on_the_gpu(name: str) -> None:
    model = open_clip.create_model(name, pretrained=None, load_weights=False, device=GPU)
    clip = wrap(model, name)
    assert clip.device.type == "cuda" and clip.encode_text(NAMES).is_cuda


@pytest.mark.parametrize("augmix", [None, tpt.AugMix()], ids=["crops", "augmix"])
def test_views(augmix: tpt.AugMix | None) -> None:
    views = tpt.Views(64, 16, augmix)
    plan = views.plan(noise_image(1, (200, 150)), "x")
    on_cpu, on_gpu = views.render([plan])[0], views.render([plan.to(GPU)])[0].cpu()
    assert float((on_gpu.double() - on_cpu.double()).abs().mean()) < 0.02


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_features(noise_file: Callable[..., str], precision: str) -> None:
    pixels = torch.randn(4, 3, 32, 32)
    exact = tpt.load_clip(pretrained=noise_file()).encode_image(pixels)
    half = tpt.load_clip(pretrained=noise_file(), device="cuda", precision=precision).encode_image(pixels.to(GPU))
    assert half.dtype == torch.float32 and float((half.cpu() * exact).sum(-1).min()) > 0.99
