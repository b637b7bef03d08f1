#!/usr/bin/env bash
# duckdb 2.0.0: GROUP BY ALL refuses a window over an aggregate as soon as the window has a PARTITION BY.
#
# Expected: `SELECT iteration, score, count(*) / sum(count(*)) OVER (PARTITION BY iteration) … GROUP BY ALL` groups by
# iteration and score, the columns that stand outside of aggregates, as `GROUP BY iteration, score` and `GROUP BY 1, 2` do.
# Seen: "Binder Error: Cannot mix aggregates with non-aggregated columns!". The column in PARTITION BY counts as a mix within
# the expression, though it is one of the grouping columns; without PARTITION BY (`OVER ()`) the same query runs.
# Why it matters: "the share of each score within its iteration" is the first thing one asks of a judge's scores, and
# GROUP BY ALL is the short form that DuckDB offers for it. The message does not point at the window.
# Where: DuckDB's documentation of GROUP BY ("GROUP BY ALL groups by all columns that are not wrapped in aggregate
# functions"); windows are not mentioned there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q duckdb==2.0.0
cat > "$work/show.py" <<'PY'
import duckdb

connection = duckdb.connect()
connection.execute("CREATE TABLE judged AS FROM (VALUES (1, 3), (1, 3), (1, 4), (2, 5)) judged(iteration, score)")
share = "count(*) / sum(count(*)) OVER ({}) AS share"
query = "SELECT iteration, score, {} FROM judged GROUP BY {} ORDER BY iteration, score"
expected = [(1, 3, 2 / 3), (1, 4, 1 / 3), (2, 5, 1.0)]
for group in ("iteration, score", "1, 2"):
    found = connection.execute(query.format(share.format("PARTITION BY iteration"), group)).fetchall()
    print("GROUP BY", group, found)
    assert found == expected, found
print("GROUP BY ALL, OVER ()", connection.execute(query.format(share.format(""), "ALL")).fetchall())
try:
    connection.execute(query.format(share.format("PARTITION BY iteration"), "ALL"))
except duckdb.BinderException as error:
    print("GROUP BY ALL, PARTITION BY:", error)
    assert "Cannot mix aggregates with non-aggregated columns" in str(error)
else:
    raise SystemExit("GROUP BY ALL now takes a window with PARTITION BY")
PY
"$work/venv/bin/python" "$work/show.py"
