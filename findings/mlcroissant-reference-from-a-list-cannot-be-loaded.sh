#!/usr/bin/env bash
# mlcroissant 1.1.1: a record set with a list of ids that `references` another record set validates without an issue and
# cannot be loaded.
#
# Expected: a field with `isArray` and `references` (the ids of the rows that a row was made from) loads as the list that
# it is, or validation says that a list cannot refer to anything.
# Seen: the metadata has no errors and no warnings. `records()` joins the two tables on the list and stops: GenerationError
# during "Join(…)". Without `references` the same field loads.
# Why it matters: `mlcroissant validate` is the check that publishers run, and it passes; every reader of that record
# set then fails. Rows made from several rows (few-shot demonstrations, votes, merged answers) are of this shape.
# Where: the specification allows `references` on any field; mlcroissant/_src/operation_graph (operations/join.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q "mlcroissant[parquet]==1.1.1" pyarrow==26.0.1 pandas==3.1.1
cd "$work"
cat > show.py <<'PY'
import hashlib
import json
from pathlib import Path

import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq
from mlcroissant._src.core.rdf import make_context

pq.write_table(pa.table({"id": ["s1", "s2"]}), "seeds.parquet")
pq.write_table(pa.table({"id": ["p1"], "from": pa.array([["s1", "s2"]])}), "prompts.parquet")


def file(name):
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(Path(name).read_bytes()).hexdigest(),
    }


def field(records, column, **more):
    source = {"fileObject": {"@id": f"{records}.parquet"}, "extract": {"column": column}}
    return {"@type": "cr:Field", "@id": f"{records}/{column}", "name": column, "dataType": "sc:Text", "source": source, **more}


def rows(references):
    more = {"references": {"field": {"@id": "seeds/id"}}} if references else {}
    made = field("prompts", "from", isArray=True, arrayShape="-1", **more)
    sets = {"seeds": [field("seeds", "id")], "prompts": [field("prompts", "id"), made]}
    context = mlcroissant.Context()
    context.conforms_to = mlcroissant._src.core.context.CroissantVersion.V_1_1
    meta = {
        "@context": make_context(context), "@type": "sc:Dataset", "name": "lists", "description": "A list of ids.",
        "conformsTo": "http://mlcommons.org/croissant/1.1", "url": "https://example.org", "version": "1.0.0",
        "license": "https://spdx.org/licenses/CC0-1.0", "datePublished": "2026-01-01", "citeAs": "nobody",
        "distribution": [file("seeds.parquet"), file("prompts.parquet")],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": name, "name": name, "description": name, "key": {"@id": f"{name}/id"}, "field": fields}
            for name, fields in sets.items()
        ],
    }
    Path("croissant.json").write_text(json.dumps(meta))
    dataset = mlcroissant.Dataset(jsonld="croissant.json")
    issues = dataset.metadata.issues
    assert not issues.errors, issues.report()
    print("warnings:", issues.warnings or "none")
    return list(dataset.records("prompts"))


print("without references:", rows(False))
try:
    rows(True)
except Exception as error:
    print("with references:", type(error).__name__, error)
    assert type(error).__name__ == "GenerationError" and "Join" in str(error)
else:
    raise SystemExit("loads now")
PY
"$work/venv/bin/python" show.py 2>&1
