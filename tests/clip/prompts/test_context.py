"""Contexts from words and from random vectors."""

import pytest
import torch

import tpt


@pytest.mark.parametrize(
    ("ctx_init", "position", "n_ctx", "n_before"),
    [
        ("a photo of a", "end", 4, 4),
        ("a_photo_of_a", "end", 4, 4),
        ("a photo of a", "middle", 4, 2),
        ("in a photo", "middle", 3, 1),
        ("in a photo", "front", 3, 0),
        ("a photo of [CLS] in the wild", "end", 6, 3),
        ("[CLS] in a photo", "end", 3, 0),
        ("a photo of a [CLS]", "front", 4, 4),
        ("a hyperrealistic photo", "end", 4, 4),  # "hyperrealistic" is two tokens
    ],
)
def test_context_from_words(clip: tpt.CLIP, ctx_init: str, position: str, n_ctx: int, n_before: int) -> None:
    context = tpt.context_from_words(clip, ctx_init, position)
    assert (context.n_ctx, context.n_before) == (n_ctx, n_before)
    words = ctx_init.replace("[CLS]", "").replace("_", " ")
    expected = clip.text.token_embedding(torch.tensor(clip.tokenizer.encode(words)))
    assert torch.equal(context.vectors, expected)


def test_random_vectors_are_seeded_and_have_the_published_spread(clip: tpt.CLIP) -> None:
    before = torch.random.get_rng_state()
    context = tpt.random_context(clip, 16, seed=7, num_classes=50)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert context.class_specific and context.vectors.shape == (50, 16, 64)
    assert float(context.vectors.std()) == pytest.approx(0.02, rel=0.02)
    assert torch.equal(context.vectors, tpt.random_context(clip, 16, seed=7, num_classes=50).vectors)
    assert not torch.equal(context.vectors, tpt.random_context(clip, 16, seed=8, num_classes=50).vectors)


def test_two_class_tokens_are_refused(clip: tpt.CLIP) -> None:
    with pytest.raises(ValueError, match=r"Expected \[CLS\] at most once"):
        tpt.context_from_words(clip, "[CLS] and [CLS]")


@pytest.mark.parametrize("mark", ["[cls]", "[class]", "{c}", "{name}", "<label>", "%s", "[ CLS ]"])
def test_marks_similar_to_the_class_token_are_read_as_words(clip: tpt.CLIP, mark: str) -> None:
    """The official code also reads `[cls]` as words, but users probably mean the class name, so results have a note."""
    words = f"a photo of a {mark}"
    context = tpt.context_from_words(clip, words)
    assert context.n_ctx == context.n_before == len(clip.tokenizer.encode(words))
    method = tpt.ZeroShot(clip, ["cat", "dog"], ctx_init=words)
    assert method.notes == (f"{mark} in ctx_init was read as words; [CLS] marks the position of the class name",)


@pytest.mark.parametrize(
    "words", ["a photo of a [CLS] in the wild", "a photo of a {}.", "a (small) photo of [the] sea"]
)
def test_other_words_give_no_note(clip: tpt.CLIP, words: str) -> None:
    assert tpt.ZeroShot(clip, ["cat", "dog"], ctx_init=words).notes == ()
