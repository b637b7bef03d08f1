#!/usr/bin/env bash
# inspect_ai 0.3.285: a row without a target is scored correct by the scorers `includes` and `match`, whatever the answer.
#
# Expected: a row of a JSON Lines file whose target is null, or that has none, is refused when it is read, or its sample
# is left unscored (as a verdict that cannot be read is). A target is what `includes` looks for in the answer.
# Seen: a missing target becomes the empty text, which every answer contains and ends with: three rows, all answered
# "It is red.", one of them wrong (target "blue") and two without a target, give accuracy 0.667 with `includes` and
# `match`. `exact` gives 0.0. No error, no warning; the evaluation's status is "success".
# Why it matters: references are missing where a join found nothing, or where an annotator left a field empty. Each such
# row raises the accuracy, and a file with a misspelt target column scores 1.0.
# Where: inspect_ai/dataset/_util.py (read_target), the documentation of scorers says what `includes` and `match` look for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q inspect_ai==0.3.285
cd "$work"
printf '%s\n' '{"input": "Q1", "target": "blue"}' '{"input": "Q2", "target": null}' '{"input": "Q3"}' > rows.jsonl
cat > show.py <<'PY'
from inspect_ai import Task, eval
from inspect_ai.dataset import json_dataset
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import exact, includes, match
from inspect_ai.solver import solver


@solver
def says_red():
    async def solve(state, generate):
        state.output = ModelOutput.from_content("mockllm/model", "It is red.")
        return state

    return solve


rows = json_dataset("rows.jsonl")
found = {}
for name, scorer in (("includes", includes()), ("match", match()), ("exact", exact())):
    (log,) = eval(
        Task(dataset=rows, solver=says_red(), scorer=scorer), model="mockllm/model", log_dir="logs", display="none"
    )
    values = [next(iter(sample.scores.values())).value for sample in log.samples]
    found[name] = (log.status, values)
    print(name, *found[name], [sample.target for sample in log.samples])
wrong = ("success", ["I", "C", "C"])
assert found == {"includes": wrong, "match": wrong, "exact": ("success", ["I", "I", "I"])}, found
PY
"$work/venv/bin/python" show.py
