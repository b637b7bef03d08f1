"""Finds texts that repeat an evaluation prompt and must not be trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from selfreward.similarity.rouge import THRESHOLD, NoveltyIndex, tokens


@dataclass(frozen=True, slots=True)
class Overlap:
    """An evaluation prompt that a text repeats, and the kind of match."""

    id: str
    kind: Literal["exact", "ngram", "rouge_l"]
    rouge_l: float | None
    """ROUGE-L F to the nearest evaluation prompt; NULL if a shared n-gram decided."""


_MAX_NGRAM = 13
_MIN_NGRAM = 8


class EvaluationIndex:
    """The prompts of evaluation sets, searchable for one that a text repeats.

    A text overlaps if it has the same tokens as an evaluation prompt (`exact`), shares 13 consecutive tokens with one,
    or all tokens of one with 8 to 13 (`ngram`), or has a ROUGE-L above the novelty threshold (`rouge_l`). Tokens are
    those of `selfreward.similarity.rouge`.
    """

    def __init__(self, prompts: Iterable[tuple[str, str]] = ()) -> None:
        self._exact: dict[tuple[str, ...], str] = {}
        self._ngrams: dict[tuple[str, ...], str] = {}
        self._novelty = NoveltyIndex()
        for id, text in prompts:
            self.add(id, text)

    def __len__(self) -> int:
        return len(self._novelty)

    def add(self, id: str, text: str) -> None:
        """Add one evaluation prompt under an id that names its source, e.g. `alpaca_eval/17`."""
        words = _comparable(text)
        self._exact.setdefault(words, id)
        if len(words) >= _MIN_NGRAM:
            for ngram in _ngrams(words, min(len(words), _MAX_NGRAM)):
                self._ngrams.setdefault(ngram, id)
        self._novelty.add(id, text)

    def overlap(self, text: str, near: bool = True) -> Overlap | None:
        """The evaluation prompt that `text` repeats, or None; without `near`, ROUGE-L is not computed."""
        words = _comparable(text)
        if words in self._exact:
            return Overlap(self._exact[words], "exact", 1.0)
        nearest = self._novelty.nearest(text) if near else None
        if nearest and nearest.rouge_l > THRESHOLD:
            return Overlap(nearest.id, "rouge_l", nearest.rouge_l)
        for n in range(_MAX_NGRAM, _MIN_NGRAM - 1, -1):
            shared = next((ngram for ngram in _ngrams(words, n) if ngram in self._ngrams), None)
            if shared:
                return Overlap(self._ngrams[shared], "ngram", None)
        return None


def _comparable(text: str) -> tuple[str, ...]:
    # A prompt without tokens (another script) is compared by its characters, ignoring white space.
    return tuple(tokens(text)) or ("".join(text.split()),)


def _ngrams(words: tuple[str, ...], n: int) -> Iterable[tuple[str, ...]]:
    return (words[start : start + n] for start in range(len(words) - n + 1))
