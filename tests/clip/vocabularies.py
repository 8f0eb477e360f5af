"""Writes small vocabularies of every kind that open_clip's models use, built from a few sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "a photo of a cat.",
    "two words of a dog, a type of animal.",
    "the kite (bird of prey) in the wild",
    "a hot air balloon and a golden retriever; big red T-shirt",
    "jack-o'-lantern, airplane, 2012 Ford F-150!",
] * 3


@dataclass(frozen=True)
class Kind:
    """A family of vocabularies.

    Args:
        make: special tokens -> (tokenizer, trainer); the trainer is None if none is needed.
        specials: special tokens, in the order of their ids.
        template: layout of a text `$A` with its special tokens.
        pad, eos: padding and end token, both in `specials`.
    """

    make: Callable[[Sequence[str]], tuple[Tokenizer, Any]]
    specials: tuple[str, ...]
    template: str
    pad: str
    eos: str


def _unigram(specials: Sequence[str]) -> tuple[Tokenizer, Any]:
    """Whole words and letters, as in sentencepiece: each word includes the space before it."""
    words = sorted({f"▁{word}" for text in CORPUS for word in re.findall(r"\w+", f"{text} {text.lower()}")})
    letters = sorted({letter for text in CORPUS for letter in text + text.lower()} - {" "} | {"▁"})
    pieces = [(piece, 0.0) for piece in specials] + [(w, -2.0) for w in words] + [(a, -5.0) for a in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=specials.index("<unk>")))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return tokenizer, None


def _gemma(specials: Sequence[str]) -> tuple[Tokenizer, Any]:
    """Spaces become the character `▁`, and none is added before the first word."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Replace("▁", " ")
    return tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=list(specials), show_progress=False)


def _bert(specials: Sequence[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(specials), show_progress=False)


def _roberta(specials: Sequence[str]) -> tuple[Tokenizer, Any]:
    """A word has a different token at the start of a text than after a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )


KINDS = {
    "t5": Kind(_unigram, ("<unk>", "</s>"), "$A </s>", "</s>", "</s>"),  # SigLIP, whose padding is the end token
    "gemma": Kind(_gemma, ("<pad>", "<eos>", "<bos>", "<unk>"), "$A <eos>", "<pad>", "<eos>"),  # SigLIP 2
    "mt5": Kind(_unigram, ("<pad>", "</s>", "<unk>"), "$A </s>", "<pad>", "</s>"),
    "xlm": Kind(_unigram, ("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<pad>", "</s>"),
    "nllb": Kind(_unigram, ("<s>", "<pad>", "</s>", "<unk>", "eng_Latn"), "eng_Latn $A </s>", "<pad>", "</s>"),
    "bert": Kind(_bert, ("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "[CLS] $A [SEP]", "[PAD]", "[SEP]"),
    "roberta": Kind(_roberta, ("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>", "<pad>", "</s>"),
}


def write(kind: str, folder: Path) -> int:
    """Writes a vocabulary in transformers' format; returns its size."""
    known = KINDS[kind]
    tokenizer, trainer = known.make(known.specials)
    if trainer is not None:
        tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in known.specials])
    ids = [(token, tokenizer.token_to_id(token)) for token in known.specials]
    tokenizer.post_processor = processors.TemplateProcessing(single=known.template, special_tokens=ids)
    cls, sep = ("[CLS]", "[SEP]") if kind == "bert" else (None, None)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=known.pad, eos_token=known.eos, cls_token=cls, sep_token=sep
    )
    whole.save_pretrained(folder)
    return len(whole)
