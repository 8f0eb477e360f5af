"""CoCoOp, and TPT that starts from it, against numbers of the official code (tests/golden/parity)."""

from __future__ import annotations

import pytest
import torch

import tpt
from tests.noise_models import conditional, golden, noise_clip, parity_cases, weights
from tpt.clip.prompts import ConditionalContext, Context, MetaNet

CASES = parity_cases("cocoop")
TOLERANCE = 1e-4  # float32; the golden logits are of order 10


def close(ours: torch.Tensor, theirs: object) -> None:
    torch.testing.assert_close(ours.detach(), torch.as_tensor(theirs), atol=TOLERANCE, rtol=0)


def features(arch: str, seed: int, num_views: int) -> tuple[torch.Tensor, torch.Tensor]:
    return noise_clip(arch, seed).encode_views(weights.views(arch, seed, num_views), return_norm=True)


def test_there_are_parity_cases() -> None:
    assert {c["name"] for c in CASES} >= {"cocoop", "cocoop_steps_2"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_tpt_from_cocoop_matches_the_official_code(case: dict) -> None:
    theirs = golden(case["name"])
    context = conditional(case["ctx_seed"])
    clip = noise_clip(case["arch"], case["seed"])
    views, norm = features(case["arch"], case["seed"], case["views"])
    method = tpt.TPT(clip, case["names"], context=context, steps=case["steps"], selection_p=case["p"], lr=case["lr"])
    out = method(views, image_norm=norm)
    generated = tpt.TPT(clip, case["names"], context=context, steps=0, selection_p=case["p"])(views, image_norm=norm)
    assert generated.context is not None
    close(generated.context, theirs["generated_context"])
    close(out.initial_logits, theirs["initial_logits"][0])
    assert out.selected.tolist() == theirs["selected"].tolist()
    close(out.initial_entropy, theirs["initial_loss"])
    close(out.logits, theirs["final_logits"])
    assert float(out.entropy) < float(out.initial_entropy)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
@pytest.mark.parametrize("max_tokens", [1, 16384], ids=["one image at a time", "all at once"])
def test_plain_prediction_matches_the_official_code(case: dict, max_tokens: int) -> None:
    clip, context = noise_clip(case["arch"], case["seed"]), conditional(case["ctx_seed"])
    views, _ = features(case["arch"], case["seed"], case["views"])
    method = tpt.ZeroShot(clip, case["names"], context=context, max_tokens=max_tokens)
    as_images = views[:3, None]  # three images of one view
    close(method(as_images).logits, golden(case["name"])["cocoop_logits"])


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adafactor], ids=["elementwise", "mixing"])
def test_a_batch_equals_its_images_one_by_one(steps: int, optimizer: type[torch.optim.Optimizer]) -> None:
    clip = noise_clip("vit", 5)
    views, norms = clip.encode_views(
        torch.stack([weights.views("vit", seed, 16) for seed in (1, 2, 3)]), return_norm=True
    )
    names = ["cat", "hot air balloon", "tram", "ice cream"]
    method = tpt.TPT(clip, names, context=conditional(21), steps=steps, selection_p=0.3, optimizer=optimizer, lr=0.005)
    together = method(views, image_norm=norms)
    for i in range(3):
        alone = method(views[i], image_norm=norms[i])
        close(together.logits[i], alone.logits)
        close(together.initial_logits[i], alone.initial_logits)
        assert together.selected[i].tolist() == alone.selected.tolist()
    assert together.context is not None
    assert (together.context[0] - together.context[1]).abs().max() > 1e-3  # each image has its own context


def test_meta_input_scales_the_meta_nets_input_and_is_noted() -> None:
    clip, names = noise_clip("vit", 5), ["cat", "dog", "tram"]
    views, norm = features("vit", 5, 16)
    contexts = {}
    for meta_input in ("raw", "unit"):
        context = conditional(21, meta_input)
        method = tpt.TPT(clip, names, context=context, steps=0)
        assert method.needs == (("image_norm",) if meta_input == "raw" else ())
        assert meta_input in method.notes[0]
        out = method(views, image_norm=norm)
        assert out.context is not None
        scale = norm if meta_input == "raw" else 1.0
        close(out.context, context.base.vectors + context.meta_net(views[0] * scale))
        contexts[meta_input] = out.context
    assert (contexts["raw"] - contexts["unit"]).abs().max() > 0.01
    assert tpt.TPT(clip, names).notes == ()


def test_return_norm_gives_the_length_of_the_first_view() -> None:
    clip, images = noise_clip("vit", 5), weights.views("vit", 5, 4)
    raw = clip.encode_image(images, normalize=False)
    unit, norm = clip.encode_views(images, return_norm=True)
    torch.testing.assert_close(unit * 1.0, clip.encode_views(images), atol=0, rtol=0)
    torch.testing.assert_close(unit[0] * norm, raw[0])
    assert clip.encode_views(images[None], return_norm=True)[1].shape == (1,)


def test_a_missing_or_misshapen_norm_is_an_error() -> None:
    clip = noise_clip("vit", 5)
    views, _ = features("vit", 5, 16)
    method = tpt.TPT(clip, ["cat", "dog"], context=conditional(21))
    with pytest.raises(ValueError, match=r"method\.encode.*meta_input=unit"):
        method(views)
    with pytest.raises(ValueError, match=r"`image_norm` of leading shape \(1,\)"):
        method(views, image_norm=torch.ones(2))


def test_the_meta_net_is_not_tuned() -> None:
    context = conditional(21)
    before = {k: v.clone() for k, v in context.meta_net.state_dict().items()}
    views, norm = features("vit", 5, 16)
    method = tpt.TPT(noise_clip("vit", 5), ["cat", "dog"], context=context, steps=2)
    first = method(views, image_norm=norm)
    second = method(views, image_norm=norm)
    assert torch.equal(first.logits, second.logits)  # nothing is remembered
    assert all(torch.equal(before[k], v) for k, v in method.bank.meta_net.state_dict().items())


def test_a_meta_net_of_another_backbone_is_an_error() -> None:
    context = ConditionalContext(Context(torch.zeros(4, 64), 4, "noise"), MetaNet(48, 64))
    for make in (tpt.TPT, tpt.ZeroShot):
        with pytest.raises(ValueError, match=r"length 32 to vectors of width 64 .* got 48 to 64"):
            make(noise_clip("vit", 5), ["cat", "dog"], context=context)
