"""TPT: equal to the plain algorithm, episodic, with clear errors for unusable inputs."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tpt
from benchmarks.plain import plain_of
from tests.conftest import NAMES
from tpt.clip.text_tower import TextTower
from tpt.clip.weights.files import from_openai_file
from tpt.methods import tuner


@settings(deadline=None, max_examples=12)
@given(
    position=st.sampled_from(["end", "middle", "front"]),
    n_ctx=st.integers(1, 6),
    class_specific=st.booleans(),
    steps=st.integers(1, 3),
    num_views=st.integers(4, 20),
    p=st.sampled_from([0.25, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_engine_equals_the_plain_algorithm(
    noise_clip: Callable[..., tpt.CLIP],
    noise_file: Callable,  # type: ignore[type-arg]
    position: str,
    n_ctx: int,
    class_specific: bool,
    steps: int,
    num_views: int,
    p: float,
    seed: int,
) -> None:
    clip = noise_clip()
    context = tpt.random_context(clip, n_ctx, position, seed, len(NAMES) if class_specific else None)
    context = tpt.Context(context.vectors * 15, context.n_before, "noise")  # as large as a trained context
    sgd = partial(torch.optim.AdamW)
    method = tpt.TPT(clip, NAMES, context=context, steps=steps, selection_p=p, optimizer=sgd)
    views = torch.randn(num_views, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    expected = plain_of(from_openai_file(noise_file(), True).eval(), method)(views, steps, p, 5e-3)
    out = method(clip.encode_views(views))
    assert out.selected.tolist() == expected.selected.tolist()
    torch.testing.assert_close(out.initial_logits, expected.initial_logits[0], atol=1e-4, rtol=0)
    moved = (out.context - expected.context).abs()
    # An AdamW step from a fresh state is nearly a sign step, so it may differ only where the gradient is almost zero.
    assert (moved > 1e-3).float().mean() < 0.01
    if (moved < 1e-3).all():
        torch.testing.assert_close(out.logits, expected.logits, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=16)
@given(
    names=st.lists(
        st.lists(st.sampled_from(["cat", "hot", "air", "balloon", "St.", "wood-fired"]), min_size=1, max_size=6).map(
            " ".join
        ),
        min_size=2,
        max_size=9,
        unique=True,
    ),
    position=st.sampled_from(["end", "middle", "front"]),
    n_ctx=st.integers(1, 6),
    class_specific=st.booleans(),
    precision=st.sampled_from(["fp32", "bf16"]),
    max_graph_tokens=st.sampled_from([None, 8]),
    at_once=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_gradients_equal_the_plain_algorithms(
    noise_file: Callable,  # type: ignore[type-arg]
    names: list[str],
    position: str,
    n_ctx: int,
    class_specific: bool,
    precision: str,
    max_graph_tokens: int | None,
    at_once: bool,
    seed: int,
) -> None:
    clip = tpt.load_clip(pretrained=noise_file(), precision=precision)
    context = tpt.random_context(clip, n_ctx, position, seed, len(names) if class_specific else None)
    method = tpt.TPT(clip, names, context=context, selection_p=0.5, max_graph_tokens=max_graph_tokens)
    features = clip.encode_views(torch.randn(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))
    trusted = features[:, :3]
    plain = plain_of(from_openai_file(noise_file(), True).eval(), method)
    expected = []
    for image in trusted:
        start = plain.context0.clone().requires_grad_()
        mean = (clip.logit_scale * image @ plain.text_features(start).T).softmax(-1).mean(0)
        (-(mean * mean.log()).sum()).backward()
        assert start.grad is not None
        expected.append(start.grad.reshape(-1, clip.width))
    size = float(torch.stack(expected).abs().max())
    at_start = method.learner.slots.repeat(2, 1, 1)
    with patch.object(TextTower, "pads", at_once):  # one length of prompts after the other, or all at once as on a GPU
        gradients = (method.tuner._first_gradient(trusted), method.tuner._gradient(at_start, trusted))
    for found in gradients:
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-4 * size + 1e-8, rtol=1e-3)


def test_a_batch_equals_its_images_one_by_one(clip: tpt.CLIP, features: torch.Tensor) -> None:
    method = tpt.TPT(clip, NAMES, steps=2, selection_p=0.3)
    together = method(features)
    for i in (2, 0, 1, 0):  # in any order, and twice: images do not affect each other
        alone = method(features[i])
        assert alone.selected.tolist() == together.selected[i].tolist()
        torch.testing.assert_close(alone.logits, together.logits[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.context, together.context[i], atol=1e-5, rtol=0)


def test_group_size_does_not_change_answers(clip: tpt.CLIP, features: torch.Tensor) -> None:
    one = tpt.TPT(clip, NAMES, steps=3, selection_p=0.3, max_tokens=1)(features)
    many = tpt.TPT(clip, NAMES, steps=3, selection_p=0.3)(features)
    torch.testing.assert_close(one.logits, many.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("class_specific", [False, True])
def test_splitting_the_classes_does_not_change_answers(
    clip: tpt.CLIP, features: torch.Tensor, class_specific: bool
) -> None:
    context = tpt.random_context(clip, 2, "middle", num_classes=len(NAMES) if class_specific else None)
    # Plain gradient descent: AdamW's first step would hide the size of a gradient.
    make = partial(tpt.TPT, clip, NAMES, context=context, steps=2, selection_p=0.3, lr=0.1, optimizer=torch.optim.SGD)
    whole = make()(features)
    for tokens in (1, 7, 12):
        parts = make(max_graph_tokens=tokens, max_tokens=tokens + 1)(features)
        torch.testing.assert_close(parts.context, whole.context, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(parts.logits, whole.logits, atol=1e-5, rtol=0)


def test_scarce_memory_gives_smaller_graphs(clip: tpt.CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = tuner.graph_tokens(clip.text, clip.device)
    monkeypatch.setattr(tuner, "free_memory", lambda device: 2**28)
    scarce = tuner.graph_tokens(clip.text, clip.device)
    assert 1 <= scarce < plenty
    assert scarce * 4 * tuner.FLOATS_PER_WIDTH * clip.width * len(clip.text.blocks) <= 2**27


def test_tuning_lowers_the_marginal_entropy(clip: tpt.CLIP, features: torch.Tensor) -> None:
    out = tpt.TPT(clip, NAMES, steps=4, selection_p=0.5, lr=1e-3)(features)
    assert bool((out.entropy < out.initial_entropy).all())


def test_no_steps_is_zero_shot(clip: tpt.CLIP, features: torch.Tensor) -> None:
    out = tpt.TPT(clip, NAMES, steps=0, selection_p=0.5)(features)
    zero_shot = tpt.ZeroShot(clip, NAMES)(features)
    torch.testing.assert_close(out.logits, zero_shot.logits)
    torch.testing.assert_close(out.logits, out.initial_logits)
    torch.testing.assert_close(out.entropy, out.initial_entropy)


def test_zero_learning_rate_changes_nothing(clip: tpt.CLIP, features: torch.Tensor) -> None:
    out = tpt.TPT(clip, NAMES, lr=0.0, selection_p=0.5)(features)
    torch.testing.assert_close(out.logits, out.initial_logits, atol=1e-5, rtol=0)


def test_backbone_stays_frozen(clip: tpt.CLIP, features: torch.Tensor) -> None:
    before = clip.fingerprint()
    tpt.TPT(clip, NAMES, steps=2, selection_p=0.5)(features)
    assert clip.fingerprint() == before
    assert all(p.grad is None and not p.requires_grad for p in clip.parameters())


def test_an_optimizer_that_mixes_coordinates_runs_image_by_image(clip: tpt.CLIP, features: torch.Tensor) -> None:
    class NormalisedSGD(torch.optim.SGD):
        """Divides by the norm over all coordinates, so stacked images would influence each other."""

        def step(self, closure: object = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data -= group["lr"] * p.grad / p.grad.norm()

    method = tpt.TPT(clip, NAMES, steps=2, selection_p=0.5, lr=0.1, optimizer=NormalisedSGD)
    together = method(features)
    torch.testing.assert_close(method(features[1]).logits, together.logits[1], atol=1e-5, rtol=0)
    assert not torch.allclose(together.logits, together.initial_logits, atol=1e-3)


def test_learned_class_tokens_replace_the_names(clip: tpt.CLIP, features: torch.Tensor) -> None:
    method = tpt.TPT(clip, NAMES, learned_class_token=True, selection_p=0.5)
    context, tokens = method.learner.split(method.learner.slots)
    assert context.shape == (4, 64) and tokens is not None and tokens.shape == (len(NAMES), 64)
    out = method(features)
    assert out.context is not None and out.context.shape == (3, 4, 64)
    other_names = tpt.TPT(clip, [f"thing {k}" for k in range(len(NAMES))], learned_class_token=True, selection_p=0.5)
    torch.testing.assert_close(other_names(features).logits, out.logits)
    assert not torch.allclose(tpt.TPT(clip, NAMES, selection_p=0.5)(features).logits, out.logits)


def test_too_few_views(clip: tpt.CLIP) -> None:
    with pytest.raises(ValueError, match="num_views=8 selects no view. Use num_views=10"):
        tpt.TPT(clip, NAMES)(torch.nn.functional.normalize(torch.ones(8, 32), dim=-1))


def test_features_that_are_not_finite_are_named(clip: tpt.CLIP, features: torch.Tensor) -> None:
    features[1, 3, 5] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity for image 1 of the batch"):
        tpt.TPT(clip, NAMES, selection_p=0.5)(features)


@pytest.mark.parametrize("shape", [(32,), (4, 31), (2, 2, 2, 32)])
def test_wrong_shape(clip: tpt.CLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected view features of shape \(V, 32\)"):
        tpt.TPT(clip, NAMES, selection_p=0.5)(torch.zeros(shape))


def test_inference_mode_is_refused(clip: tpt.CLIP, features: torch.Tensor) -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode=False"):
        tpt.TPT(clip, NAMES, selection_p=0.5)(features)


def test_works_while_gradients_are_disabled(clip: tpt.CLIP, features: torch.Tensor) -> None:
    method = tpt.TPT(clip, NAMES, selection_p=0.5)
    with torch.no_grad():
        off = method(features)
    torch.testing.assert_close(off.logits, method(features).logits)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"steps": -1}, "Expected `steps` to be a whole number"),
        ({"lr": -1.0}, "Expected `lr` to be a number of at least 0"),
        ({"class_token_position": "back"}, "Expected `class_token_position` to be end or middle or front"),
        ({"ctx_init": "  "}, "Expected some words in `ctx_init`"),
        ({"ctx_init": None, "n_ctx": 0}, "Expected `n_ctx` to be a whole number of at least 1"),
    ],
)
def test_settings_out_of_range(clip: tpt.CLIP, settings_: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        tpt.TPT(clip, NAMES, **settings_)
