"""The meta-net and CoCoOp's logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.noise_models import conditional, noise_clip, weights
from tpt.clip.prompts import (
    ConditionalContext,
    Context,
    MetaNet,
    PromptLearner,
    conditional_logits,
    initial_conditional,
)

NAMES = ["cat", "hot air balloon", "kite (bird of prey)"]


def test_the_meta_net_has_two_layers_of_the_papers_width() -> None:
    assert {k: tuple(v.shape) for k, v in MetaNet(512, 512).state_dict().items()} == {
        "linear1.weight": (32, 512),
        "linear1.bias": (32,),
        "linear2.weight": (512, 32),
        "linear2.bias": (512,),
    }
    assert MetaNet(1024, 512).linear1.out_features == 64
    made, x = conditional().meta_net, torch.randn(5, weights.EMBED)
    by_hand = (x @ made.linear1.weight.T + made.linear1.bias).clamp(min=0) @ made.linear2.weight.T + made.linear2.bias
    torch.testing.assert_close(made(x), by_hand)


def run(max_tokens: int) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """The logits, the gradients of all learned tensors, and the number of calls of the text tower."""
    clip, made = noise_clip(), conditional().meta_net
    learner = PromptLearner(clip, NAMES, Context(weights.context(21, 4, weights.TEXT_WIDTH), 4, "noise"))
    calls = []
    handle = learner.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    ctx = torch.nn.Parameter(learner.slots.clone())
    image = F.normalize(torch.randn(5, weights.EMBED, generator=torch.Generator().manual_seed(1)), dim=-1)
    logits = conditional_logits(learner, ctx, made, image, max_tokens)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1])).backward()
    handle.remove()
    assert max(calls) <= max(1, max_tokens // learner.prompts.num_tokens)
    return logits.detach(), [p.grad for p in (ctx, *made.parameters()) if p.grad is not None], len(calls)


def test_grouping_images_changes_neither_logits_nor_gradients() -> None:
    whole, whole_grads, whole_calls = run(max_tokens=16384)
    assert whole_calls == 1
    for max_tokens in (1, 50):
        logits, grads, calls = run(max_tokens)
        torch.testing.assert_close(logits, whole, atol=1e-5, rtol=1e-5)
        assert len(grads) == 5
        for ours, theirs in zip(grads, whole_grads, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        assert calls > 2  # once forward, and again in the backward pass
    assert run(1)[2] == 2 * 5


def test_each_image_has_its_own_prompts() -> None:
    clip, made = noise_clip(), conditional().meta_net
    context = Context(weights.context(21, 4, weights.TEXT_WIDTH), 4, "noise")
    image = F.normalize(torch.randn(3, weights.EMBED, generator=torch.Generator().manual_seed(2)), dim=-1)
    learner = PromptLearner(clip, NAMES, context)
    together = conditional_logits(learner, learner.slots, made, image)
    for i in range(3):
        own = Context((context.vectors + made(image[i])).detach(), 4, "own")
        expected = clip.logit_scale * image[i] @ PromptLearner(clip, NAMES, own)().T
        torch.testing.assert_close(together[i], expected, atol=1e-4, rtol=0)


def test_initialisation_is_seeded_and_leaves_the_global_generator_alone() -> None:
    clip = noise_clip()
    base = Context(weights.context(21, 4, weights.TEXT_WIDTH), 4, "noise")
    before = torch.random.get_rng_state()
    first, again, other = (initial_conditional(clip, base, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.meta_net.linear1.weight, again.meta_net.linear1.weight)
    assert not torch.equal(first.meta_net.linear1.weight, other.meta_net.linear1.weight)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`meta_input` to be raw or unit, got 'both'"):
        ConditionalContext(Context(torch.zeros(4, 64), 4, "x"), conditional().meta_net, "both")
    with pytest.raises(ValueError, match="generic context with a meta-net"):
        ConditionalContext(Context(torch.zeros(3, 4, 64), 4, "x"), conditional().meta_net)
