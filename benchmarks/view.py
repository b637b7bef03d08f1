"""How long any page of any table of `selfreward view` takes, beside the same query in plain DuckDB.

    python benchmarks/view.py                                              # 200 thousand candidates, 600 thousand judgements
    python benchmarks/view.py --candidates 5000000 --keep /path/with/20GB  # the size of docs/view.md

The run is that of benchmarks/audits.py. Pages are asked over HTTP of the real application: first, last and deep ones, every
column sorted both ways, filters of each kind, words that are frequent, rare and absent, and combinations. Opening a table
(its hashes are checked, its columns sorted) is timed apart: it happens once, in the background. Memory is that of the
server's process without mapped files. Plain DuckDB is the same question with LIMIT and OFFSET on the same verified table.

Exits with 1 if a page takes over 300 ms in the median, over 1 s at worst, over twice as long as plain DuckDB in the median,
or if the memory exceeds 1.5 GiB. Wall time says little on a busy machine: `--cpu` prints the CPU time of both beside it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "helpers"), str(Path(__file__).parent)]

MEDIAN_S, WORST_S, RATIO, MEMORY_GIB = 0.3, 1.0, 2.0, 1.5
PAGE = 50


def questions(name: str, orders: Any) -> list[tuple[str, str, str, str, int]]:
    """(what, query of the page, WHERE, ORDER BY, deepest row) for one table."""
    found = [("as stored", "", "true", "", 0)]
    columns = [c for c in orders.table.column_names if orders.sortable(c)]
    for column in columns:
        key = f"strlen({column})" if orders.by_length(column) else column
        found.append((f"by {column}", f"sort={column}", "true", f"{key} ASC NULLS LAST", 0))
        found.append((f"by {column}, down", f"sort=-{column}", "true", f"{key} DESC NULLS LAST", 0))
    text = {"iter1/judgements": "judgement", "iter1/candidates": "response", "iter1/prompts": "prompt"}.get(
        name
    )
    if text:
        for word in ("harbour", "Score: 5", "zqzqzq"):
            where = f"contains({text}, '{word}')"
            found.append((f"{text} contains {word}", f"f={text}:has:{quote(word)}", where, "", 0))
    if "score" in columns:
        found += [
            ("score is 3", "f=score:is:3", "score = 3", "", 0),
            ("score is empty", "f=score:null:", "score IS NULL", "", 0),
            ("score at least 2, by id", f"f=score:min:2&sort={columns[0]}", "score >= 2", f"{columns[0]}", 0),
        ]
    if "status" in columns:
        found.append(
            ("unscored, by seed", "f=status:is:no_score&sort=-seed", "status = 'no_score'", "seed DESC", 0)
        )
    if "finish_reason" in columns:
        found.append(
            (
                "cut, longest first",
                "f=finish_reason:is:length&sort=-n_tokens",
                "finish_reason = 'length'",
                "n_tokens DESC",
                0,
            )
        )
    return found


def ask(port: int, token: str, path: str) -> float:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    started = time.monotonic()
    client.request("GET", path, headers={"cookie": f"selfreward-{port}={token}"})
    answer = client.getresponse()
    answer.read()
    seconds = time.monotonic() - started
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return seconds


def measure_view(path: Path) -> dict[str, Any]:
    """Every page, asked of the application in this process."""
    from view_server import TOKEN, shown_run

    peak = {"RssAnon": 0}

    def look() -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            now = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            peak["RssAnon"] = max(peak["RssAnon"], now)
            time.sleep(0.05)

    threading.Thread(target=look, daemon=True).start()
    times, opening = [], {}
    with shown_run(path) as shown:
        for name in shown.shelf.names():
            started = time.monotonic()
            shown.shelf.read(shown.shelf.run.current(name))
            checked = time.monotonic()
            orders = shown.shelf.orders(name)
            orders.prepare()
            opening[name] = (checked - started, time.monotonic() - checked)
            base = f"/table/{name}?"
            for what, query, where, order, _ in questions(name, orders):
                n = len(orders.rows(_selection(query))) if not query.startswith("f=") else None
                last = orders.table.num_rows // PAGE if n is None else n // PAGE
                for page in sorted({1, max(1, last // 2), max(1, last)}):
                    before = time.process_time()
                    seconds = ask(shown.port, TOKEN, f"{base}{query}&page={page}")
                    times.append((name, what, page, seconds, time.process_time() - before, where, order))
    return {"times": times, "opening": opening, "memory_gib": peak["RssAnon"] / 2**20}


def _selection(query: str) -> Any:
    from urllib.parse import parse_qsl

    from selfreward.view.filters import selection

    return selection(parse_qsl(query))


def measure_plain(path: Path, asked: list[list[Any]]) -> list[tuple[float, float]]:
    """The same rows with one DuckDB query each."""
    from selfreward.sql.queries import connect
    from selfreward.store.run import Run

    run, connection, found, tables = Run(path), connect({"threads": 2, "memory_limit": "8GB"}), [], {}
    for name, _, page, _, _, where, order in asked:
        if name not in tables:
            tables[name] = f"t{len(tables)}"
            connection.register(tables[name], run.current(name).table())
        ordered = f"ORDER BY {order}" if order else ""
        started, cpu = time.monotonic(), time.process_time()
        query = (
            f"SELECT * FROM {tables[name]} WHERE {where} {ordered} LIMIT {PAGE} OFFSET {(page - 1) * PAGE}"
        )
        connection.execute(query).fetchall()
        found.append((time.monotonic() - started, time.process_time() - cpu))
    return found


def in_own_process(*arguments: str, given: str = "") -> Any:
    done = subprocess.run([sys.executable, __file__, *arguments], input=given, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(n_candidates: int, view: dict[str, Any], plain: list[list[float]], cpu: bool) -> bool:
    """Print it; whether all limits hold."""
    print(
        f"{n_candidates:,} candidates, {3 * n_candidates:,} judgements\n\nonce for each table, in the background"
    )
    for name, (checked, prepared) in view["opening"].items():
        print(f"  {name:20} hashes checked {checked:7.2f} s, every column sorted {prepared:7.2f} s")
    times = view["times"]
    print(
        f"\n{'slowest pages':60}{'view ms':>9}{'plain ms':>10}"
        + (f"{'CPU ms':>9}{'plain':>9}" if cpu else "")
    )
    for (name, what, page, seconds, used, *_), (other, other_used) in sorted(
        zip(times, plain, strict=True), key=lambda pair: -pair[0][3]
    )[:15]:
        line = f"  {f'{name} {what}, page {page:,}':58}{1000 * seconds:9.0f}{1000 * other:10.0f}"
        print(line + (f"{1000 * used:9.0f}{1000 * other_used:9.0f}" if cpu else ""))
    all_view, all_plain = [t[3] for t in times], [p[0] for p in plain]
    median, worst = statistics.median(all_view), max(all_view)
    # A page has a fixed cost of its own (HTTP, the template), which says nothing about a table of a few thousand rows.
    ratio, memory = median / max(statistics.median(all_plain), 0.02), view["memory_gib"]
    checks = [
        (f"median of {len(times)} pages, ms", 1000 * median, 1000 * MEDIAN_S),
        ("worst, ms", 1000 * worst, 1000 * WORST_S),
        ("median over plain DuckDB's", ratio, RATIO),
        ("memory above mapped files, GiB", memory, MEMORY_GIB),
    ]
    print()
    for what, value, limit in checks:
        print(f"  {what:34}{value:10.2f}   at most {limit:g}{'' if value <= limit else '   MISSED'}")
    return all(value <= limit for _, value, limit in checks)


def main() -> None:
    """One size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=200_000)
    parser.add_argument("--keep", type=Path, help="keep the generated run in this folder and use it again")
    parser.add_argument("--cpu", action="store_true", help="CPU time too")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, path = options.measure
        found = (
            measure_view(Path(path))
            if what == "view"
            else measure_plain(Path(path), json.loads(sys.stdin.read()))
        )
        print(json.dumps(found))
        return
    from audits import make_run

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        path = folder / f"run-{options.candidates}"
        make_run(path, options.candidates)
        view = in_own_process("--measure", "view", str(path))
        plain = in_own_process("--measure", "plain", str(path), given=json.dumps(view["times"]))
        holds = report(options.candidates, view, plain, options.cpu)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
