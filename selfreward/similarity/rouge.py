"""Novelty of prompts: ROUGE-L F against every earlier prompt, and the nearest of them (paper section 2.2, step 1).

    >>> index = NoveltyIndex()
    >>> index.add("seed-1", "Name three long rivers.")
    >>> index.nearest("Name three big rivers!")
    Nearest(id='seed-1', rouge_l=0.75)

Promises: tokens, the score to the last bit, and so every decision `rouge_l > 0.7` are those of the `rouge_score`
package without stemming (lower case, runs of anything but a-z and 0-9 are one space). The nearest neighbor is exact,
also far below the threshold; among equal scores it is the one added first. Results depend neither on block sizes nor
on the method called.

Fast because ROUGE-L F is, up to rounding, 2 LCS / (len a + len b), and the LCS is at most the number of words that two
texts share, counted with repetition. That bound is one sparse product of a block of texts with all earlier ones;
rapidfuzz's compiled LCS runs only if the bound reaches the best score so far. Time grows with the square of the number
of prompts, memory linearly (`benchmarks/novelty.py` has figures).

Not covered: a text without a-z or 0-9 (another script) has no tokens and nothing in common with any text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import LCSseq
from scipy import sparse

from selfreward.errors import InputError

# A prompt is rejected above it, kept at it (Self-Instruct; paper section 2.2).
THRESHOLD = 0.7

# Bounds held at once, 4 bytes each: keeps a block in tens of MB, however large the index grows.
_CELLS_PER_BLOCK = 4_000_000
_MAX_BLOCK = 256
# With more candidates than this, the best of them are scored first, which usually rules out the others.
_MANY = 128
# The bound is computed in float32; a relative error of 1e-7 must not rule out the true nearest.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Nearest:
    """The most similar earlier text, and its ROUGE-L F in (0, 1]."""

    id: str
    rouge_l: float


@dataclass(frozen=True, slots=True)
class Novelty:
    """The result of `screen` for one text. `nearest` is None if no earlier text shares a word with it."""

    id: str
    novel: bool
    nearest: Nearest | None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A text in the forms that the two compiled libraries need."""

    letters: str
    """One character per token: rapidfuzz compares strings fastest."""
    features: NDArray[np.int32]
    """One number per (token, occurrence so far): shared features are shared words with repetition."""


