"""Near duplicates among many texts: MinHash, then compared exactly.

Two texts are near duplicates if the Jaccard similarity of their sets of runs of five words (all words, where there are
fewer) is 0.8 or more. MinHash with 128 permutations in 32 bands of 4 finds a pair of similarity 0.8 with a chance of
1 - (1 - 0.8^4)^32 = 1 - 5e-8; each pair that shares a band is then compared exactly, so that what is reported is so.
Within one bucket every text is compared with the first only: a cluster of a thousand copies costs a thousand comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from selfreward.similarity.words import Hashes, chunks, hash_words

if TYPE_CHECKING:
    import pyarrow as pa

SIMILARITY = 0.8
_RUN = 5
_BANDS, _ROWS_PER_BAND = 32, 4


def similar_pairs(texts: pa.ChunkedArray, similarity: float = SIMILARITY) -> Iterator[tuple[int, int, float]]:
    """(earlier place, later place, Jaccard similarity) for each text that has a similar earlier one: the most similar."""
    shingles, starts = _shingles(texts)
    signatures = _signatures(shingles, starts)
    best: dict[int, tuple[float, int]] = {}
    for first, second in _candidates(signatures, starts):
        found = _jaccard(
            shingles[starts[first] : starts[first + 1]], shingles[starts[second] : starts[second + 1]]
        )
        if found >= similarity and found > best.get(second, (0.0, -1))[0]:
            best[second] = (found, first)
    for second, (found, first) in sorted(best.items()):
        yield first, second, found


def similarities(texts: list[str], others: list[str]) -> list[float]:
    """The Jaccard similarity of each text with the other one at its place; 0 if both have no words.

    >>> similarities(["a b c d e f", "a b"], ["a b c d e g", "A, b!"])
    [0.3333333333333333, 1.0]
    """
    import pyarrow as pa

    shingles, starts = _shingles(pa.chunked_array([[*texts, *others]], pa.string()))
    sets = [shingles[start:end] for start, end in pairwise(starts)]
    pairs = zip(sets[: len(texts)], sets[len(texts) :], strict=True)
    return [_jaccard(a, b) if len(a) + len(b) else 0.0 for a, b in pairs]


def _shingles(texts: pa.ChunkedArray) -> tuple[Hashes, NDArray[np.int64]]:
    """The distinct runs of each text, one text after the other, and where each text's start."""
    portions: list[Hashes] = []
    counts: list[NDArray[np.int64]] = []
    for _, chunk in chunks(texts):
        words = hash_words(chunk)
        runs, text = words.ngrams(_RUN)
        short = np.flatnonzero((words.n_words < _RUN) & (words.n_words > 0))
        text, runs = np.concatenate([text, short]), np.concatenate([runs, words.whole()[short]])
        order = np.lexsort((runs, text))
        text, runs = text[order], runs[order]
        distinct = np.ones(len(text), bool)
        distinct[1:] = (text[1:] != text[:-1]) | (runs[1:] != runs[:-1])
        portions.append(runs[distinct])
        counts.append(np.bincount(text[distinct], minlength=len(words.n_words)))
    n_shingles = np.concatenate([np.zeros(0, np.int64), *counts])
    return np.concatenate([np.zeros(0, np.uint64), *portions]), np.concatenate([[0], np.cumsum(n_shingles)])


def _signatures(shingles: Hashes, starts: NDArray[np.int64]) -> Hashes:
    """(permutations, texts): the least value of each text's shingles under each of 128 random linear maps."""
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 1 << 63, _BANDS * _ROWS_PER_BAND, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = rng.integers(0, 1 << 63, _BANDS * _ROWS_PER_BAND, dtype=np.uint64)
    filled = np.flatnonzero(np.diff(starts))
    signatures = np.zeros((len(factors), len(starts) - 1), np.uint64)
    for row, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
        if len(filled):
            # The high bits of a product are its random ones; a rotation would do as well.
            mixed = (shingles * factor + offset) >> np.uint64(11)
            signatures[row, filled] = np.minimum.reduceat(mixed, starts[filled])
    return signatures


def _candidates(signatures: Hashes, starts: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Pairs (earlier, later) that agree in a band: each text of a bucket with the bucket's first."""
    filled = np.flatnonzero(np.diff(starts))
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        rows = signatures[band * _ROWS_PER_BAND : (band + 1) * _ROWS_PER_BAND, filled]
        key = np.zeros(len(filled), np.uint64)
        for row in rows:
            key = (key ^ row) * np.uint64(0x9E3779B97F4A7C15)
        order = np.argsort(key, kind="stable")
        same = np.flatnonzero(key[order][1:] == key[order][:-1]) + 1
        firsts = np.arange(len(order))
        firsts[same] = 0
        firsts = np.maximum.accumulate(firsts)
        pairs |= {(int(filled[order[firsts[i]]]), int(filled[order[i]])) for i in same}
    return pairs


def _jaccard(a: Hashes, b: Hashes) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
