"""Stream methods against their official code (tests/golden/streams), and properties they share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tpt
from benchmarks.methods import METHODS
from benchmarks.plain_streams import STREAMS
from tests.conftest import NAMES, ROOT
from tests.noise_models import noise_clip
from tests.stand_in import GivenText
from tpt.errors import UserError
from tpt.methods.functional.gaussians import BAND

GOLDEN = ROOT / "tests" / "golden" / "streams"
CASES = json.loads((GOLDEN / "cases.json").read_text())
KINDS: dict[str, Any] = {name: METHODS[name] for name in STREAMS}


def unit(stored: Any) -> torch.Tensor:
    """Unit features, computed as README.md of the cases specifies."""
    x = stored.astype(np.float32)
    return torch.from_numpy(x / np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True)).astype(np.float32))


def loaded(case: dict[str, Any]) -> tuple[Any, torch.Tensor, dict[str, torch.Tensor]]:
    """The method, the features of its images, and the official answers."""
    with np.load(GOLDEN / f"{case['name']}.npz") as arrays:
        found = dict(arrays)
    settings = case["settings"] | ({"stream_length": case["images"]} if case["kind"] == "onzeta" else {})
    features, text = unit(found.pop("image_features")), unit(found.pop("text_features"))
    method = GivenText(text).make(KINDS[case["kind"]], **settings)
    return method, features, {name: torch.as_tensor(value) for name, value in found.items()}


def close(ours: torch.Tensor, theirs: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(ours.float(), theirs.float(), atol=atol, rtol=0)


def of_kinds(*kinds: str) -> Any:
    chosen = [case for case in CASES if case["kind"] in kinds]
    return pytest.mark.parametrize("case", chosen, ids=[case["name"] for case in chosen])


def test_all_cases_are_here() -> None:
    assert len(CASES) == 20 and {case["kind"] for case in CASES} == {*KINDS}


@of_kinds("tda", "boostadapter", "pta", "dota")
def test_logits(case: dict[str, Any]) -> None:
    method, features, golden = loaded(case)
    out = method(features)
    close(out.logits, golden["logits"], case["tolerance"])
    close(out.initial_entropy, golden["entropy"], 1e-5)
    if case["settings"]["feature"] == "view0":
        close(out.initial_logits, golden["base_logits"], 1e-4)
        assert out.selected.shape[1] == 1 and not out.selected.any()


@of_kinds("tda", "boostadapter")
def test_caches(case: dict[str, Any]) -> None:
    """The caches hold the same images in the same order."""
    method, features, golden = loaded(case)
    method(features)
    state = method.state()
    for name in ("positive", "negative"):
        if f"{name}_keys" in state:
            held = state[f"{name}_entropies"].isfinite().nonzero().T.unbind()
            assert held[0].tolist() == golden[f"{name}_class"].tolist()
            close(state[f"{name}_entropies"][held], golden[f"{name}_entropy"], 1e-5)
            if case["settings"]["feature"] == "view0":
                close(state[f"{name}_keys"][held], features[golden[f"{name}_image"].long(), 0], 0)


@of_kinds("onzeta")
def test_onzeta(case: dict[str, Any]) -> None:
    method, features, golden = loaded(case)
    close(method(features).logits.softmax(-1), golden["probabilities"], case["tolerance"])
    close(method.state()["proxies"].T, golden["proxies"], 10 * case["tolerance"])
    close(method.state()["rho"], golden["rho"], 10 * case["tolerance"])


@of_kinds("ecalp")
def test_ecalp(case: dict[str, Any]) -> None:
    """Our graph has all nearest neighbours; the official lists may miss some for two or three images."""
    method, features, golden = loaded(case)
    close(method(features).logits, 10_000 * golden["scores_exact_graph"], case["tolerance"])


@of_kinds("pta", "dota")
def test_final_states(case: dict[str, Any]) -> None:
    method, features, golden = loaded(case)
    method(features)
    names = {"refined": "refined_text", "prototypes": "prototypes", "means": "means", "counts": "counts"}
    state = method.state()
    for ours, theirs in names.items():
        if ours in state:
            close(state[ours], golden[theirs], 1e-4)
    if "scatters" in state:
        mean_P = (state["scatters"] / state["counts"][:, None]).mean(0)
        covariance = golden["covariance"]
        bands = [covariance[row : row + BAND, : row + BAND].flatten() for row in range(0, len(covariance), BAND)]
        close(mean_P, torch.cat(bands), 1e-6)


KINDS_AND_FEATURES = [(name, feature) for name in KINDS for feature in ("view0", "confident")]
KINDS_AND_FEATURES = [pair for pair in KINDS_AND_FEATURES if pair[0] not in ("onzeta", "ecalp") or pair[1] == "view0"]
every = pytest.mark.parametrize(("name", "feature"), KINDS_AND_FEATURES)
IMAGES, VIEWS, CLASSES, WIDTH = 45, 12, 6, 32


def text_features(classes: int = CLASSES, width: int = WIDTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.nn.functional.normalize(torch.randn(classes, width, generator=generator), dim=-1)


@pytest.fixture
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    images = text_features()[torch.randint(CLASSES, (IMAGES, 1), generator=generator)]
    images = images + 0.25 * torch.randn(IMAGES, 1, WIDTH, generator=generator)
    views = images + 0.1 * torch.randn(IMAGES, VIEWS, WIDTH, generator=generator)
    return torch.nn.functional.normalize(views, dim=-1)


def make(name: str, feature: str = "view0", text: torch.Tensor | None = None, **settings: Any) -> Any:
    if name not in ("onzeta", "ecalp"):
        settings["feature"] = feature
    if name == "onzeta":
        settings.setdefault("stream_length", IMAGES)
    return GivenText(text_features() if text is None else text, 20.0).make(KINDS[name], **settings)


def equal(one: tpt.Adaptation, other: tpt.Adaptation) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("logits", "initial_logits", "entropy")
    )


@every
def test_batches_do_not_change_answers(name: str, feature: str, features: torch.Tensor) -> None:
    """Answers are bit-equal for any batch size, except with DOTA, where the images of a batch share sums."""
    whole, atol = make(name, feature)(features), 5e-5 if name == "dota" else 0
    for sizes in ([1] * IMAGES, [7] * 6 + [3], [1, 30, 14]):
        method = make(name, feature)
        parts = [method(part) for part in features.split(sizes)]
        close(torch.cat([part.logits for part in parts]), whole.logits, atol)
    method = make(name, feature)
    alone = [method(views) for views in features]
    close(torch.stack([one.logits for one in alone]), whole.logits, atol)
    assert torch.equal(torch.stack([one.selected for one in alone]), whole.selected)


@every
def test_a_restored_state_continues_bit_equal(name: str, feature: str, features: torch.Tensor, tmp_path: Path) -> None:
    method = make(name, feature)
    method(features[:20])
    state = method.state()
    before = {key: value.clone() for key, value in state.items()}
    torch.save(state, tmp_path / "state.pt")
    rest = method(features[20:])
    assert all(torch.equal(value, before[key]) for key, value in state.items())

    read = torch.load(tmp_path / "state.pt", weights_only=True)
    other = make(name, feature)
    for _ in range(2):  # a new object, then one that has seen other images
        other.load_state(read)
        assert other.images == 20 and equal(other(features[20:]), rest)
        other(features[:9])
    again = other.state()
    other.load_state(again)
    assert all(torch.equal(value, again[key]) for key, value in other.state().items())


def test_a_state_of_wide_features_continues() -> None:
    """The covariances have several bands; a state stores them by class, the method by band."""
    (case,) = (case for case in CASES if case["name"] == "dota_caltech")
    method, features, _ = loaded(case)
    assert features.shape[-1] > BAND
    method(features[:70])
    state = method.state()
    rest = method(features[70:])
    other, _, _ = loaded(case)
    other.load_state(state)
    assert equal(other(features[70:]), rest)


@every
def test_a_reset_method_equals_a_new_one(name: str, feature: str, features: torch.Tensor) -> None:
    method = make(name, feature)
    first = method(features)
    assert not torch.equal(method(features).logits, first.logits)  # the method has learned
    method.reset()
    assert method.images == 0 and equal(method(features), first)
    method.begin_dataset(IMAGES)
    assert equal(method(features), first)
    backwards = make(name, feature)(features.flip(0)).logits.flip(0)
    assert not torch.allclose(backwards, first.logits)  # the order matters


@every
def test_contents_of_an_adaptation(name: str, feature: str, features: torch.Tensor) -> None:
    out = make(name, feature)(features)
    zero_shot = GivenText(text_features(), 20.0).make(tpt.ZeroShot)(features)
    close(out.initial_logits, zero_shot.logits, 1e-5)
    close(out.entropy, tpt.methods.functional.entropy(out.logits), 0)
    assert out.selected.shape == (IMAGES, 1) and out.context is None
    if feature == "view0":
        close(out.initial_entropy, zero_shot.entropy, 1e-5)
        assert not out.selected.any()
    else:
        sure = tpt.methods.functional.select_confident(20.0 * features @ text_features().T, 0.1)
        assert torch.equal(out.selected, sure)
    assert KINDS[name].kind == "stream" and tpt.TPT.kind == "episodic"


@every
def test_a_state_from_inference_mode_can_continue(name: str, feature: str, features: torch.Tensor) -> None:
    method = make(name, feature)
    with torch.inference_mode():
        first = method(features[:20])
    rest = method(features[20:])
    other = make(name, feature)
    assert equal(other(features[:20]), first) and equal(other(features[20:]), rest)


@every
def test_a_foreign_state_is_refused(name: str, feature: str, features: torch.Tensor) -> None:
    method = make(name, feature)
    method(features[:20])
    before = method.state()
    more_classes, wider = make(name, feature, text_features(7)), make(name, feature, text_features(6, 48))
    foreign = {
        "another method": {"keys": torch.zeros(3), "images": torch.tensor(1)},
        "a part": {key: value for key, value in before.items() if key != "images"},
        "too much": {**before, "more": torch.zeros(1)},
        "classes": more_classes.state(),
        "width": wider.state(),
        "numbers": {**before, "images": 20},
    }
    if name == "ecalp":  # its empty state has no classes
        more_classes(torch.zeros(1, 1, WIDTH) + 1 / WIDTH**0.5)
        foreign["classes"] = {**before, "labels": before["labels"].float()}
    for what, state in foreign.items():
        with pytest.raises(UserError, match=f"a state of {type(method).__name__}") as refused:
            method.load_state(state)
        assert "\n" not in str(refused.value), what
        after = method.state()
        assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", KINDS)
def test_a_state_of_other_classes_or_another_backbone_is_refused(name: str) -> None:
    """Although it has the same form."""
    names = ["cat", "dog", "fish"]
    length = {"stream_length": 9} if name == "onzeta" else {}
    method = KINDS[name](noise_clip(), names, **length)
    method(F.normalize(torch.randn(9, 1, noise_clip().embed_dim), dim=-1))
    state = method.state()
    for clip, others in ((noise_clip(), names[::-1]), (noise_clip(), [*names[:2], "emu"]), (noise_clip(seed=2), names)):
        with pytest.raises(UserError, match=f"a state of {KINDS[name].__name__} with these classes in this order"):
            KINDS[name](clip, others, **length).load_state(state)
    again = KINDS[name](noise_clip(), names, **length)
    again.load_state({key: value for key, value in state.items() if key != "origin"})  # of version 0.1
    assert all(torch.equal(value, state[key]) for key, value in again.state().items())


def test_a_state_of_other_settings_is_refused(features: torch.Tensor) -> None:
    method = make("tda", positive_shots=2)
    method(features[:9])
    with pytest.raises(UserError, match=r"`positive_keys`.*\(6, 2, 32\)"):
        make("tda").load_state(method.state())


@pytest.mark.parametrize("name", KINDS)
def test_any_text_that_all_images_share(name: str) -> None:
    clip = noise_clip()
    generator = torch.Generator().manual_seed(1)
    features = torch.nn.functional.normalize(torch.randn(5, 3, clip.embed_dim, generator=generator), dim=-1)
    learned = tpt.random_context(clip, 4, seed=3)
    more = {"stream_length": 5} if name == "onzeta" else {}
    described = {"descriptions": {name: [f"{name} is a thing.", "A thing."] for name in NAMES}}
    for text in ({"context": learned}, {"templates": "imagenet_7"}, {"ctx_init": "a drawing of a"}, described):
        out = KINDS[name](clip, NAMES, **text, **more)(features)
        close(out.initial_logits, tpt.ZeroShot(clip, NAMES, **text)(features).logits, 1e-5)
    base = tpt.context_from_words(clip, "a photo of a")
    conditional = tpt.ConditionalContext(base, tpt.clip.prompts.MetaNet(clip.embed_dim, clip.width))
    with pytest.raises(UserError, match="CoCoOp, which each image makes its own of"):
        KINDS[name](clip, NAMES, context=conditional, **more)


@pytest.mark.parametrize("name", ["tda", "boostadapter", "pta", "dota"])
def test_with_few_views_one_is_selected(name: str, features: torch.Tensor) -> None:
    out = make(name, "confident")(features[:, :4])
    assert out.selected.shape == (IMAGES, 1) and out.logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("tda", {"feature": "mean"}, "`feature` to be view0 or confident"),
        ("tda", {"selection_p": 0}, "`selection_p` to be a number in (0, 1]"),
        ("tda", {"positive_shots": 0}, "`positive_shots`"),
        ("tda", {"entropy_low": 0.5}, "`entropy_low` below `entropy_high`"),
        ("boostadapter", {"delta": -1}, "`delta`"),
        ("onzeta", {"beta": 1.5}, "`beta` to be a number in [0, 1]"),
        ("onzeta", {"stream_length": 0}, "`stream_length`"),
        ("pta", {"text_share": 0}, "`text_share` to be a number in (0, 1]"),
        ("dota", {"epsilon": 0}, "`epsilon` to be a number in [1e-06, 1]"),
        ("ecalp", {"gamma": 2.5}, "`gamma` to be a whole number"),
    ],
)
def test_settings_out_of_range(name: str, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        GivenText(text_features()).make(KINDS[name], **settings)


def test_onzeta_needs_a_stream_length_and_notes_its_effect(features: torch.Tensor) -> None:
    method = make("onzeta", stream_length=None)
    with pytest.raises(UserError, match="`stream_length`"):
        method(features)
    method.begin_dataset(IMAGES)
    assert any("7.5 images per class" in note for note in method.notes)
    given = make("onzeta", stream_length=1000)
    given.begin_dataset(IMAGES)
    assert given.stream_length == 1000 and not given.notes

    short = make("onzeta", stream_length=20)
    short(features[:20])
    notes = short.notes
    out = short(features[20:])
    assert len(short.notes) == len(notes) + 1 and out.logits.isfinite().all()
    longer = make("onzeta", stream_length=10)  # past the end, the learned vectors keep their last weight
    longer(features[:20])
    assert torch.equal(longer(features[20:]).logits, out.logits)


def test_ecalp_warns_of_long_streams(caplog: pytest.LogCaptureFixture) -> None:
    method = make("ecalp")
    method.begin_dataset(1000)
    assert not caplog.records
    method.begin_dataset(2_000_000)
    assert "2000000 images of 6 classes" in caplog.text


def test_dota_refuses_covariances_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpt.methods.dota.free_memory", lambda device: 1000)
    with pytest.raises(UserError, match="GB of free memory for DOTA's covariances, 6 of 32 x 32"):
        make("dota")


def test_the_papers_settings_by_dataset() -> None:
    assert tpt.TDA.paper_settings("fine_grained", "eurosat")["positive_alpha"] == 4.0
    assert tpt.TDA.paper_settings("natural_shift", "imagenet_a")["feature"] == "confident"
    boosted = tpt.BoostAdapter.paper_settings("natural_shift", "imagenet_r")
    assert (boosted["delta"], boosted["positive_beta"], boosted["feature"]) == (3, 8.0, "confident")
    assert tpt.DOTA.paper_settings("fine_grained", "food101")["epsilon"] == 4e-5
    assert tpt.TDA.paper_settings()["positive_beta"] == 5.0
