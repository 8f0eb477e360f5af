"""Every kind of text tower equals open_clip's own forward pass, and silent errors are detected."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpt
from tests.clip import families, vocabularies
from tests.conftest import NAMES
from tpt.clip.padded_tower import PaddedTower
from tpt.clip.tokens import Tokenizer
from tpt.clip.towers import check_tower
from tpt.clip.weights.named import unloaded
from tpt.clip.weights.pretrained import wrap
from tpt.errors import UserError
from tpt.methods.tuner import pull_back

# One name per structure; `WORKING` leaves out the refused one.
KINDS = list(dict.fromkeys(map(families.structure, open_clip.list_models())))
NAME_OF = {kind: next(n for n in open_clip.list_models() if families.structure(n) == kind) for kind in KINDS}
WORKING = [name for name in NAME_OF.values() if name != "coca_base"]
ONE_OF_EACH = ["ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "MobileCLIP2-S0", "coca_ViT-B-32"]
ONE_OF_EACH += ["ViT-L-14-worldwide", "ViT-H-14-worldwide", "roberta-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base"]
ONE_OF_EACH += ["ViT-B-32"]
SENTENCES = ["a", "a photo of a cat.", "kite (bird of prey)", "the wild T-shirt, big; 2012!", "a dog " * 4]


def made(name: str, folder: Path) -> tuple[nn.Module, tpt.CLIP]:
    config = families.shrunk(name, folder)
    model = families.build(config)
    return model, wrap(model, name, tokenizer=families.tokenizer_of(config))


class Spliced(nn.Module):
    """A token embedding that inserts given vectors at given positions, for use in a model's own forward pass."""

    def __init__(self, embedding: nn.Module, rows: Tensor, vectors: Tensor) -> None:
        super().__init__()
        self.embedding, self.rows, self.vectors = embedding, rows, vectors

    def forward(self, tokens: Tensor) -> Tensor:
        given = self.vectors[(-1 - self.rows).clamp(min=0)]
        return torch.where((self.rows < 0)[..., None], given, self.embedding(tokens))


def plain_features(model: Any, clip: tpt.CLIP, learner: tpt.PromptLearner, slots: Tensor) -> Tensor:
    """Features of a learner's prompts from the model's own forward pass on padded rows with inserted vectors."""
    tokenizer, text = clip.tokenizer, getattr(model, "text", model)
    length = clip.text.context_length
    sequences = [learner._sequence(k) for k in range(len(learner.class_names))]
    rows = torch.tensor([[*s, *[tokenizer.pad] * (length - len(s)), *tokenizer.closing] for s in sequences])
    word = tokenizer.encode("a", inside=True)[-1]  # neither the padding id nor the highest id
    tokens = torch.where(rows < 0, word, rows)
    if hasattr(text, "token_embedding"):
        kept = text.token_embedding
        text.token_embedding = Spliced(kept, rows, slots)
    else:
        kept = text.transformer.get_input_embeddings()
        text.transformer.set_input_embeddings(Spliced(kept, rows, slots))
    try:
        return F.normalize(model.encode_text(tokens), dim=-1)
    finally:
        if hasattr(text, "token_embedding"):
            text.token_embedding = kept
        else:
            text.transformer.set_input_embeddings(kept)


def test_every_model_works_or_is_refused_with_a_reason() -> None:
    for name in open_clip.list_models():
        engine, reason = families.outcome(families.structure(name))
        assert bool(engine) != bool(reason)
        assert not reason or name == "coca_base", reason
        text = open_clip.get_model_config(name)["text_cfg"]
        plain = not text.get("no_causal_mask") and not text.get("embed_cls")
        if "hf_model_name" not in text:
            assert engine in (["TextTower"] if plain else ["PaddedTower", ""]), name


def test_the_table_of_the_docs_is_current() -> None:
    assert families.table() in families.DOCS.read_text("utf-8"), "python -m tests.clip.families writes it anew"


@pytest.mark.parametrize("name", WORKING)
def test_features_equal_the_models_own(name: str, tmp_path: Path) -> None:
    model, clip = made(name, tmp_path)
    with torch.no_grad():
        tokens = clip.tokenizer.rows(SENTENCES, clip.text.context_length + len(clip.tokenizer.closing))
        expected = F.normalize(model.encode_text(tokens), dim=-1)
    torch.testing.assert_close(clip.encode_text(SENTENCES), expected, atol=1e-5, rtol=0)
    assert (expected[0] - expected[1]).norm() > 0.01, "weights whose features tell sentences apart"
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert clip.encode_image(pixels).shape == (2, clip.embed_dim)


