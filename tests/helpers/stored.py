"""Small stored versions for tests, and ways to damage them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest import mock

import pyarrow as pa

from selfreward.store import writer
from selfreward.store.run import Counts, Recipe, Run
from selfreward.store.version import Version


def rows(first: int = 0, n: int = 6) -> pa.Table:
    """Rows in the shape of candidates: an id, a text, a score that may be NULL, messages."""
    numbers = range(first, first + n)
    return pa.table(
        {
            "candidate_id": [f"c-{i}" for i in numbers],
            "response": [f"answer {i} é\n" * 3 for i in numbers],
            "score": [None if i % 3 == 0 else i / 2 for i in numbers],
            "messages": [[{"role": "user", "content": f"question {i}"}] for i in numbers],
        }
    )


def recipe(name: str = "ift", setting: object = 1) -> Recipe:
    return Recipe(name, "tests.stored 1", params={"setting": setting})


def publish(run: Run, name: str = "ift", setting: int = 1, n: int = 6) -> Version:
    return run.publish_table(recipe(name, setting), rows(setting * 100, n), Counts(n, n))


def publish_in_shards(run: Run, n_shards: int, name: str = "ift") -> Version:
    """A version of several shards of six rows, by the store's own writer with a tiny shard size."""
    batches = [rows(10 * i).to_batches()[0] for i in range(n_shards)]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    with mock.patch.multiple(writer, SHARD_BYTES=1, _BATCH_ROWS=6):
        return run.publish_table(recipe(name), reader, Counts(6 * n_shards, 6 * n_shards))


def flip_bits(paths: Iterable[Path], n: int, rng: random.Random) -> Iterator[Path]:
    """Flip one random bit, `n` times over, each in a file drawn by its size; the bit is flipped back afterwards."""
    paths = list(paths)
    sizes = [path.stat().st_size for path in paths]
    for path in rng.choices(paths, sizes, k=n):
        content = path.read_bytes()
        number = rng.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[number // 8] ^= 1 << number % 8
        path.write_bytes(damaged)
        yield path
        path.write_bytes(content)
