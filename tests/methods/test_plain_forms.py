"""Every method with random settings, against its plain form, which is written from the paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.methods import METHODS
from benchmarks.plain_methods import FROM_TEXT, plain_form
from benchmarks.plain_streams import STREAMS
from tests.conftest import NAMES
from tests.noise_models import noise_clip
from tests.stand_in import GivenText
from tpt.clip.weights.files import from_openai_file

VIEWS = 24  # R-TPT needs at least 21
IMAGES = 24  # of a stream; enough to fill caches and replace entries
SHARES = st.sampled_from([0.1, 0.25, 0.5])
SENTENCES = st.lists(st.sampled_from(["it is red", "It stands on a hill.", "small parts"]), min_size=1, max_size=6)
OF: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "view_ensemble": {"selection_p": SHARES},
    "zero": {"gamma": SHARES},
    "mta": {"lambda_q": st.floats(0, 8), "lambda_y": st.floats(0.1, 1)},
    "se": {"scale": st.floats(0, 2)},
    "awt": {
        "view_temperature": st.floats(0.1, 2),
        "text_temperature": st.floats(0.1, 2),
        "after_prompt": st.booleans(),
        "templates": st.sampled_from([None, ["a photo of a {}."], ["{}, drawn.", "the {}.", "{}"]]),
        "descriptions": st.none() | st.fixed_dictionaries(dict.fromkeys(NAMES, SENTENCES)),
    },
    "tps": {"selection_p": SHARES, "steps": st.integers(0, 3), "per_class": st.booleans()},
    "ctpt": {"penalty_weight": st.floats(0, 50)},
    "otpt": {"penalty_weight": st.floats(0, 18)},
    "atpt": {"penalty_weight": st.floats(0, 80)},
    "use": {"scale": st.floats(0, 1)},
    "rlcf": {"sample_k": st.integers(2, 5)},
}
FEATURE = {"feature": st.sampled_from(["view0", "confident"]), "selection_p": SHARES}
CACHES = {
    **FEATURE,
    "positive": st.booleans(),
    "negative": st.booleans(),
    "positive_shots": st.integers(1, 4),
    "negative_shots": st.integers(1, 3),
    "positive_beta": st.floats(0, 8),
    "entropy_high": st.floats(0.3, 0.7),
    "mask_low": st.floats(0, 0.2),
}
OF_STREAMS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "tda": CACHES,
    "boostadapter": {**CACHES, "delta": st.integers(0, 4)},
    "onzeta": {"alpha": st.floats(0, 1), "beta": st.floats(0, 1), "proxy_lr": st.floats(0, 0.1)},
    "pta": {**FEATURE, "text_share": st.floats(0.01, 1), "temperature": st.floats(1, 50)},
    "dota": {**FEATURE, "epsilon": st.floats(1e-3, 1), "sigma": st.floats(1e-3, 1), "rho": st.floats(0, 0.1)},
    "ecalp": {"text_neighbours": st.integers(1, 9), "image_neighbours": st.integers(1, 9), "alpha": st.floats(0, 1)},
}


@cache
def official_clip(path: Path) -> Any:
    """open_clip's own model of the weights, which no plain form changes."""
    return from_openai_file(path, True).eval()


@pytest.mark.parametrize("name", OF_STREAMS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_stream_methods_equal_their_plain_form(name: str, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), "seed"))
    text = F.normalize(torch.randn(6, 32, generator=generator), dim=-1)
    images = text[torch.randint(5, (IMAGES, 1), generator=generator)] + 0.3 * torch.randn(
        IMAGES, 1, 32, generator=generator
    )
    features = F.normalize(images + 0.1 * torch.randn(IMAGES, VIEWS, 32, generator=generator), dim=-1)
    given = {key: data.draw(value, key) for key, value in OF_STREAMS[name].items()}
    method = GivenText(text, 10.0).make(METHODS[name], **given)
    method.begin_dataset(IMAGES)
    logits = method(features).logits
    plain = STREAMS[name](method, text)
    for answer, each in zip(logits, features, strict=True):
        torch.testing.assert_close(answer.softmax(-1), plain(each).softmax(-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in STREAMS])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_batched_methods_equal_their_plain_form(
    name: str, noise_file: Callable[..., Path], data: st.DataObject
) -> None:
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
    plain = plain_form(name, official_clip(noise_file()), method, reward_text)
    for answer, each in zip(out.logits, features, strict=True):
        # AdamW's first step has the size of lr whatever the gradient's: one component of 1.5e-8, where rounding is
        # 1.5e-7, moved a probability by 4.9e-5.
        torch.testing.assert_close(answer.softmax(-1), plain(each).softmax(-1), atol=2e-4, rtol=0)
