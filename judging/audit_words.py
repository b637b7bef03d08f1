"""The words of millions of texts as numbers, without a Python loop over texts.

    words = hash_words(["To be, or not to be.", ""])
    words.n_words  # [6, 0]

Words are those of `builders.novelty.tokens`: lower case, runs of a-z and 0-9. Each is a 64-bit polynomial hash of its
letters; runs of n words hash likewise, by differences of prefix sums, so that all n-grams of a gigabyte of text cost
a few passes over it. Different words share a hash with a chance of about 1 in 10^18 a pair, and what matters here is
compared by text once a hash matched; ASCII letters only are folded to lower case, which is where the tokens of the two
could differ (the Kelvin sign).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

CHUNK_BYTES = 16 << 20
_LETTER_BASE = 0x9E3779B97F4A7C15 | 1
_WORD_BASE = 0xC2B2AE3D27D4EB4F | 1
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Words:
    """The words of some texts, one after the other."""

    hashes: Hashes
    n_words: Numbers
    """Of each text."""

    @cached_property
    def starts(self) -> Numbers:
        """Where each text's words start; one entry more than there are texts."""
        return np.concatenate([[0], np.cumsum(self.n_words)])

    @cached_property
    def text_of_word(self) -> Numbers:
        """Which text each word belongs to."""
        return np.repeat(np.arange(len(self.n_words)), self.n_words)

    def whole(self) -> Hashes:
        """One hash of all the words of each text, 0 for a text without words."""
        prefix, inverse = self._prefix
        difference = prefix[self.starts[1:]] - prefix[self.starts[:-1]]
        result: Hashes = difference * inverse[self.starts[:-1]]
        return result

    def ngrams(self, n: int) -> tuple[Hashes, Numbers]:
        """The hashes of all runs of n words, and the text of each; a run never crosses from one text to the next."""
        prefix, inverse = self._prefix
        n_runs = max(len(self.hashes) - n + 1, 0)
        inside = self.text_of_word[:n_runs] == self.text_of_word[n - 1 : n - 1 + n_runs]
        runs = (prefix[n : n + n_runs] - prefix[:n_runs]) * inverse[:n_runs]
        return runs[inside], self.text_of_word[:n_runs][inside]

    @cached_property
    def _prefix(self) -> tuple[Hashes, Hashes]:
        """Prefix sums of hash * base^place, and the inverse powers that make a difference of them place-free."""
        n = len(self.hashes)
        powers, inverse = _powers(_WORD_BASE, n), _powers(pow(_WORD_BASE, -1, 1 << 64), n + 1)
        prefix = np.zeros(n + 1, np.uint64)
        np.cumsum(self.hashes * powers, out=prefix[1:])
        return prefix, inverse


def chunks(texts: pa.ChunkedArray, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[int, pa.Array]]:
    """(place of the first text, texts) in portions of about `chunk_bytes`; NULL counts as empty."""
    import pyarrow.compute as pc

    place = 0
    for chunk in texts.chunks:
        chunk = pc.fill_null(chunk, "")
        mean = max(1, chunk.nbytes // max(1, len(chunk)))
        step = max(1, chunk_bytes // mean)
        for start in range(0, len(chunk), step):
            part = chunk.slice(start, step)
            yield place, part
            place += len(part)


def hash_words(texts: pa.Array | list[str]) -> Words:
    """The words of a string array (no NULLs)."""
    import pyarrow as pa

    array = pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts.cast(pa.large_string())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    letters, starts, ends = _letter_runs(data, offsets - offsets[0])
    n_words = np.diff(np.searchsorted(starts, offsets - offsets[0]))
    if not len(starts):
        return Words(np.zeros(0, np.uint64), n_words.astype(np.int64))
    powers, inverse = _letter_powers(len(letters))
    prefix = np.zeros(len(letters) + 1, np.uint64)
    np.cumsum(letters * powers, out=prefix[1:])
    hashes = (prefix[ends] - prefix[starts]) * inverse[starts]
    # A polynomial of small numbers has weak high bits; one multiply-xor round spreads them.
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    return Words(hashes, n_words.astype(np.int64))


def _letter_runs(data: NDArray[np.uint8], offsets: Numbers) -> tuple[Hashes, Numbers, Numbers]:
    """Letters as numbers (0 for what is none), and where runs start and end; a text's end ends a run."""
    letters = _LETTER_CODES[data]
    inside = letters > 0
    before = np.zeros(len(data), bool)
    before[1:] = inside[:-1]
    firsts = offsets[:-1][offsets[:-1] < len(data)]
    before[firsts] = False
    starts = np.flatnonzero(inside & ~before)
    after = np.zeros(len(data), bool)
    after[:-1] = inside[1:]
    lasts = offsets[1:][offsets[1:] > 0] - 1
    after[lasts] = False
    ends = np.flatnonzero(inside & ~after) + 1
    return letters.astype(np.uint64), starts, ends


def _codes() -> NDArray[np.uint8]:
    codes = np.zeros(256, np.uint8)
    for place, character in enumerate(b"abcdefghijklmnopqrstuvwxyz0123456789", 1):
        codes[character] = place
        codes[ord(chr(character).upper())] = place
    return codes


_LETTER_CODES = _codes()
_known_powers: dict[int, Hashes] = {}


def _letter_powers(n: int) -> tuple[Hashes, Hashes]:
    return _powers(_LETTER_BASE, n), _powers(pow(_LETTER_BASE, -1, 1 << 64), n)


def _powers(base: int, n: int) -> Hashes:
    """1, base, base^2, … modulo 2^64; kept, since every portion of a table asks for the same ones."""
    known = _known_powers.get(base & _MASK)
    if known is None or len(known) < n:
        factors = np.full(max(n, 1 << 16), base & _MASK, np.uint64)
        factors[0] = 1
        known = np.cumprod(factors, dtype=np.uint64)
        _known_powers[base & _MASK] = known
    return known[:n]
