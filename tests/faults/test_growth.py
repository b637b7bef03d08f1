"""Memory of import and export, and the time of `sql`, at five million rows; the figures are printed.

SELFREWARD_GROWTH_ROWS sets another number. Anonymous memory is what is measured: pages of a mapped file can be dropped.
What the same command takes for a few rows (the libraries) is subtracted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sample_run import make_sample_run

pytestmark = pytest.mark.faults
N_ROWS = int(os.environ.get("SELFREWARD_GROWTH_ROWS", "5000000"))
MIB = 1 << 20


def spent(*arguments: object) -> tuple[float, float]:
    """CPU seconds and peak MiB of anonymous memory of one command, which must succeed."""
    with subprocess.Popen(
        [sys.executable, "-m", "selfreward", *map(str, arguments)], stdout=subprocess.DEVNULL
    ) as child:
        peak, done, status, usage = 0, 0, 0, None
        while not done:
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.02)
            done, status, usage = os.wait4(child.pid, os.WNOHANG)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime, peak * 1024 / MIB


def write_pairs(path: Path, n_rows: int) -> Path:
    """Rows as json.dumps would write them, in a fraction of the time."""

    def message(role: str, text: str) -> str:
        return f'[{{"role": "{role}", "content": "{text}"}}]'

    with path.open("w") as file:
        for i in range(n_rows):
            prompt = message("user", f"Question {i}: how is it done?")
            chosen, rejected = (
                message("assistant", text)
                for text in (f"Good answer {i}, with a reason.", f"Bad answer {i}.")
            )
            file.write(
                f'{{"pair_id": "pair-{i}", "prompt_id": "p-{i}", "prompt": {prompt}, "chosen": {chosen}, '
                f'"rejected": {rejected}}}\n'
            )
    return path


QUERY = "SELECT pair_id, length(chosen[1].content) AS n FROM pairs ORDER BY n DESC, pair_id"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A run with few pairs and one with many, and the peak memory of each import."""
    folder = tmp_path_factory.mktemp("growth")
    runs = []
    for n_rows in (1_000, N_ROWS):
        run = make_sample_run(folder / f"run{n_rows}", iterations=1).path
        rows = write_pairs(folder / "rows.jsonl", n_rows)
        seconds, peak = spent("import", run, "iter1/pairs", rows)
        rows.unlink()
        print(f"\nimport, {n_rows:,} pairs: {seconds:.1f} CPU s, peak {peak:.0f} MiB", end="")
        runs.append((run, peak))
    return runs


def test_import_takes_less_than_a_gibibyte_for_five_million_rows(imported):
    (_, baseline), (_, peak) = imported
    assert peak - baseline < 1024


@pytest.mark.parametrize("form", ["conversational", "sharegpt"])
def test_export_takes_less_than_a_gibibyte_for_five_million_rows(imported, tmp_path, form):
    peaks = []
    for run, _ in imported:
        out = tmp_path / "out.jsonl"
        seconds, peak = spent("export", run, "iter1/pairs", out, "--as", form)
        out.unlink()
        peaks.append(peak)
        print(f"\nexport --as {form}, {run.name[3:]} pairs: {seconds:.1f} CPU s, peak {peak:.0f} MiB", end="")
    assert peaks[1] - peaks[0] < 1024


def test_a_table_costs_half_a_second_over_the_bare_query(imported):
    run, _ = imported[1]
    bare = min(spent("sql", run, f"SELECT max(n) FROM ({QUERY})")[0] for _ in range(3))
    table = min(spent("sql", run, QUERY)[0] for _ in range(3))
    print(f"\nsql, {N_ROWS:,} rows: {bare:.2f} CPU s without the table, {table:.2f} with it", end="")
    assert table <= bare + 0.5
