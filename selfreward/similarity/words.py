"""The words of millions of texts as numbers, without a Python loop over texts.

    words = hash_words(["To be, or not to be.", ""])
    words.n_words  # [6, 0]

Words are those of `selfreward.similarity.rouge.tokens`: lower case, runs of a-z and 0-9, each a 64-bit hash. The hash of
n consecutive words is a polynomial of theirs, computed from differences of prefix sums, so that all n-grams of a text
take one pass over its words. Two different words share a hash with a probability of about 10^-18, and callers compare
the texts after a match. Only ASCII letters are folded to lower case, so tokens can differ for the Kelvin sign.
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
# A sentinel at the end of a sorted list of hashes: a search never runs past it.
_NO_WORD = (1 << 64) - 1
# Odd, so that it has an inverse modulo 2^64.
_BASE = 0xC2B2AE3D27D4EB4F


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
        hashes = self.runs(n)
        text = self.text_of_word
        inside = text[: len(hashes)] == text[n - 1 : n - 1 + len(hashes)]
        return hashes[inside], text[: len(hashes)][inside]

    def runs(self, n: int) -> Hashes:
        """The hash of n words starting at each word, even if they cross into the next text."""
        prefix, inverse = self._prefix
        n_runs = max(len(self.hashes) - n + 1, 0)
        result: Hashes = (prefix[n : n + n_runs] - prefix[:n_runs]) * inverse[:n_runs]
        return result

    def runs_at(self, places: Numbers, n: int) -> Hashes:
        """The hash of n words starting at each of these places; that many must exist."""
        prefix, inverse = self._prefix
        result: Hashes = (prefix[places + n] - prefix[places]) * inverse[places]
        return result

    def texts_of(self, places: Numbers) -> Numbers:
        """The text of the words at these places."""
        result: Numbers = np.searchsorted(self.starts, places, side="right") - 1
        return result

    @cached_property
    def _prefix(self) -> tuple[Hashes, Hashes]:
        """Prefix sums of hash * base^place, and the inverse powers that make their differences position-independent."""
        n = len(self.hashes)
        powers, inverse = _powers(_BASE, n), _powers(pow(_BASE, -1, 1 << 64), n + 1)
        prefix = np.zeros(n + 1, np.uint64)
        np.cumsum(self.hashes * powers, out=prefix[1:])
        return prefix, inverse


class HashSet:
    """A set of hashes. A hash's high 20 bits index into the sorted list: a lookup is nearly always one step."""

    _SHIFT = np.uint64(44)

    def __init__(self, hashes: Hashes) -> None:
        self.sorted = np.append(np.unique(hashes), np.uint64(_NO_WORD))
        sizes = np.bincount((self.sorted >> self._SHIFT).astype(np.int64), minlength=1 << 20)
        self._first = (np.cumsum(sizes) - sizes).astype(np.int32)
        self._filled, self._most = sizes > 0, int(sizes.max())

    def places(self, hashes: Hashes) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """For each hash its place in `sorted`, and whether it is there (if not, the place is meaningless)."""
        places: NDArray[np.int32] = self._first[hashes >> self._SHIFT]
        for _ in range(self._most - 1):
            places += self.sorted[places] < hashes
        return places, self.sorted[places] == hashes

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of the hashes are in the set; fast if few are."""
        result: NDArray[np.bool_] = self._filled[hashes >> self._SHIFT]
        maybe = np.flatnonzero(result)
        result[maybe] = self.places(hashes[maybe])[1]
        return result


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
    import pyarrow.compute as pc

    array = pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts.cast(pa.large_string())
    # A blank after each text ends its last word; eight bytes more let the last word be read eight at a time.
    array = pc.binary_join_element_wise(array, *(pa.scalar(text, pa.large_string()) for text in ("", " ")))
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = (array.buffers()[2] or pa.py_buffer(b"")).slice(offsets[0], offsets[-1] - offsets[0])
    # bytes.translate beats an indexed table.
    letters = np.frombuffer(b"".join([b"\0", data.to_pybytes().translate(_LETTERS), bytes(8)]), np.uint8)
    inside = letters > 0
    starts = np.flatnonzero(inside[1:] > inside[:-1]) + 1
    n_words = np.diff(np.searchsorted(starts, offsets - offsets[0] + 1)).astype(np.int64)
    return Words(_hash_runs(letters, starts), n_words)


def _hash_runs(letters: NDArray[np.uint8], starts: Numbers) -> Hashes:
    """One hash of the letters from each start to the next zero byte, eight at a time: most words take one step."""
    eights: Hashes = np.ndarray(shape=(len(letters) - 7,), dtype="<u8", buffer=letters.data, strides=(1,))
    head, continues = _up_to_zero(eights[starts])
    hashes = _mixed(head)
    longer, done = np.flatnonzero(continues), 8
    while len(longer):
        head, continues = _up_to_zero(eights[starts[longer] + done])
        hashes[longer] = _mixed(hashes[longer] ^ head)
        longer, done = longer[continues], done + 8
    return hashes


def _up_to_zero(eights: Hashes) -> tuple[Hashes, NDArray[np.bool_]]:
    """The bytes before the first zero byte (little-endian: the low ones), and whether none of the eight is zero."""
    # The lowest set bit of `zeros` is the high bit of the first zero byte: only a zero byte borrows there with it clear.
    zeros = (eights - _LOW_BITS) & ~eights & _HIGH_BITS
    lowest = zeros & (~zeros + np.uint64(1))
    return eights & ((lowest >> np.uint64(7)) - np.uint64(1)), zeros == 0


def _mixed(values: Hashes) -> Hashes:
    """Bits spread over all 64 (the finalizer of SplitMix64); never 0 for a word, which does not start with a zero byte."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _letter_table() -> bytes:
    """A byte as a lower-case letter or digit, 0 for all others."""
    lower = (chr(byte).lower() if byte < 128 else "" for byte in range(256))
    return bytes(ord(letter) if letter.isalnum() else 0 for letter in lower)


_LETTERS = _letter_table()
_LOW_BITS, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_known_powers: dict[int, Hashes] = {}


def _powers(base: int, n: int) -> Hashes:
    """1, base, base^2, … modulo 2^64."""
    # Cached: every chunk of a table needs the same powers.
    known = _known_powers.get(base)
    if known is None or len(known) < n:
        factors = np.full(max(n, 1 << 16), base, np.uint64)
        factors[0] = 1
        known = np.cumprod(factors, dtype=np.uint64)
        _known_powers[base] = known
    return known[:n]
