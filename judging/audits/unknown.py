"""Share of a prompt's words that no IFT prompt has: do generated prompts drift away from what people ask?

    prompt_words: dataset "prompts", iteration 1, id "p-…", unknown_share 0.25, text "…"

Words are those of selfreward/similarity/words.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.judging.audits.data import AuditData
from selfreward.similarity.words import HashSet, Words, chunks, hash_words

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_IFT = "SELECT 'ift' AS dataset, NULL::BIGINT AS iteration, ift_id AS id, prompt AS text FROM ift"
_KEPT = "SELECT 'prompts' AS dataset, iteration, prompt_id AS id, prompt AS text FROM prompts WHERE kept"


def prompt_words(data: AuditData) -> pa.Table:
    """IFT prompts, each compared with the *other* IFT prompts, and the kept prompts, compared with all of them.

    `unknown_share` of an IFT prompt counts each of its words once; it is NULL for a prompt without words.
    """
    import pyarrow as pa

    ift, kept = (data.connection.sql(query).to_arrow_table() for query in (_IFT, _KEPT))
    # As hashes: in SQL, a regular expression and a join on words take ten times as long.
    text, words = _distinct(hash_words(ift["text"].combine_chunks().fill_null("")))
    vocabulary, times = np.unique(words, return_counts=True)
    # Words of one IFT prompt only: unknown to all the others.
    alone = times[np.searchsorted(vocabulary, words)] == 1
    known = HashSet(vocabulary)
    shares = [np.zeros(0)]
    for _, chunk in chunks(kept["text"]):
        found = hash_words(chunk)
        shares.append(_share(~known.places(found.hashes)[1], found.text_of_word, len(chunk)))
    parts = ((ift, _share(alone, text, len(ift))), (kept, np.concatenate(shares)))
    return pa.concat_tables(
        table.append_column("unknown_share", pa.array(share, from_pandas=True)) for table, share in parts
    )


def _distinct(words: Words) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Each word of a text once: the text and the word."""
    text, hashes = words.text_of_word, words.hashes
    order = np.lexsort((hashes, text))
    text, hashes = text[order], hashes[order]
    first = np.ones(len(text), bool)
    first[1:] = (text[1:] != text[:-1]) | (hashes[1:] != hashes[:-1])
    return text[first], hashes[first]


def _share(marked: NDArray[np.bool_], text: NDArray[np.int64], n_texts: int) -> NDArray[Any]:
    """Of each text's words, the share that is marked; NaN without words."""
    with np.errstate(invalid="ignore"):
        return np.bincount(text[marked], minlength=n_texts) / np.bincount(text, minlength=n_texts)
