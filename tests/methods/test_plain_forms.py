"""Every method against its plain form, written from its paper, over random settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.methods import METHODS
from benchmarks.plain_methods import FROM_TEXT, plain_form
from tests.conftest import NAMES
from tests.noise_models import noise_clip
from tpt.clip.weights.files import from_openai_file

VIEWS = 24  # R-TPT needs 21
SHARES = st.sampled_from([0.1, 0.25, 0.5])
OF: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "view_ensemble": {"selection_p": SHARES},
    "zero": {"gamma": SHARES},
    "mta": {"lambda_q": st.floats(0, 8), "lambda_y": st.floats(0.1, 1)},
    "se": {"scale": st.floats(0, 2)},
    "tps": {"selection_p": SHARES, "steps": st.integers(0, 3), "per_class": st.booleans()},
    "ctpt": {"penalty_weight": st.floats(0, 50)},
    "otpt": {"penalty_weight": st.floats(0, 18)},
    "atpt": {"penalty_weight": st.floats(0, 80)},
    "use": {"scale": st.floats(0, 1)},
    "rlcf": {"sample_k": st.integers(2, 5)},
}


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_the_batched_form_is_the_plain_one(name: str, noise_file: Callable[..., Path], data: st.DataObject) -> None:
    clip = noise_clip()
    given = {key: data.draw(value, key) for key, value in OF.get(name, {}).items()}
    if name not in FROM_TEXT:
        given |= {"selection_p": data.draw(SHARES, "selection_p"), "steps": data.draw(st.integers(0, 3), "steps")}
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), "seed"))
    base = torch.randn(2, 1, clip.embed_dim, generator=generator)
    features = F.normalize(base + torch.randn(2, VIEWS, clip.embed_dim, generator=generator), dim=-1)
    method: Any = METHODS[name](clip, NAMES, **given, **({"reward": clip} if name == "rlcf" else {}))
    rewards = {"reward_features": features} if name == "rlcf" else {}
    out = method(features, **rewards)
    reward_text = clip.encode_text(method._prompts) if name == "rlcf" else None
    plain = plain_form(name, from_openai_file(noise_file(), True).eval(), method, reward_text)
    for answer, each in zip(out.logits, features, strict=True):
        torch.testing.assert_close(answer.softmax(-1), plain(each).softmax(-1), atol=2e-5, rtol=0)
