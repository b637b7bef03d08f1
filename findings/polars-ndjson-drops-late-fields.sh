#!/usr/bin/env bash
# polars 2.1.0: read_ndjson leaves out every field that first appears after row 100, without a word.
#
# Expected: all fields of a JSON Lines file are read, or reading stops, as it does where a column that was null in the
# first 100 rows has a value later ("got non-null value for NULL-typed column").
# Seen: a column that only later rows have is not in the frame, and a key that only later messages have (`name`, as tool
# messages do) is cut out of the structs; `infer_schema_length=None` reads both. So a late *value* raises, a late *key*
# is lost. scan_ndjson does the same.
# Why it matters: rows are written in the order in which they were made. `error`, `tool_calls`, `name` appear when the
# first row has one; "how many rows have an error?" fails at best, and a rewritten file no longer holds the field.
# Where: polars' documentation of read_ndjson, `infer_schema_length` (100): that keys beyond it are dropped is not said.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q polars==2.1.0
cd "$work"
cat > show.py <<'PY'
import json
from pathlib import Path

import polars

late = {"role": "tool", "content": "4", "name": "calculator"}
rows = [{"id": i, "messages": [{"role": "user", "content": "2 + 2"}]} for i in range(150)]
rows += [{"id": i, "messages": [late], "error": "timeout"} for i in range(150, 200)]
Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
whole = polars.read_ndjson("rows.jsonl", infer_schema_length=None)
for frame in (polars.read_ndjson("rows.jsonl"), polars.scan_ndjson("rows.jsonl").collect()):
    print(frame.columns, frame["messages"].to_list()[-1])
    assert frame.columns == ["id", "messages"], frame.columns
    assert frame["messages"].to_list()[-1] == [{"role": "tool", "content": "4"}]
print(whole.columns, whole["messages"].to_list()[-1])
assert whole.columns == ["id", "messages", "error"]
assert whole["messages"].to_list()[-1] == [late]
Path("nulls.jsonl").write_text("".join(json.dumps({"error": "timeout" if i > 150 else None}) + "\n" for i in range(200)))
try:
    polars.read_ndjson("nulls.jsonl")
except polars.exceptions.ComputeError as error:
    print("a late value:", error)
else:
    raise SystemExit("a late value no longer raises")
PY
"$work/venv/bin/python" show.py
