"""TPT gives the official code's numbers through the public API.

The golden numbers are from the official code (azshue/TPT 63ecbac), run in float32 on a CPU with torch 2.15 and the
noise weights from `golden/parity/weights.py`; see `golden/parity/README.md`.
"""

from typing import Any

import numpy as np
import pytest
import torch

import tpt
from tests.noise_models import golden, noise_clip, parity_cases, weights

CASES = parity_cases("tpt")


def make(case: dict[str, Any], clip: tpt.CLIP) -> tpt.TPT:
    context = None
    if case["ctx_seed"] is not None:
        context = tpt.Context(weights.context(case["ctx_seed"], case["n_ctx"], 64), case["n_ctx"], "trained")
    return tpt.TPT(
        clip,
        case["names"],
        ctx_init=case["ctx_init"],
        class_token_position=case["position"],
        context=context,
        steps=case["steps"],
        selection_p=case["p"],
        lr=case["lr"],
    )


def test_all_cases_are_here() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_results_equal_the_official_code(case: dict[str, Any]) -> None:
    theirs = golden(case["name"])
    clip = noise_clip(case["arch"], case["seed"])
    features = clip.encode_views(weights.views(case["arch"], case["seed"], case["views"]))
    np.testing.assert_allclose(features, theirs["image_features"], atol=1e-5)
    method = make(case, clip)
    np.testing.assert_allclose(method.learner(), theirs["text_features"], atol=1e-5)
    np.testing.assert_allclose(method.learner.split(method.learner.slots)[0], theirs["initial_context"], atol=1e-6)

    out = method(features)

    np.testing.assert_array_equal(out.selected, theirs["selected"])
    np.testing.assert_allclose(out.initial_logits, theirs["initial_logits"][0], atol=1e-4)
    np.testing.assert_allclose(out.logits, theirs["final_logits"], atol=1e-4)
    np.testing.assert_allclose(out.initial_entropy, theirs["initial_loss"], atol=1e-5)
    np.testing.assert_allclose(out.entropy, theirs["final_loss"], atol=1e-5)
    # A coordinate whose gradient is almost zero may differ by up to twice the learning rate; none does here.
    np.testing.assert_allclose(out.context, theirs["tuned_context"], atol=2 * case["lr"])
    assert not torch.allclose(out.context, method.learner.split(method.learner.slots)[0])
