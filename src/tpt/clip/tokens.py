"""Turns text into token ids with the tokenizer that open_clip specifies for a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from tpt.errors import UserError

PROBES = ("a photo of a cat.", "two words", "a photo of a kite (bird of prey), a type of animal.")
_WORD, _ROW = "a", 24  # to probe what a tokenizer adds: a word in every vocabulary, and a row length


class Tokenizer:
    """A model's tokenizer, without padding and without silent truncation.

    open_clip's tokenizer cleans a text, adds tokens at its start and end, pads to the trained length and truncates
    longer texts.  Prompts here have vectors between words, so the added tokens are inferred once from its output.  A
    text that is too long is an error.

    The tokens `start` and `end` surround a text; some vocabularies have no start token.  After the padding with `pad`,
    which may be the end token, `closing` ends a row; it is usually empty.  A UserError is raised for other forms.
    """

    def __init__(self, source: Any = None) -> None:
        self._source: Any = source or openai_bpe()  # open_clip's tokenizer; by default OpenAI's byte-pair encoding
        self._hub: Any = getattr(self._source, "tokenizer", None)  # the transformers tokenizer inside open_clip's
        self.start, self.end, self.pad, self.closing = self._form()
        # Some vocabularies encode a word differently at the start of a text.
        self._same_inside = self._encode(f"{_WORD} cat") == self._encode(_WORD) + self._encode("cat")
        self._check()

    @property
    def foreign(self) -> bool:
        """Whether the vocabulary differs from OpenAI's."""
        return self._hub is not None

    @property
    def size(self) -> int:
        """Number of words in the vocabulary."""
        return int(self._source.vocab_size) if self._hub is None else len(self._hub)

    @property
    def specials(self) -> list[int]:
        """Ids of special tokens, which do not represent text."""
        if self._hub is None:
            return [*self.start, *self.end]
        return sorted({*self._hub.all_special_ids, *self.start, *self.end, *self.closing})

    @property
    def row_length(self) -> int:
        """Tokens per row, from the model's configuration."""
        return int(self._source.context_length)

    def encode(self, text: str, inside: bool = False) -> list[int]:
        """Token ids of `text`, cleaned as in training, without added tokens; `inside` if words precede it."""
        if not inside or self._same_inside:
            return self._encode(text)
        return self._encode(f"{_WORD} {text}")[len(self._encode(_WORD)) :]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, with one space after each word."""
        return str((self._source if self._hub is None else self._hub).decode(list(tokens)))

    def wrap(self, tokens: Sequence[int]) -> list[int]:
        """`tokens` between start and end."""
        return [*self.start, *tokens, *self.end]

    def wrap_all(self, texts: Sequence[str], context_length: int) -> list[list[int]]:
        """Token ids of each text, with start and end token; raises a UserError if some are too long."""
        wrapped = [self.wrap(self.encode(text)) for text in texts]
        refuse_too_long({t: len(w) for t, w in zip(texts, wrapped, strict=True)}, context_length)
        return wrapped

    def padded(self, prompts: Sequence[Sequence[int]], length: int) -> list[list[int]]:
        """Rows of `length` ids: each prompt, its padding, and the closing tokens."""
        room = length - len(self.closing)
        return [[*prompt, *[self.pad] * (room - len(prompt)), *self.closing] for prompt in prompts]

    def rows(self, texts: Sequence[str], length: int) -> Tensor:
        """(N, length) ids from open_clip's own call, padded or truncated to `length`."""
        rows: Tensor = self._source(list(texts), context_length=length)
        return rows

    def _encode(self, text: str) -> list[int]:
        if self._hub is None:
            return [int(t) for t in self._source.encode(text)]
        clean = self._source.clean_fn(text)
        return [int(t) for t in self._hub(clean, add_special_tokens=False, verbose=False).input_ids]

    def _form(self) -> tuple[tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]:
        """The tokens added to a text, inferred from a short text and one that fills the row."""
        short, long = self._encode(_WORD), self._encode(" ".join([_WORD] * 2 * _ROW))
        short_row, long_row = (self.rows([text], _ROW)[0].tolist() for text in (_WORD, " ".join([_WORD] * 2 * _ROW)))
        places = [i for i in range(_ROW - len(short)) if short_row[i : i + len(short)] == short]
        if not short or not places:
            raise self._odd()
        start = short_row[: places[0]]
        room = next(n for n in range(_ROW, -1, -1) if long_row[len(start) :][:n] == long[:n])
        added = long_row[len(start) + room :]
        behind = short_row[len(start) + len(short) :]
        for n_end in range(len(added), -1, -1):
            end, closing = added[:n_end], added[n_end:]
            filled = behind[n_end : len(behind) - len(closing)]
            if behind == [*end, *filled, *closing] and len(set(filled)) == 1:
                return tuple(start), tuple(end), int(filled[0]), tuple(closing)
        raise self._odd()

    def _check(self) -> None:
        """Raises a UserError unless texts assembled from parts equal the output of open_clip's call."""
        length = 2 * max(len(self.wrap(self._encode(text))) for text in PROBES) + len(self.closing)
        halves = [text.partition(" ")[::2] for text in PROBES]
        prompts = [self.wrap([*self.encode(one), *self.encode(other, inside=True)]) for one, other in halves]
        if self.padded(prompts, length) != self.rows(PROBES, length).tolist():
            raise self._odd()

    def _odd(self) -> UserError:
        kind = type(self._source if self._hub is None else self._hub).__name__
        return UserError(
            f"Prompts cannot be assembled from the tokens of {kind}, which does not encode a plain sentence as a "
            "start, the words, an end and padding. Choose another model."
        )


@cache
def openai_bpe() -> SimpleTokenizer:
    """OpenAI's byte-pair encoding, cached because it takes a moment to read."""
    return SimpleTokenizer()


def refuse_too_long(lengths: dict[str, int], context_length: int) -> None:
    """Raises a UserError if a text has more than `context_length` tokens."""
    too_long = [f"{text!r} ({n} tokens)" for text, n in lengths.items() if n > context_length]
    if too_long:
        shown = ", ".join([*too_long[:5], *["..."] * (len(too_long) > 5)])
        raise UserError(
            f"Expected prompts of at most {context_length} tokens, including start and end token, got {shown}; "
            "shorten the class names or the context."
        )
