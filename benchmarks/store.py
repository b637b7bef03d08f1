"""What does the store cost? Candidates-like rows of about 1 kB written through it, and through plain `datasets`.

    python benchmarks/store.py                               200,000 rows, 5 repetitions, two minutes
    python benchmarks/store.py --rows 5000000 --repeat 1 --brief    about 5 GB: needs 12 GB of disk

Rows begin as Python objects, as builders make them, and end as a folder that `load_from_disk` reads. *Plain* is
`Dataset.from_generator(…).save_to_disk(…)`, the way `datasets` has for rows that do not fit into memory (it writes them
twice). *Store* makes record batches of them (`tables.to_table`) and publishes: it hashes every byte and every row,
checks for NULL, NaN and repeated ids, fsyncs. The ratio of the two is what the store costs.

Harder comparisons are shown too. *plain, one pass* is the writer inside `from_generator` alone, without the second
copy. Where rows are Arrow batches already, copying is all there is to compare with: *plain, from Arrow* feeds that
writer with ready batches at the speed of memory, *plain, on disk* adds the fsync without which a power loss takes the
rows away, and *store, from Arrow* is bound by its two SHA-256 passes. `--brief` leaves the harder ones out.

Each measurement is a process of its own, after `sync`; repetitions alternate, and the median is shown. Memory is
the largest RssAnon seen, every 10 ms; pages of mapped files are not anonymous and do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH_ROWS = 10_000


def batches(n_rows: int):
    """The rows, as record batches: ids, a text of about 900 bytes out of 2,000 texts, numbers, some NULLs."""
    import numpy as np
    import pyarrow as pa

    from selfreward.tables import Candidate, arrow_schema

    schema = arrow_schema(Candidate)
    draw = random.Random(1)
    words = [
        f"{draw.choice('bcdfghklmnprst')}{draw.choice('aeiou')}{draw.choice('lmnrst')}e" for _ in range(500)
    ]
    texts = pa.array([" ".join(draw.choices(words, k=draw.randint(120, 240))) for _ in range(2000)])
    rng = np.random.default_rng(1)
    for start in range(0, n_rows, BATCH_ROWS):
        n = min(BATCH_ROWS, n_rows - start)
        numbers = np.arange(start, start + n)
        responses = texts.take(pa.array(rng.integers(0, 2000, n)))
        columns = {
            "candidate_id": pa.array([f"c-{i:016x}" for i in numbers]),
            "iteration": pa.array(np.ones(n, dtype=np.int64)),
            "prompt_id": pa.array([f"p-{i // 4:016x}" for i in numbers]),
            "sample": pa.array(numbers % 4),
            "response": responses,
            "finish_reason": pa.array(["stop"] * n),
            "n_tokens": pa.array(rng.integers(1, 300, n)),
            "n_chars": pa.array(rng.integers(1, 900, n)),
            "model": pa.array(["M1@0123456789ab"] * n),
            "seed": pa.array(rng.integers(0, 2**40, n)),
            "error": pa.array([None] * n, pa.string()),
        }
        yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def prepared(n_rows: int) -> list:
    """Batches made beforehand, so that making rows is not timed; for many rows the same 200,000 again and again."""
    return list(batches(min(n_rows, 200_000)))


def repeated(ready: list, n_rows: int):
    """The ready batches until there are `n_rows`; ids are made anew, since the store refuses repeated ones."""
    import pyarrow as pa

    start = 0
    while start < n_rows:
        for batch in ready:
            batch = batch.slice(0, min(batch.num_rows, n_rows - start))
            if start >= len(ready) * BATCH_ROWS:
                ids = pa.array([f"c-{i:016x}" for i in range(start, start + batch.num_rows)])
                batch = batch.set_column(0, batch.schema.field(0), ids)
            yield batch
            start += batch.num_rows
            if start >= n_rows:
                return


def python_rows(n_rows: int):
    """The same rows as `Candidate` objects, in lists of `BATCH_ROWS`: 50,000 made beforehand, then repeated."""
    from selfreward.tables import Candidate, from_table

    ready = [from_table(_as_table(batch), Candidate) for batch in batches(min(n_rows, 50_000))]
    return [ready[i % len(ready)] for i in range(-(-n_rows // BATCH_ROWS))]


def _as_table(batch):
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def plain_writer(folder: Path):
    from datasets import Features
    from datasets.arrow_writer import ArrowWriter

    from selfreward.tables import Candidate, arrow_schema

    folder.mkdir()
    return ArrowWriter(
        features=Features.from_arrow_schema(arrow_schema(Candidate)), path=str(folder / "data.arrow")
    )


def write_plain(folder: Path, n_rows: int) -> float:
    from datasets import Dataset, Features, disable_progress_bars

    from selfreward.tables import Candidate, arrow_schema

    disable_progress_bars()
    ready = python_rows(n_rows)
    names = list(ready[0][0].__slots__)
    features = Features.from_arrow_schema(arrow_schema(Candidate))

    def generate():
        for rows in ready:
            for row in rows:
                yield {name: getattr(row, name) for name in names}

    started = time.perf_counter()
    fingerprint = (
        f"benchmark-{os.getpid()}"  # given, so that `datasets` does not pickle and hash all rows for it
    )
    made = Dataset.from_generator(generate, features, str(folder / "cache"), fingerprint=fingerprint)
    made.save_to_disk(str(folder / "saved"))
    return time.perf_counter() - started


def write_plain_once(folder: Path, n_rows: int) -> float:
    ready = python_rows(n_rows)
    names = list(ready[0][0].__slots__)
    with plain_writer(folder) as writer:
        started = time.perf_counter()
        for rows in ready:
            for row in rows:
                writer.write({name: getattr(row, name) for name in names})
        writer.finalize()
    return time.perf_counter() - started


def write_plain_arrow(folder: Path, n_rows: int, on_disk: bool) -> float:
    ready = prepared(n_rows)
    with plain_writer(folder) as writer:
        started = time.perf_counter()
        for batch in repeated(ready, n_rows):
            writer.write_table(_as_table(batch))
        writer.finalize()
    if on_disk:
        for path in (folder / "data.arrow", folder):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    return time.perf_counter() - started


def write_store(folder: Path, n_rows: int) -> float:
    from selfreward.tables import Candidate, to_table

    ready = python_rows(n_rows)
    tables = (to_table(rows, Candidate) for rows in ready)
    return _publish(folder, n_rows, (batch for table in tables for batch in table.to_batches()), None)


def write_store_arrow(folder: Path, n_rows: int) -> float:
    return _publish(folder, n_rows, repeated(prepared(n_rows), n_rows), "candidate_id")


def _publish(folder: Path, n_rows: int, ready, unique: str | None) -> float:
    import datasets  # what plain writing has imported before its clock starts
    import pyarrow as pa

    from selfreward.store.run import Counts, Recipe, Run
    from selfreward.store.writer import Rules
    from selfreward.tables import Candidate, arrow_schema, required_columns

    assert datasets.Features
    shutil.rmtree(folder, ignore_errors=True)
    run = Run.create(folder)
    started = time.perf_counter()
    reader = pa.RecordBatchReader.from_batches(arrow_schema(Candidate), ready)
    recipe = Recipe("iter1/candidates", "benchmarks.store 1", params={"rows": n_rows})
    run.publish_table(recipe, reader, Counts(n_rows, n_rows), Rules(required_columns(Candidate), unique))
    return time.perf_counter() - started


def verify(folder: Path) -> float:
    from selfreward.store.run import Run

    started = time.perf_counter()
    list(Run(folder).verify(["iter1/candidates"]))
    return time.perf_counter() - started


def read(folder: Path, n_rows: int) -> float:
    """A verified read, and one pass over a column of numbers and one of texts."""
    import pyarrow.compute as pc

    from selfreward.store.run import Run

    started = time.perf_counter()
    table = Run(folder).current("iter1/candidates").table()
    assert table.num_rows == n_rows
    assert pc.sum(table["n_tokens"]).as_py() > 0
    assert pc.sum(pc.binary_length(table["response"])).as_py() > 0
    return time.perf_counter() - started


def sha256sum(folder: Path) -> float:
    files = sorted(str(p) for p in (folder / "datasets").rglob("*") if p.is_file())
    started = time.perf_counter()
    subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


PARTS = {
    "plain": lambda folder, n: write_plain(folder / "plain", n),
    "plain, one pass": lambda folder, n: write_plain_once(folder / "plain", n),
    "store": lambda folder, n: write_store(folder / "run", n),
    "plain, from Arrow": lambda folder, n: write_plain_arrow(folder / "plain", n, on_disk=False),
    "plain, on disk": lambda folder, n: write_plain_arrow(folder / "plain", n, on_disk=True),
    "store, from Arrow": lambda folder, n: write_store_arrow(folder / "run", n),
    "verify": lambda folder, n: verify(folder / "run"),
    "sha256sum": lambda folder, n: sha256sum(folder / "run"),
    "read": lambda folder, n: read(folder / "run", n),
}
BRIEF = ["plain", "store", "store, from Arrow", "verify", "sha256sum", "read"]
READING = ["verify", "sha256sum", "read"]


def measure(part: str, folder: Path, n_rows: int) -> tuple[float, float]:
    """Seconds, and the peak of anonymous memory in MiB, of one part in a process of its own."""
    os.sync()
    command = [sys.executable, "-P", __file__, "--part", part, "--rows", str(n_rows), "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peak_kib = 0
        while child.poll() is None:
            peak_kib = max(peak_kib, _anonymous_kib(child.pid))
            time.sleep(0.01)
        assert child.stdout is not None
        answer = child.stdout.read()
    assert child.returncode == 0, f"{part} failed"
    return float(json.loads(answer.splitlines()[-1])), peak_kib / 1024


def _anonymous_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def measure_all(
    folder: Path, parts: list[str], n_rows: int, repeat: int
) -> dict[str, list[tuple[float, float]]]:
    """Writings alternate; the last store folder is kept for the readings."""
    found: dict[str, list[tuple[float, float]]] = {part: [] for part in parts}
    writing = [part for part in parts if part not in READING]
    for part in writing * repeat + READING * repeat:
        found[part].append(measure(part, folder, n_rows))
        print(f"  {part}: {found[part][-1][0]:.2f} s", file=sys.stderr)
        shutil.rmtree(folder / "plain", ignore_errors=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--brief", action="store_true", help="only: " + ", ".join(BRIEF))
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder here")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder, options.rows)))
        return
    folder = Path(tempfile.mkdtemp(prefix="store-benchmark-", dir=options.folder or "."))
    try:
        report(folder, BRIEF if options.brief else list(PARTS), options.rows, options.repeat)
    finally:
        shutil.rmtree(folder)


def report(folder: Path, parts: list[str], n_rows: int, repeat: int) -> None:
    found = measure_all(folder, parts, n_rows, repeat)
    n_bytes = sum(p.stat().st_size for p in (folder / "run" / "datasets").rglob("*") if p.is_file())
    seconds = {part: statistics.median(s for s, _ in runs) for part, runs in found.items()}
    memory = {part: max(mib for _, mib in runs) for part, runs in found.items()}
    print(f"{n_rows:,} rows, {n_bytes / 1e9:.2f} GB, {os.cpu_count()} cores, median of {repeat}")
    for part, runs in found.items():
        spread = f"{min(s for s, _ in runs):.2f} to {max(s for s, _ in runs):.2f}"
        print(f"{part:18} {seconds[part]:8.2f} s ({spread})  {n_bytes / seconds[part] / 1e6:7,.0f} MB/s  "
              f"anonymous memory at most {memory[part]:6,.0f} MiB")  # fmt: skip
    print(f"store / plain                         {seconds['store'] / seconds['plain']:.2f}  (at most 1.3)")
    for ours, plain in (("store", "plain, one pass"), ("store, from Arrow", "plain, from Arrow"),
                        ("store, from Arrow", "plain, on disk")):  # fmt: skip
        if plain in seconds:
            print(f"{f'{ours} / {plain}':37} {seconds[ours] / seconds[plain]:.2f}")
    print(
        f"verify / sha256sum (speed)            {seconds['sha256sum'] / seconds['verify']:.2f}  (at least 0.60)"
    )
    largest = max(memory[part] for part in ("store", "store, from Arrow", "verify", "read") if part in memory)
    print(f"anonymous memory of the store         {largest:,.0f} MiB (below 1,536)")


if __name__ == "__main__":
    main()
