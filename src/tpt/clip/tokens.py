"""The CLIP vocabulary: words to token ids."""

from __future__ import annotations

from collections.abc import Sequence

from open_clip.tokenizer import SimpleTokenizer

from tpt.errors import UserError


class Tokenizer:
    """OpenAI's byte-pair encoding, without padding and without silent truncation.

    open_clip's own call pads to 77 tokens and cuts what is longer; here a text that does not fit is an error.
    """

    def __init__(self, bpe: SimpleTokenizer | None = None) -> None:
        self._bpe = bpe or SimpleTokenizer()
        self.start: int = self._bpe.sot_token_id
        self.end: int = self._bpe.eot_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without start and end token."""
        return [int(t) for t in self._bpe.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, one space behind each word."""
        return str(self._bpe.decode(list(tokens)))

    def wrap_all(self, texts: Sequence[str], context_length: int) -> list[list[int]]:
        """Each text with start and end token.

        Raises:
            UserError: some texts are longer than `context_length`; the message names them.
        """
        wrapped = [[self.start, *self.encode(text), self.end] for text in texts]
        refuse_too_long({t: len(w) for t, w in zip(texts, wrapped, strict=True)}, context_length)
        return wrapped


def refuse_too_long(lengths: dict[str, int], context_length: int) -> None:
    """Raises a UserError that names every text of more than `context_length` tokens."""
    too_long = [f"{text!r} ({n} tokens)" for text, n in lengths.items() if n > context_length]
    if too_long:
        shown = ", ".join(too_long[:5]) + (f" and {len(too_long) - 5} more" if len(too_long) > 5 else "")
        raise UserError(
            f"Expected prompts of at most {context_length} tokens, start and end token included, got {shown}; "
            "shorten the class names or the context."
        )
