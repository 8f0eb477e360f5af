"""AWT beyond its official numbers: the texts of a class, one text per class, and limited memory."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import tpt
from tests.conftest import NAMES
from tests.noise_models import conditional, weights
from tpt.engine.tasks.method_maker import MethodMaker
from tpt.methods import awt
from tpt.methods.functional import entropy

WORDS = [name.replace("_", " ") for name in NAMES]
RAGGED = {name: ["it is red", "It stands on a hill.", "small parts"][: 1 + k % 3] for k, name in enumerate(WORDS)}


@pytest.mark.parametrize("templates", [None, ["the {}, drawn.", "{}"]])
@pytest.mark.parametrize("after_prompt", [True, False])
def test_the_texts_of_a_class(clip: tpt.CLIP, templates: list[str] | None, after_prompt: bool) -> None:
    found = tpt.AWT(clip, NAMES, templates=templates, descriptions=RAGGED, after_prompt=after_prompt).bank.sets()
    prompts = templates or (["a photo of a {}."] if after_prompt else [])
    assert found.shape[:2] == (len(NAMES), len(prompts) + 3)
    for own, word in zip(found, WORDS, strict=True):
        lead = f"{prompts[0].format(word)} " if after_prompt else ""
        texts = [*(prompt.format(word) for prompt in prompts), *(lead + text for text in RAGGED[word])]
        torch.testing.assert_close(own[: len(texts)], clip.encode_text(texts), atol=1e-5, rtol=0)
        assert not own[len(texts) :].any()


def test_padding_changes_nothing(clip: tpt.CLIP, features: torch.Tensor) -> None:
    """Classes with fewer texts than another are padded."""
    pair = {"cat": ["it sleeps"], "dog": ["it barks", "four legs"]}
    method = tpt.AWT(clip, ["cat", "dog"], descriptions=pair)
    expected = method(features).logits
    text = method.bank.sets()
    method.bank._sets = torch.nn.functional.pad(text, (0, 0, 0, 3))
    torch.testing.assert_close(method(features).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["words", "coop", "cocoop"])
@pytest.mark.parametrize("elements", [1, awt.ELEMENTS], ids=["one image at a time", "all at once"])
def test_one_text_per_class_is_a_weighted_mean(
    clip: tpt.CLIP, features: torch.Tensor, kind: str, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awt, "ELEMENTS", elements)
    learned = tpt.Context(weights.context(3, 4, weights.TEXT_WIDTH), 4, "trained")
    contexts: dict[str, Any] = {"words": None, "coop": learned, "cocoop": conditional(31, "unit")}
    method = tpt.AWT(clip, NAMES, view_temperature=0.2, context=contexts[kind])
    logits = clip.logit_scale * features @ method.bank(features[:, 0]).mT
    shares = (-entropy(logits) / 0.2).softmax(-1)
    out = method(features)
    torch.testing.assert_close(out.logits, (shares[..., None] * logits).sum(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.initial_logits, logits[:, 0], atol=1e-4, rtol=0)
    assert out.selected.tolist() == shares.argsort(dim=-1, descending=True, stable=True).tolist()


def test_a_few_images_at_a_time(clip: tpt.CLIP, features: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tpt.AWT(clip, NAMES, descriptions=RAGGED)
    whole = method(features)
    monkeypatch.setattr(awt, "ELEMENTS", 1)
    torch.testing.assert_close(method(features).logits, whole.logits, atol=1e-5, rtol=0)


def test_templates_of_the_paper_depend_on_the_dataset(clip: tpt.CLIP, image_tree: Path) -> None:
    dataset = replace(tpt.image_folder(image_tree), name="dtd")
    make: Any = partial(tpt.AWT, templates="paper")
    maker = MethodMaker(clip, partial(tpt.context_from_words, ctx_init="a"), make)
    word = dataset.class_names[0].replace("_", " ")
    expected = clip.encode_text([f"a photo of a {word}, which is a type of texture, or a type of pattern."])
    torch.testing.assert_close(maker(dataset).bank.sets()[0], expected, atol=1e-5, rtol=0)
    other: Any = partial(tpt.AWT, templates="imagenet_7")
    notes = MethodMaker(clip, maker._make_context, other)(dataset).notes
    assert any(note.startswith("templates=imagenet_7, in the method's paper") for note in notes)
