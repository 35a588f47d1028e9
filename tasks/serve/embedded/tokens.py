"""Counts the tokens of texts, and cuts texts, with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer


class Tokens:
    """A tokenizer without the truncation and the padding that its file asks for."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, the model's start and end marks included."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def cut(self, text: str, limit: int) -> str:
        """Return the longest beginning of `text` that has at most `limit` tokens."""
        ends = [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]
        keep = min(len(ends), limit - self._tokenizer.num_special_tokens_to_add(is_pair=False))
        # A word that is cut in two can have more tokens than its part had: step back until it fits.
        while keep > 0 and self.count([text[: ends[keep - 1]]])[0] > limit:
            keep -= 1
        return text[: ends[keep - 1]] if keep > 0 else ""