class NoveltyIndex:
    """Earlier texts, searchable for the nearest one. Texts can be added at any time; none is removed."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._texts: list[_Encoded] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._features = np.zeros(0, np.int32)
        self._lengths = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, text: str) -> None:
        """Add a text to the earlier ones; takes microseconds."""
        self._append(id, self._encode(text, learn=True))

    def nearest(self, text: str) -> Nearest | None:
        """The most similar text added so far; None if none has a token in common with this one."""
        (found,) = self._nearest_block([self._encode(text, learn=False)])
        return found

    def screen(
        self,
        items: Iterable[tuple[str, str]],
        threshold: float = THRESHOLD,
        against: Literal["all", "kept"] = "all",
    ) -> list[Novelty]:
        """Judge (id, text) items in order, each against the index and the items before it, and add them.

        A text is novel if its ROUGE-L F with no earlier text is above `threshold`. With `against="all"` every item
        counts as earlier for the following ones, with `"kept"` only novel ones, as in Self-Instruct; items that do not
        count are not added to the index either.
        """
        items = list(items)
        verdicts: list[Novelty] = []
        while len(verdicts) < len(items):
            size = max(1, min(_MAX_BLOCK, _CELLS_PER_BLOCK // (len(self) + 1)))
            block = items[len(verdicts) : len(verdicts) + size]
            verdicts += self._screen_block(block, threshold, keep_all=against == "all")
        return verdicts

    def _screen_block(
        self, block: Sequence[tuple[str, str]], threshold: float, keep_all: bool
    ) -> Iterable[Novelty]:
        texts = [self._encode(text, learn=True) for _, text in block]
        before_block = self._nearest_block(texts)
        within = _rouge_l(texts, texts)
        counts_as_earlier = np.zeros(len(block), bool)
        for place, (id, _) in enumerate(block):
            nearest = before_block[place]
            scores = np.where(counts_as_earlier[:place], within[place, :place], 0.0)
            if len(scores) and scores.max() > (nearest.rouge_l if nearest else 0.0):
                nearest = Nearest(block[int(scores.argmax())][0], float(scores.max()))
            novel = nearest is None or nearest.rouge_l <= threshold
            if novel or keep_all:
                counts_as_earlier[place] = True
                self._append(id, texts[place])
            yield Novelty(id, novel, nearest)

    def _nearest_block(self, queries: Sequence[_Encoded]) -> list[Nearest | None]:
        """The nearest text of the index for each query."""
        if not self._ids:
            return [None] * len(queries)
        bounds = self._bounds(queries)
        tops = bounds.max(axis=0)
        firsts = _first_rows(bounds, tops)
        floors = np.array(
            [_rouge_l([self._texts[row]], [query])[0, 0] for row, query in zip(firsts, queries, strict=True)]
        )
        lowest = np.maximum(floors - _ROUNDING, np.finfo(np.float32).tiny).astype(np.float32)
        reachable = bounds >= lowest
        columns, rows = np.nonzero(reachable.T)
        cuts = np.searchsorted(columns, np.arange(1, len(queries)))
        return [
            self._best_of(query, candidates, bounds[candidates, column])
            for column, (query, candidates) in enumerate(zip(queries, np.split(rows, cuts), strict=True))
        ]

    def _best_of(
        self, query: _Encoded, rows: NDArray[np.intp], bounds: NDArray[np.float32]
    ) -> Nearest | None:
        """The first of the best among `rows` (ascending), the candidates for the nearest."""
        if len(rows) > _MANY:
            promising = rows[np.argpartition(-bounds, _MANY // 2)[: _MANY // 2]]
            floor = self._scores(query, promising).max()
            rows = rows[bounds >= floor - _ROUNDING]
        if not len(rows):
            return None
        scores = self._scores(query, rows)
        best = int(scores.argmax())
        return Nearest(self._ids[rows[best]], float(scores[best])) if scores[best] > 0 else None

    def _scores(self, query: _Encoded, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = _rouge_l([query], [self._texts[row] for row in rows])[0]
        return scores

    def _bounds(self, queries: Sequence[_Encoded]) -> NDArray[np.float32]:
        """Upper bounds of ROUGE-L F, (texts in the index, queries)."""
        self._consolidate()
        # The smallest integer type that cannot overflow: the product is bound by memory traffic.
        longest = max(int(self._lengths.max()), *(len(query.letters) for query in queries))
        counter = np.uint16 if longest < 2**16 else np.uint32
        starts = np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int32)
        ones = np.ones(len(self._features), counter)
        shape = (len(self._ids), len(self._numbers))
        words = sparse.csr_array((ones, self._features, starts), shape=shape)
        wanted = np.zeros((len(self._numbers), len(queries)), counter)
        for column, query in enumerate(queries):
            wanted[query.features, column] = 1
        shared: NDArray[np.float32] = (words @ wanted).astype(np.float32)
        lengths = np.array([len(query.letters) for query in queries], np.float32)
        total = self._lengths.astype(np.float32)[:, None] + lengths[None, :]
        np.maximum(total, 1, out=total)
        shared *= 2
        shared /= total
        return shared

    def _consolidate(self) -> None:
        """Append the texts added since the last search to the arrays."""
        # Not in `add`: concatenating for every text would take quadratic time.
        fresh = self._texts[len(self._lengths) :]
        if fresh:
            self._features = np.concatenate([self._features, *(text.features for text in fresh)])
            lengths = np.array([len(text.letters) for text in fresh], np.int32)
            self._lengths = np.concatenate([self._lengths, lengths])

    def _append(self, id: str, text: _Encoded) -> None:
        self._ids.append(id)
        self._texts.append(text)

    def _encode(self, text: str, learn: bool) -> _Encoded:
        """Number the tokens; without `learn`, unknown ones become NUL, which no indexed text contains."""
        seen: Counter[str] = Counter()
        letters: list[int] = []
        features: list[int] = []
        for token in tokens(text):
            seen[token] += 1
            letters.append(self._number(token, 1, learn) + 1)
            features.append(self._number(token, seen[token], learn))
        known = [feature for feature in features if feature >= 0]
        try:
            return _Encoded("".join(map(chr, letters)), np.array(known, np.int32))
        except ValueError:
            raise InputError(
                f"prompts: more than {len(self._numbers):,} different words before {text[:60]!r}; "
                "the novelty filter can distinguish about 1.1 million"
            ) from None

    def _number(self, token: str, occurrence: int, learn: bool) -> int:
        key = (token, occurrence)
        if learn:
            return self._numbers.setdefault(key, len(self._numbers))
        return self._numbers.get(key, -1)


def tokens(text: str) -> list[str]:
    """The words that ROUGE counts, as in the `rouge_score` package without stemming.

    >>> tokens("Don't panic: it's 4 o'clock!")
    ['don', 't', 'panic', 'it', 's', '4', 'o', 'clock']
    """
    return re.findall("[a-z0-9]+", text.lower())


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F of two texts; symmetric.

    >>> rouge_l("the cat sat", "the cat sat down on the mat")
    0.6
    """
    index = NoveltyIndex()
    index.add("a", a)
    found = index.nearest(b)
    return found.rouge_l if found else 0.0


def _first_rows(bounds: NDArray[np.float32], tops: NDArray[np.float32]) -> list[int]:
    """For each column the first row with its maximum."""
    # Faster than `argmax` along the strided axis.
    rows, columns = np.nonzero(bounds == tops)
    _, first = np.unique(columns, return_index=True)
    return [int(row) for row in rows[first]]


def _rouge_l(a: Sequence[_Encoded], b: Sequence[_Encoded]) -> NDArray[np.float64]:
    """ROUGE-L F of every pair, (len(a), len(b))."""
    letters = [text.letters for text in b]
    common: NDArray[Any] = process.cdist(
        [text.letters for text in a], letters, scorer=LCSseq.similarity, workers=1, dtype=np.int32
    )
    # From precision and recall, which rounds as `rouge_score` does: 2 * 7 / 20 is 0.7, but with lengths 8 and 12 its
    # formula gives 0.7000000000000001, which is above the threshold.
    precision = common / np.maximum([len(text) for text in letters], 1)
    recall = common / np.maximum([[len(text.letters)] for text in a], 1)
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
