"""Episodic methods other than TPT against their official code (tests/golden/methods), through the public API."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tpt
from benchmarks.methods import METHODS
from benchmarks.plain_streams import STREAMS
from tests.conftest import ROOT
from tests.noise_models import noise_clip, weights

GOLDEN = ROOT / "tests" / "golden" / "methods"
CASES = json.loads((GOLDEN / "cases.json").read_text())
TOLERANCE = 1e-4  # float32; logits are of order 10


def text_of(case: dict[str, Any]) -> dict[str, Any]:
    if case["kind"] == "tps":
        return {"templates": "imagenet_80"} if case["prototypes"] == "templates" else {}
    if case["kind"] == "awt":
        return {"templates": [case["template"]], "descriptions": case["descriptions"]}
    if case.get("ctx_seed") is None:
        return {"ctx_init": case["ctx_init"]}
    context = tpt.Context(weights.context(case["ctx_seed"], case["n_ctx"], 64), case["n_ctx"], "trained")
    return {"context": context, "ctx_init": case["ctx_init"]}


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    names = {"lambda": "penalty_weight", "p": "selection_p"}
    kept = ("p", "steps", "lr", "lambda", "tau", "scale", "gamma", "lambda_q", "lambda_y", "per_class")
    kept += ("view_temperature", "text_temperature")
    return {names.get(key, key): case[key] for key in kept if key in case}


def make(case: dict[str, Any], **more: Any) -> tpt.Method:
    if case["kind"] == "rlcf":
        reward = dict(case["reward"])
        more["reward"] = noise_clip(reward.pop("arch"), reward.pop("seed"))
        more |= reward
    clip = noise_clip(case["arch"], case["seed"])
    return METHODS[case["kind"]](clip, case["names"], **text_of(case), **settings_of(case), **more)


def inputs(case: dict[str, Any]) -> tuple[dict[str, torch.Tensor], Any]:
    golden = np.load(GOLDEN / f"{case['name']}.npz")
    views = weights.views(case["arch"], case["seed"], case["views"])
    found = {"features": noise_clip(case["arch"], case["seed"]).encode_views(views)}
    close(found["features"], golden["image_features"])
    if case["kind"] == "rlcf":
        reward = noise_clip(case["reward"]["arch"], case["reward"]["seed"])
        if reward.image_size != views.shape[-1]:
            views = F.interpolate(views, reward.image_size, mode="bicubic", align_corners=True)
        found["reward_features"] = reward.encode_views(views)
        close(found["reward_features"], golden["reward_image_features"])
    return found, golden


def close(ours: torch.Tensor, theirs: Any, atol: float = TOLERANCE) -> None:
    torch.testing.assert_close(ours.detach().float(), torch.as_tensor(theirs).float(), atol=atol, rtol=0)


def ids(case: dict[str, Any]) -> str:
    return str(case["name"])


def of_kinds(*kinds: str) -> Any:
    return pytest.mark.parametrize("case", [c for c in CASES if c["kind"] in kinds], ids=ids)


def test_all_cases_are_here() -> None:
    assert len(CASES) == 30
    assert {case["kind"] for case in CASES} == {*METHODS} - {*STREAMS, "zero_shot", "view_ensemble", "tpt"}


@of_kinds("ctpt", "otpt", "atpt", "rtpt", "rlcf", "tps")
def test_tuners(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    out = make(case)(**given)
    assert out.selected.tolist() == golden["selected"].tolist()
    close(out.initial_logits, golden["initial_logits"][0])
    close(out.logits, golden["final_logits_without_self" if case["kind"] == "rtpt" else "final_logits"])
    if "final_entropy" in golden:
        close(out.initial_entropy, golden["initial_entropy"], 1e-5)
        close(out.entropy, golden["final_entropy"], 1e-5)
    if case["kind"] == "tps":
        close(out.initial_entropy, golden["initial_loss"], 1e-5)
        close(out.entropy, golden["final_loss"], 1e-5)
    else:
        assert out.context is not None
        close(out.context, golden["tuned_context"], atol=2 * case["lr"] * case["steps"])


@of_kinds("ctpt", "otpt", "atpt", "rtpt", "rlcf")
def test_gradients_and_losses_of_the_first_step(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    method: Any = make(case)
    selected = torch.as_tensor(golden["selected"].copy())[None]
    needed = {"reward_features_BVE": given["reward_features"][None]} if "reward_features" in given else {}
    per_image = method.per_image(selected, **needed)
    trusted = given["features"][None, selected[0]]
    loss = method.tuner._loss(method.tuner.initial_text()[None], trusted, *per_image)
    close(loss[0], golden["losses"][0], 1e-4 * max(1.0, abs(float(golden["losses"][0]))))
    size = float(np.abs(golden["gradients"][0]).max())
    for gradient in (
        method.tuner._first_gradient(trusted, *per_image),
        method.tuner._gradient(method.learner.slots[None], trusted, *per_image),
    ):
        close(gradient[0] / size, golden["gradients"][0] / size, 1e-4)


@of_kinds("rlcf")
def test_rewards(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    method: Any = make(case)
    selected = torch.as_tensor(golden["selected"].copy())[None]
    (scores,) = method.per_image(selected, reward_features_BVE=given["reward_features"][None])
    close(method._reward_text, golden["reward_text_features"])
    sampled = torch.as_tensor(golden["sampled"][0])
    close(scores[0].gather(-1, sampled), golden["clip_scores"][0], 1e-5)


def test_reward_prompts_replace_the_class_placeholder() -> None:
    """The class name replaces `[CLS]` in its prompt, which has a full stop only at the end."""
    (case, *_) = (case for case in CASES if case["kind"] == "rlcf")
    words = {"photo of a [CLS] here": "photo of a red cat here.", "a_photo_of_a.": "a photo of a red cat."}
    for ctx_init, prompt in words.items():
        method: Any = make({**case, "names": ["red_cat", *case["names"]], "ctx_init": ctx_init, "ctx_seed": None})
        assert method._prompts[0] == prompt


@of_kinds("use", "se")
def test_mixtures(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    out = make(case)(**given)
    assert out.selected.tolist() == [0, *golden["selected"].tolist()]
    close(out.logits.softmax(-1), golden["final_probabilities" if case["kind"] == "use" else "probabilities"], 1e-5)
    assert int(out.logits.argmax()) == int(golden["prediction"])
    if case["kind"] == "use":
        assert torch.equal(out.entropy, out.initial_entropy) == (not bool(golden["stepped"]))


@of_kinds("zero")
def test_zero(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    out = make(case)(**given)
    assert out.selected.tolist() == golden["order"][: out.selected.shape[-1]].tolist()
    close(out.logits.softmax(-1) * golden["output"].sum(), golden["output"], 1e-4)
    assert int(out.logits.argmax()) == int(golden["prediction"])
    assert (len(golden["tied"]) > 0) == (case["name"] == "zero_tie")


@of_kinds("mta")
def test_mta(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    out = make(case)(**given)
    close(out.logits, golden["final_logits"])
    shown = make(case).show(given["features"])
    close(shown.values[0] / 100, golden["inlierness"], 1e-5)
    assert out.selected.tolist() == shown.order[0].tolist()


@of_kinds("awt")
def test_awt(case: dict[str, Any]) -> None:
    given, golden = inputs(case)
    method = make(case)
    close(method.bank.sets(), golden["text_features"])
    out = method(**given)
    close(out.logits, golden["final_logits"])
    assert int(out.logits.argmax()) == int(golden["prediction"])
    shown = method.show(given["features"])
    close(shown.values[0] / 100, golden["view_weights"], 1e-5)
    assert out.selected.tolist() == shown.order[0].tolist()


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_batch_equals_its_images_one_by_one(case: dict[str, Any]) -> None:
    given, _ = inputs(case)
    rolled = {name: torch.stack([value, value.roll(7, 0), value.flip(0)]) for name, value in given.items()}
    method = make(case)
    together = method(**rolled)
    for i in (2, 0, 1):
        alone = method(**{name: value[i] for name, value in rolled.items()})
        assert alone.selected.tolist() == together.selected[i].tolist()
        close(alone.logits, together.logits[i])
        close(alone.entropy, together.entropy[i])
