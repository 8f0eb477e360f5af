"""Prompts: order of tokens, unusual names, and limits."""

from typing import Any

import pytest
import torch

import tpt
from tests.conftest import NAMES
from tpt.errors import UserError


def words(learner: tpt.PromptLearner, k: int) -> list[str]:
    """The tokens of prompt `k` as text; learnable vectors are `<i>`."""
    decode = learner.clip.tokenizer.decode
    return [f"<{-1 - t}>" if t < 0 else decode([t]).strip() for t in learner._sequence(k)]


@pytest.mark.parametrize(
    ("ctx_init", "position", "expected"),
    [
        ("a photo", "end", "<start_of_text> <0> <1> hot air balloon . <end_of_text>"),
        ("a photo", "middle", "<start_of_text> <0> hot air balloon <1> . <end_of_text>"),
        ("a photo", "front", "<start_of_text> hot air balloon <0> <1> . <end_of_text>"),
        ("see [CLS] and more", "end", "<start_of_text> <0> hot air balloon <1> <2> . <end_of_text>"),
    ],
)
def test_order_of_tokens(clip: tpt.CLIP, ctx_init: str, position: str, expected: str) -> None:
    learner = tpt.PromptLearner(clip, ["hot_air_balloon"], tpt.context_from_words(clip, ctx_init, position))
    assert " ".join(words(learner, 0)).replace("<|", "<").replace("|>", ">") == expected


def test_full_stop_stays_with_a_bracket(clip: tpt.CLIP) -> None:
    learner = tpt.PromptLearner(clip, ["kite (bird of prey)"], tpt.context_from_words(clip, "a photo", "front"))
    assert words(learner, 0)[-4:-1] == [").", "<0>", "<1>"]


def test_order_of_classes_does_not_matter(clip: tpt.CLIP) -> None:
    context = tpt.context_from_words(clip, "a photo of a")
    forward = tpt.PromptLearner(clip, NAMES, context)()
    backward = tpt.PromptLearner(clip, NAMES[::-1], context)()
    torch.testing.assert_close(forward.flip(0), backward, atol=1e-6, rtol=0)


def test_too_long_names_are_reported(clip: tpt.CLIP) -> None:
    names = ["cat", "very " * 80 + "long name", "dog"]
    with pytest.raises(ValueError, match=r"at most 77 tokens.*very very.*\(89 tokens\).*shorten") as caught:
        tpt.TPT(clip, names)
    assert "cat" not in str(caught.value)
    fits = "very " * (77 - 4 - 3) + "long"  # start, four context tokens, full stop, end
    with pytest.raises(ValueError, match="78 tokens"):
        tpt.TPT(clip, [fits])
    tpt.TPT(clip, [fits.removeprefix("very ")])


@pytest.mark.parametrize("names", [[], ["cat", ""], ["cat", "  _ "]])
def test_missing_and_empty_names_are_refused(clip: tpt.CLIP, names: list[str]) -> None:
    with pytest.raises(ValueError, match="Expected (a list of at least one class name|class name 1 to be text)"):
        tpt.TPT(clip, names)


def test_a_context_of_another_width_or_class_count_is_refused(clip: tpt.CLIP) -> None:
    with pytest.raises(ValueError, match="Expected context vectors of width 64 .* got 512"):
        tpt.TPT(clip, NAMES, context=tpt.Context(torch.zeros(4, 512), 4, "file"))
    with pytest.raises(ValueError, match="class-specific context of 7 classes, got 3"):
        tpt.TPT(clip, NAMES, context=tpt.Context(torch.zeros(3, 4, 64), 4, "file"))


@pytest.mark.parametrize("names", ["cat", b"cat", {"cat", "dog"}])
def test_a_text_or_a_set_instead_of_a_list_of_names_is_refused(clip: tpt.CLIP, names: Any) -> None:
    """A text would be split into letters, and the order of a set differs between processes."""
    with pytest.raises(UserError, match="Expected a list of at least one class name, got .*; pass a list"):
        tpt.TPT(clip, names)