@pytest.mark.parametrize(
    "position", ["middle", *(pytest.param(end, marks=pytest.mark.slow) for end in ("end", "front"))]
)
@pytest.mark.parametrize("name", WORKING)
def test_gradients_equal_the_models_own(name: str, position: str, tmp_path: Path) -> None:
    model, clip = made(name, tmp_path)
    learner = tpt.PromptLearner(clip, NAMES, tpt.random_context(clip, 3, position))
    pull = torch.randn(len(NAMES), clip.embed_dim, generator=torch.Generator().manual_seed(0))
    fast, slow = (learner.slots.clone().requires_grad_() for _ in range(2))
    ours, theirs = learner(fast), plain_features(model, clip, learner, slow)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    (mine,) = torch.autograd.grad((ours * pull).sum(), fast)
    (plain,) = torch.autograd.grad((theirs * pull).sum(), slow)
    torch.testing.assert_close(mine, plain, atol=1e-4, rtol=1e-4)
    assert mine.abs().amin(1).max() > 0


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_prompts_from_words_equal_plain_sentences(name: str, tmp_path: Path) -> None:
    """Covers the full stop, spaces before words, and the position of the class name."""
    _, clip = made(name, tmp_path)
    names = ["cat", "hot_air_balloon", "golden retriever", "T-shirt"]
    for ctx_init in ("big red [CLS]", "a photo of [CLS] in the wild", "[CLS] in the wild", "{} red."):
        learner = tpt.PromptLearner(clip, names, tpt.context_from_words(clip, ctx_init))
        form = f"{ctx_init.removesuffix('.')}."
        sentences = [form.replace("[CLS]", "{}").format(n.replace("_", " ")) for n in names]
        torch.testing.assert_close(learner(), clip.encode_text(sentences), atol=1e-5, rtol=0)
    for position, form in (("end", "a photo {}."), ("middle", "a {} photo."), ("front", "{} a photo.")):
        learner = tpt.PromptLearner(clip, names, tpt.context_from_words(clip, "a photo", position))
        sentences = [form.format(n.replace("_", " ")) for n in names]
        torch.testing.assert_close(learner(), clip.encode_text(sentences), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_batches_of_contexts_and_gradients(name: str, tmp_path: Path) -> None:
    """Covers the tuner's uses: a batch of contexts, parts of the classes, several gradients through one graph."""
    _, clip = made(name, tmp_path)
    learner = tpt.PromptLearner(clip, NAMES, tpt.random_context(clip, 2, "middle"))
    slots = learner.slots + torch.randn(3, *learner.slots.shape, generator=torch.Generator().manual_seed(1))
    together = learner(slots)
    for one, expected in zip(slots, together, strict=True):
        torch.testing.assert_close(learner(one), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(learner.encode(slots, 40), together, atol=1e-5, rtol=0)
    leaf = learner.slots.clone().requires_grad_()
    text = learner(leaf)
    pull = torch.randn(2, *text.shape, generator=torch.Generator().manual_seed(2))
    (at_once,) = torch.autograd.grad(text, leaf, pull, retain_graph=True, is_grads_batched=True)  # as on a GPU
    torch.testing.assert_close(at_once, pull_back(text, leaf, pull), atol=1e-5, rtol=1e-4)
    plain = tpt.PromptLearner(
        clip, NAMES, tpt.random_context(clip, 1, num_classes=len(NAMES)), learned_class_token=True
    )
    assert plain(plain.slots.repeat(2, 1, 1)).shape == (2, len(NAMES), clip.embed_dim)


def test_sigmoid_scores_follow_from_logits_and_bias(tmp_path: Path) -> None:
    model, clip = made("ViT-B-16-SigLIP", tmp_path)
    pictures = torch.randn(3, 1, 3, clip.image_size, clip.image_size)
    tokens = clip.tokenizer.rows(["cat", "dog"], clip.text.context_length)
    image, text, scale, bias = model(pictures[:, 0], tokens)
    logits = tpt.ZeroShot(clip, ["cat", "dog"], templates=["{}"])(clip.encode_views(pictures)).logits
    found = (logits + clip.about()["logit_bias"]).sigmoid()
    torch.testing.assert_close(found, (scale * image @ text.T + bias).sigmoid(), atol=1e-6, rtol=1e-3)
    assert "logit_bias" not in tpt.load_clip("emoji-mini").about()


def test_padding_is_computed_only_where_it_is_attended_to(tmp_path: Path) -> None:
    _, siglip = made("ViT-B-16-SigLIP", tmp_path / "a")
    packed = siglip.text.pack([siglip.tokenizer.wrap(siglip.tokenizer.encode("a cat"))], shared=0)
    assert packed.num_tokens == siglip.text.context_length == 24
    _, coca = made("coca_ViT-B-32", tmp_path / "b")
    words = coca.tokenizer.wrap(coca.tokenizer.encode("a cat"))
    assert (
        coca.text.pack([words], shared=0).num_tokens == len(words) + 2
    )  # a padding token that the shifted mask leaves visible; class token
    _, roberta = made("roberta-ViT-B-32", tmp_path / "c")
    words = roberta.tokenizer.wrap(roberta.tokenizer.encode("a cat"))
    assert roberta.text.pack([words], shared=0).num_tokens == len(words)


def test_a_too_long_prompt_is_reported(tmp_path: Path) -> None:
    _, clip = made("ViT-B-16-SigLIP", tmp_path)
    with pytest.raises(UserError, match=r"at most 24 tokens.*'dog dog.*shorten"):
        tpt.PromptLearner(clip, ["cat", "dog " * 30], tpt.context_from_words(clip, "a photo of a"))


def test_names_that_cleaning_makes_equal_are_refused(tmp_path: Path) -> None:
    """SigLIP's text cleaning removes case and punctuation."""
    _, clip = made("ViT-B-16-SigLIP", tmp_path)
    with pytest.raises(UserError, match="T-shirt"):
        tpt.PromptLearner(clip, ["T-shirt", "tshirt"], tpt.context_from_words(clip, "a photo of a"))


def other_padding(tower: PaddedTower) -> None:
    tower.tokenizer = copy.copy(tower.tokenizer)
    tower.tokenizer.pad = 0


@pytest.mark.parametrize(
    "change",
    [
        lambda tower: setattr(tower, "pool", "first"),
        lambda tower: setattr(tower, "pool", "argmax"),
        lambda tower: setattr(tower, "causal", True),
        lambda tower: setattr(tower, "masked_id", 1),
        other_padding,
        lambda tower: setattr(tower.blocks[0].mlp, "gelu", open_clip.transformer.QuickGELU()),
        lambda tower: tower.positional_embedding.data.copy_(tower.positional_embedding.roll(1, 0)),
        lambda tower: setattr(tower.ln_final, "eps", 0.5),
    ],
)
def test_a_tower_that_computes_other_features_is_refused(change: Any, tmp_path: Path) -> None:
    config = families.shrunk("ViT-B-16-SigLIP", tmp_path)
    clip = wrap(families.build(config), "x", tokenizer=families.tokenizer_of(config))
    check_tower(families.build(config), clip.text, clip.tokenizer, "x")
    change(clip.text)
    with pytest.raises(UserError, match="text features of 'x' differ from open_clip's"):
        check_tower(families.build(config), clip.text, clip.tokenizer, "x")


def test_another_models_tokenizer_is_refused(tmp_path: Path) -> None:
    config = families.shrunk("ViT-B-16-SigLIP", tmp_path)
    with pytest.raises(UserError, match="knows .* words, not the 49408 of CLIP's vocabulary"):
        wrap(families.build(config), "x", tokenizer=Tokenizer())
    other = families.tokenizer_of(families.shrunk("roberta-ViT-B-32", tmp_path / "roberta"))
    with pytest.raises(UserError, match="of its tokenizer"):
        wrap(families.build(config), "x", tokenizer=other)


@pytest.mark.parametrize("kind", vocabularies.KINDS)
def test_nearest_words_skip_special_tokens(kind: str, tmp_path: Path) -> None:
    name = next(n for n in ONE_OF_EACH if families.stand_in(open_clip.get_model_config(n)) in (kind, None))
    name = next((n for n in WORKING if families.stand_in(open_clip.get_model_config(n)) == kind), name)
    _, clip = made(name, tmp_path)
    from tpt.clip.prompts.words import nearest_words

    context = tpt.context_from_words(clip, "a photo of a")
    nearest = [words[0] for words in nearest_words(clip, context.vectors, 1)]
    assert all(word.distance < 1e-5 for word in nearest)
    assert nearest[0].word.lower() == "a"


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in open_clip.list_models() if n not in ("coca_base",)])
def test_full_size_models_are_built_without_weights(name: str) -> None:
    """Every architecture can be built on the meta device, and its images are square."""
    if "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]:
        pytest.skip("transformers' configuration of its text tower lies on the hub")
    model: Any = unloaded(name, device="meta")
    size = model.visual.image_size
    assert isinstance(size, int) or size[0] == size[1]
    assert getattr(model, "text", model).token_embedding.weight.is_meta
