"""How long the audits take on generated runs, beside the same work in pandas, and how the time grows.

    python benchmarks/audits.py                                  # 200 thousand candidates, 600 thousand judgements
    python benchmarks/audits.py --candidates 50000 500000 5000000 --keep /path/with/20GB

Each size is a run of its own: 4 candidates a prompt, 3 judgements a candidate, about 300 characters a response and 130
a judgement, pairs by the paper's rule. Generating and publishing is not timed. The audits run in a process of their
own with two DuckDB threads; its peak memory is read from the kernel, pages of the memory-mapped run (which the
kernel may drop at any time) apart from the rest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

N_SAMPLES = 4
N_JUDGEMENTS = 3
THREADS = 2

SUBJECTS = ["The teacher", "A river", "The old bridge", "My neighbour", "Every garden", "The committee", "One engine",
            "The island", "A careful reader", "The market", "This method", "The second answer", "A small village",
            "The library", "An open window", "The winter", "That question", "The new law", "A patient doctor", "The data"]  # fmt: skip
VERBS = ["explains", "follows", "improves", "measures", "protects", "describes", "answers", "covers", "changes",
         "repairs", "supports", "replaces", "questions", "collects", "shows", "needs", "limits", "opens"]  # fmt: skip
OBJECTS = ["the first step in detail", "what people ask for most", "a part of the cost", "the way to the harbour",
           "the results of the survey", "an example that is easy to check", "the reasons for the delay",
           "each of the three options", "the rules that apply to it", "what you would expect from it",
           "the water that runs under it", "a plan for the coming year", "the names of all the members",
           "several books on the topic", "the difference between the two"]  # fmt: skip

PROMPTS = """
SELECT 'p-' || printf('%016x', hash(i)) AS prompt_id, 1::BIGINT AS iteration,
    'Explain why ' || lower(s(i, 1)) || ' and tell me whether ' || lower(s(i, 2)) || '?' AS prompt,
    [x.ift_id for x in []::STRUCT(ift_id VARCHAR)[]] AS demonstration_ids, 'M0' AS generator, true AS kept,
    NULL::VARCHAR AS reason, NULL::VARCHAR AS nearest_id, 0.4::DOUBLE AS nearest_rouge_l, 0::BIGINT AS round,
    i::BIGINT AS seed
