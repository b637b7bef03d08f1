"""Does anything that is trained on repeat an evaluation prompt? Every training text against every evaluation set.

`selfreward.similarity.overlap.EvaluationIndex` decides what counts as repeating (same words, 13 words in a row, ROUGE-L
over 0.7), as it does when the builders drop such prompts. A filter on hashes selects the texts that it is asked about.
ROUGE-L, which compares whole texts, is computed for prompts only; answers and judgements are searched for the same
words and for runs of 13.

Evaluation sets are those of the run's configuration, the EFT eval split, and the files given with `--against`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfreward.judging.audits.data import AuditData, Unavailable
from selfreward.similarity.evaluation_sets import read_prompts
from selfreward.similarity.overlap import EvaluationIndex
from selfreward.similarity.rouge import THRESHOLD
from selfreward.similarity.words import HashSet, Words, chunks, hash_words

if TYPE_CHECKING:
    import pyarrow as pa

# EvaluationIndex looks for 13 words in a row, or all of a prompt of 8 to 13: each begins with 8 of the
# prompt's words.
_SHORTEST_RUN, _LONGEST_RUN = 8, 13
# The filter may pass a text too many, never one too few.
_ROUNDING = 1e-6
_TEXTS_AT_ONCE = 4096
_SHOWN = 300


@dataclass(frozen=True)
class EvaluationPrompt:
    """One prompt of an evaluation set; `dataset` is the origin that the set itself names (AlpacaEval's `oasst`)."""

    id: str
    text: str
    dataset: str | None


def contamination(data: AuditData) -> pa.Table:
    """One row for each training text that repeats an evaluation prompt; Unavailable without evaluation sets."""
    prompts = list(evaluation_prompts(data))
    if not prompts:
        raise Unavailable(
            "no evaluation set is configured or given with --against, and there is no EFT eval split"
        )
    datasets = {prompt.id: prompt.dataset for prompt in prompts}
    sets = sorted({prompt.id.rpartition("/")[0] for prompt in prompts})
    data.notes.append(f"contamination: against {len(prompts):,} prompts of {', '.join(sets)}")
    index = EvaluationIndex((prompt.id, prompt.text) for prompt in prompts)
    rows = []
    # Asking the index about millions of texts would take hours.
    for row in _suspects(data, _Filter([prompt.text for prompt in prompts])):
        found = index.overlap(row["text"], near=row["part"] == "prompt")
        if found is not None:
            rows.append(
                row
                | {"kind": found.kind, "rouge_l": found.rouge_l, "evaluation_id": found.id}
                | {"evaluation_dataset": datasets[found.id], "text": row["text"][:_SHOWN]}
            )
    return _table(rows)


def evaluation_prompts(data: AuditData) -> Iterator[EvaluationPrompt]:
    """The prompts of every evaluation set, ids as `alpaca_eval/17` or `eft_eval/<prompt_id>`."""
    paths = [Path(path) for path in data.config.prompts.evaluation_sets] + list(data.against)
    for path in dict.fromkeys(paths):
        texts = read_prompts(path)
        named = _dataset_column(path, len(texts))
        for number, (text, dataset) in enumerate(zip(texts, named, strict=True)):
            yield EvaluationPrompt(f"{path.name.split('.')[0]}/{number}", text, dataset)
    held_out = "SELECT DISTINCT prompt_id, prompt FROM eft WHERE split = 'eval' ORDER BY ALL"
    for prompt_id, text in data.connection.execute(held_out).fetchall():
        yield EvaluationPrompt(f"eft_eval/{prompt_id}", text, None)


def _dataset_column(path: Path, n: int) -> list[str | None]:
    """The `dataset` column of a JSON file of evaluation prompts, if every prompt has one."""
    import gzip

    if not path.name.removesuffix(".gz").endswith(".json"):
        return [None] * n
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        records: list[dict[str, Any]] = json.load(file)
    return [r.get("dataset") for r in records] if len(records) == n else [None] * n


def _suspects(data: AuditData, suspect: _Filter) -> Iterator[dict[str, Any]]:
    """Rows of `training_texts` that may overlap, found chunk by chunk in two threads."""
    for part in ("prompt", "other"):
        where = "part = 'prompt'" if part == "prompt" else "part <> 'prompt'"
        table = data.connection.sql(f"SELECT * FROM training_texts WHERE {where}").to_arrow_table()
        with ThreadPoolExecutor(2) as pool:
            portions = list(chunks(table["text"], _CHUNK_BYTES))
            found = pool.map(
                lambda portion, near=part == "prompt": suspect.places(hash_words(portion[1]), near), portions
            )
            for (first, texts), places in zip(portions, found, strict=True):
                # One portion at a time: Arrow would copy the whole column to take rows from it.
                if len(places):
                    yield from table.slice(first, len(texts)).take(places).to_pylist()


_CHUNK_BYTES = 2 << 20


class _Filter:
    """Evaluation prompts as hashes; finds every text that EvaluationIndex could find, and few others."""

    def __init__(self, texts: list[str]) -> None:
        self._words = hash_words(texts)
        n_words, whole = self._words.n_words, self._words.whole()
        self._has_wordless = bool((n_words == 0).any())
        self._whole = HashSet(whole[n_words > 0])
        self._openings = HashSet(self._words.ngrams(_SHORTEST_RUN)[0])
        self._runs = {n: HashSet(whole[n_words == n]) for n in range(_SHORTEST_RUN, _LONGEST_RUN)}
        self._runs[_LONGEST_RUN] = HashSet(self._words.ngrams(_LONGEST_RUN)[0])

    def places(self, words: Words, near: bool) -> NDArray[np.int64]:
        """The places of texts that may overlap, ascending; `near` also by ROUGE-L."""
        suspected = self._whole.holds(words.whole()) & (words.n_words > 0)
        suspected[self._with_shared_run(words)] = True
        # A prompt of signs alone has no words to hash, so the index sees every text without words.
        if self._has_wordless:
            suspected |= words.n_words == 0
        if near:
            suspected |= self._near(words)
        return np.flatnonzero(suspected)

    def _with_shared_run(self, words: Words) -> NDArray[np.int64]:
        """The texts that share a run with a prompt: few places open one, and only there the whole run is hashed."""
        places = np.flatnonzero(self._openings.holds(words.runs(_SHORTEST_RUN)))
        texts = words.texts_of(places)
        # A run must not reach into the next text.
        room = words.starts[texts + 1] - places
        return np.concatenate(
            [
                texts[room >= n][known.holds(words.runs_at(places[room >= n], n))]
                for n, known in self._runs.items()
            ]
        )

    def _near(self, words: Words) -> NDArray[np.bool_]:
        """Texts whose ROUGE-L with a prompt can be over the threshold: 2 LCS / (a + b), and LCS <= shared words."""
        vocabulary, in_prompts = self._bounds
        in_texts = _repetitions(words, vocabulary)
        result = np.zeros(len(words.n_words), bool)
        for start in range(0, len(result), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            lengths, which = np.unique(words.n_words[part], return_inverse=True)
            # The narrowest numbers that hold a text's word count: the product takes most of the time here.
            kind = np.min_scalar_type(int(lengths.max()))
            least = (THRESHOLD - _ROUNDING) / 2 * (lengths[:, None] + self._words.n_words)
            least = np.minimum(least, np.iinfo(kind).max).astype(kind)
            shared = in_texts[part].astype(kind) @ in_prompts.astype(kind)
            result[part] = (shared > least[which]).any(axis=1)
        return result

    @cached_property
    def _bounds(self) -> tuple[HashSet, NDArray[np.uint8]]:
        """The words of all prompts, and (word and repetition, prompts): 1 if a prompt has a word that often."""
        vocabulary = HashSet(self._words.hashes)
        return vocabulary, (_repetitions(self._words, vocabulary).T.toarray() > 0).astype(np.uint8)


def _repetitions(words: Words, vocabulary: HashSet) -> Any:
    """(texts, word and repetition), sparse: 1 for a word that occurs, 1 in a second block of columns if it occurs
    twice, and in a third the number of further occurrences."""
    # The product with the prompts' 0 and 1 is at least the number of words that two texts share, counted with
    # repetition, and close to it.
    from scipy import sparse

    columns, known = vocabulary.places(words.hashes)
    shape = (len(words.n_words), len(vocabulary.sorted))
    rows = np.concatenate([[0], np.cumsum(known)])[words.starts]
    once = sparse.csr_array((np.ones(rows[-1], np.int32), columns[known], rows), shape=shape)
    once.sum_duplicates()
    twice, beyond = once.copy(), once.copy()
    twice.data, beyond.data = (once.data > 1).astype(np.int32), np.maximum(once.data - 2, 0)
    once.data = np.ones_like(once.data)
    for block in (twice, beyond):
        block.eliminate_zeros()
    return sparse.hstack([once, twice, beyond], format="csr")


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    texts = ("dataset", "id", "part", "kind", "evaluation_id", "evaluation_dataset", "text")
    schema = [*((name, pa.string()) for name in texts), ("iteration", pa.int64()), ("rouge_l", pa.float64())]
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))
