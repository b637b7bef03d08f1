"""Memory of import and export, and the time of `sql`, at a million rows; the figures are printed.

SELFREWARD_GROWTH_ROWS sets another number. Anonymous memory is what is measured: pages of a mapped file can be dropped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sample_run import make_sample_run

pytestmark = pytest.mark.faults
N_ROWS = int(os.environ.get("SELFREWARD_GROWTH_ROWS", "1000000"))
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
    def message(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    with path.open("w") as file:
        for i in range(n_rows):
            row = {
                "pair_id": f"pair-{i}",
                "prompt_id": f"p-{i}",
                "prompt": message("user", f"Question {i}: how is it done?"),
                "chosen": message("assistant", f"Good answer {i}, with a reason."),
                "rejected": message("assistant", f"Bad answer {i}."),
            }
            file.write(json.dumps(row) + "\n")
    return path


def test_import_and_export_stay_below_a_gibibyte_at_five_million_rows(tmp_path):
    """Measured at a fifth and at the whole of N_ROWS; the line through both must pass below 1,024 MiB at 5 million."""
    peaks: dict[str, list[float]] = {"import": [], "export": []}
    sizes = [N_ROWS // 5, N_ROWS]
    for n_rows in sizes:
        run = make_sample_run(tmp_path / f"run{n_rows}", iterations=1).path
        rows = write_pairs(tmp_path / "rows.jsonl", n_rows)
        commands = {
            "import": ("import", run, "iter1/pairs", rows),
            "export": ("export", run, "iter1/pairs", tmp_path / "out.jsonl", "--as", "sharegpt"),
        }
        for command, arguments in commands.items():
            seconds, peak = spent(*arguments)
            peaks[command].append(peak)
            print(f"\n{command}, {n_rows:,} pairs: {seconds:.1f} CPU s, peak {peak:.0f} MiB", end="")
    for command, (small, large) in peaks.items():
        slope = (large - small) / (sizes[1] - sizes[0])
        at_five_million = large + slope * (5_000_000 - sizes[1])
        print(f"\n{command}, 5,000,000 pairs by these: {at_five_million:.0f} MiB", end="")
        assert at_five_million < 1024, command


def test_a_table_costs_half_a_second_over_the_bare_query(tmp_path):
    run = make_sample_run(tmp_path / "run", iterations=1).path
    spent("import", run, "iter1/pairs", write_pairs(tmp_path / "rows.jsonl", N_ROWS))
    query = "SELECT pair_id, length(chosen[1].content) AS n FROM pairs ORDER BY n DESC, pair_id"
    bare = min(spent("sql", run, f"SELECT max(n) FROM ({query})")[0] for _ in range(3))
    table = min(spent("sql", run, query)[0] for _ in range(3))
    print(f"\nsql, {N_ROWS:,} rows: {bare:.2f} CPU s without the table, {table:.2f} with it", end="")
    assert table <= bare + 0.5