FROM range({n_prompts}) t(i)"""
CANDIDATES = """
SELECT 'c-' || printf('%016x', hash(i)) AS candidate_id, 1::BIGINT AS iteration,
    'p-' || printf('%016x', hash(i // 4)) AS prompt_id, (i % 4)::BIGINT AS sample, response,
    if(hash(i, 'f') % 50 = 0, 'length', 'stop') AS finish_reason, (length(response) // 4)::BIGINT AS n_tokens,
    length(response)::BIGINT AS n_chars, 'M1' AS model, i::BIGINT AS seed, NULL::VARCHAR AS error
FROM (SELECT i, array_to_string(list_slice([s(i, 1), s(i, 2), s(i, 3), s(i, 4), s(i, 5), s(i, 6), s(i, 7), s(i, 8)], 1,
          3 + (hash(i, 'n') % 6)::INT), ' ') AS response FROM range({n_candidates}) t(i))"""
JUDGEMENTS = """
SELECT 'j-' || printf('%016x', hash(i)) AS judgement_id, 1::BIGINT AS iteration,
    'p-' || printf('%016x', hash(i // 12)) AS prompt_id, 'c-' || printf('%016x', hash(i // 3)) AS candidate_id,
    (i % 3)::BIGINT AS sample, 'M1' AS judge, 'additive' AS template, 'sampled' AS judge_mode,
    s(i, 11) || ' ' || s(i, 12) || coalesce(chr(10) || 'Score: ' || score::INT, '') AS judgement, score,
    if(score IS NULL, 'no_score', 'ok') AS status, 'stop' AS finish_reason, 40::BIGINT AS n_tokens,
    1::BIGINT AS attempts, false AS injection_suspected, i::BIGINT AS seed
FROM (SELECT i, if(hash(i, 'u') % 33 = 0, NULL,
          (1 + (hash(i // 3, 'b') % 4) + (hash(i, 'e') % 3 = 0)::INT)::DOUBLE) AS score
      FROM range({n_judgements}) t(i))"""
PAIRS = """
SELECT 'pair-' || substr(chosen_id, 3) AS pair_id, 1::BIGINT AS iteration, p.prompt_id,
    [{{'role': 'user', 'content': p.prompt}}] AS prompt, [{{'role': 'assistant', 'content': c.response}}] AS chosen,
    [{{'role': 'assistant', 'content': r.response}}] AS rejected, chosen_id, rejected_id, c.score AS chosen_score,
    r.score AS rejected_score, c.score - r.score AS margin, 'max_min' AS rule
FROM picked JOIN prompts p USING (prompt_id) JOIN judged c ON c.candidate_id = chosen_id
JOIN judged r ON r.candidate_id = rejected_id WHERE c.response <> r.response"""
IFT = """
SELECT 'ift-' || printf('%016x', hash(i)) AS ift_id, 'Tell me why ' || lower(s(i, 21)) || ' when ' || lower(s(i, 22))
    AS prompt, s(i, 23) || ' ' || s(i, 24) AS response, [{{'role': 'user', 'content': 'x'}}] AS messages, 'made' AS source,
    'seed' || i AS source_id, 0::BIGINT AS human_rank, 0.5::DOUBLE AS quality, 'en' AS lang
FROM range(3200) t(i)"""


def make_run(path: Path, n_candidates: int) -> None:
    """A published run of this size; the same rows every time."""
    import duckdb

    from builders.pairs import _ELIGIBLE, rule_text
    from judging.scores import _SCORES
    from selfreward.sql import read_stream
    from selfreward.store import Counts, Recipe, Run

    run = Run.create(path)
    connection = duckdb.connect(config={"threads": THREADS})
    subjects, verbs, objects = (connection.execute("SELECT $1::VARCHAR[]", [v]).fetchall()[0][0] for v in (SUBJECTS, VERBS, OBJECTS))
    connection.execute(
        "CREATE MACRO s(i, k) AS ($S)[1 + (hash(i, k, 's') % len($S))::INT] || ' ' || ($V)[1 + (hash(i, k, 'v') % len($V))::INT]"
        " || ' ' || ($O)[1 + (hash(i, k, 'o') % len($O))::INT] || '.'"
        .replace("$S", str(subjects)).replace("$V", str(verbs)).replace("$O", str(objects))
    )
    sizes = {"n_prompts": n_candidates // N_SAMPLES, "n_candidates": n_candidates, "n_judgements": n_candidates * N_JUDGEMENTS}

    def publish(name: str, query: str, params: dict[str, Any]) -> None:
        relation = connection.sql(query.format(**sizes))
        n_rows = connection.sql(f"SELECT count(*) FROM ({query.format(**sizes)})").fetchall()[0][0]
        recipe = Recipe(name, "benchmark 1", {}, {**params, **sizes})
        if run.find(recipe) is None:
            run.publish_table(recipe, read_stream(relation), Counts(n_rows, n_rows))
        connection.register(name.rpartition("/")[2], run.current(name).table())

    publish("ift", IFT, {})
    publish("iter1/prompts", PROMPTS, {})
    publish("iter1/candidates", CANDIDATES, {"candidates": {"n": N_SAMPLES}})
    publish("iter1/judgements", JUDGEMENTS, {"judging": {"samples": N_JUDGEMENTS, "mode": "sampled"}})
    publish("iter1/scores", _SCORES, {})
    connection.execute(_ELIGIBLE.format(allow="false"))
    connection.execute(f"CREATE TABLE picked AS {rule_text('max_min')}")
    publish("iter1/pairs", PAIRS, {})


if __name__ == "__main__":
    make_run(Path(sys.argv[1]), int(sys.argv[2]))
