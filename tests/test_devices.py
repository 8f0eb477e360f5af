"""Nothing mixes tensors of two devices.  This needs no GPU: torch's fake tensors have a device but no data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily

import tpt
from tests.conftest import NAMES, noise_image
from tpt.clip.tokens import Tokenizer
from tpt.clip.tower import Prompts
from tpt.clip.towers import check_tower, text_tower
from tpt.clip.weights.named import unloaded
from tpt.views import batched

GPU = torch.device("cuda:0")
MIXED = FakeTensorMode(allow_non_fake_inputs=True)  # existing tensors become fake ones of the CPU


def to_gpu(module: nn.Module) -> None:
    """Moves all tensors of a module to the fake GPU, as `module.to` would."""
    for part in module.modules():
        for name, value in [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]:
            if isinstance(value, torch.Tensor):
                moved = torch.empty(value.shape, dtype=value.dtype, device=GPU)
                is_parameter = isinstance(value, nn.Parameter)
                if is_parameter and name in vars(part):
                    del vars(part)[name]
                setattr(part, name, nn.Parameter(moved) if is_parameter else moved)


@pytest.mark.parametrize("augmix", [None, tpt.AugMix()], ids=["crops", "augmix"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_views(monkeypatch: pytest.MonkeyPatch, augmix: tpt.AugMix | None, resize: str) -> None:
    views = tpt.Views(32, 8, augmix, resize=resize)
    plan = views.plan(noise_image(1, (60, 40)), "x")
    monkeypatch.setattr(batched, "int", lambda x: 6 if isinstance(x, torch.Tensor) else int(x), raising=False)
    with MIXED:
        pixels = torch.empty(plan.pixels.shape, dtype=torch.uint8, device=GPU)
        assert views.render([replace(plan, pixels=pixels)]).device == GPU


def test_tuning(noise_file: Callable[..., Path]) -> None:
    method = tpt.TPT(clip := tpt.load_clip(pretrained=noise_file()), NAMES)
    with MIXED, torch.no_grad():  # gradients need a real GPU
        to_gpu(method)
        slots = torch.empty(3, *method.learner.slots.shape, device=GPU)
        features = torch.empty(3, 4, clip.embed_dim, device=GPU)
        assert clip.text.pads  # type: ignore[attr-defined]
        assert method.tuner.products(slots, features)[0].device == GPU


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "coca_ViT-B-32"], ids=["causal", "padded"])
def test_the_check_of_a_text_tower(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model: Any = unloaded(name, device="meta").eval()
    tokenizer = Tokenizer()
    tower = text_tower(model, tokenizer, name)
    pack = tower.pack

    def packed(*prompts: Any) -> Prompts:
        with unset_fake_temporarily():  # for values that it computes
            return pack(*prompts)

    monkeypatch.setattr(tower, "pack", packed)
    with MIXED:
        to_gpu(model)
        to_gpu(tower)
        with pytest.raises(DataDependentOutputException):  # it gets as far as the difference of the features
            check_tower(model, tower, tokenizer, name)
