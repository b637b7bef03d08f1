"""`pairs`: preference pairs from scores, by a rule that is an SQL file (paper section 2.2, "AI feedback training").

    {"pair_id": "pair-…", "iteration": 1, "prompt_id": "p-…", "prompt": [{"role": "user", "content": "…"}],
     "chosen": [{"role": "assistant", …}], "rejected": […], "chosen_id": "c-…", "rejected_id": "c-…",
     "chosen_score": 4.33, "rejected_score": 1.0, "margin": 3.33, "rule": "max_min"}

A rule is one SELECT over the view `eligible` (one row for each candidate that may enter a pair: `prompt_id`,
`candidate_id`, `score`, `score_variance`, `n_scored`, `n_chars`, `n_tokens`, `sample`, `model`, `model_order`) that
returns `prompt_id`, `chosen_id`, `rejected_id`; a prompt that it leaves out is dropped. The parameters are `$min_margin`,
`$length_band`, `$positive_score`, `$per_prompt` and `$min_consistency`; further views are in `pair_rules/views.py`. To
add a rule, put an .sql file beside `pair_rules/max_min.sql`, or name its path in `pairs.rule`.

Ineligible candidates (unscored, truncated, empty, failed, too few scored judgements) are excluded before any rule sees
them and counted; those flagged `injection_suspected` stay eligible as rejected only (unless configured otherwise).
The queries are in `selfreward/sql/pair_outcomes.py`, which the view `prompts_without_pair` shares.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.builders.answers.chats import fill_in_chats
from selfreward.builders.pair_rules import (
    check_needs,
    further_inputs,
    further_views,
    mark_near_identical,
    rule_text,
)
from selfreward.config.judging import PairsConfig
from selfreward.config.run import RunConfig
from selfreward.errors import InputError, UsageError
from selfreward.notes import PairsNotes
from selfreward.sql.pair_outcomes import ELIGIBLE, JUDGED, OUTCOMES
from selfreward.sql.queries import check_reads, connect, quoted
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import DatasetName, Message, Pair, row_id, to_table
from selfreward.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "builders.pairs"
VERSION = 1
_PARAMETERS = ("min_margin", "length_band", "positive_score", "per_prompt", "min_consistency")


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each iteration and rule."""
    rule = rule_text(config.pairs.rule)
    check_needs(rule, config, iteration)
    inputs = {role: str(DatasetName(role, iteration)) for role in ("prompts", "candidates", "scores")}
    return Plan(
        name=str(DatasetName("pairs", iteration)),
        module=__name__,
        inputs={**inputs, **further_inputs(rule, iteration)},
        texts={"rule": rule},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "pairs": {**config.pairs.keyed(), "rule": Path(config.pairs.rule).stem},
        },
    )


def build(job: Job) -> Rows:
    """Apply the rule; every kept prompt gives its pairs or is counted under its reason."""
    settings = job.section("pairs", PairsConfig)
    connection = _connect(job, settings)
    _apply_rule(job, connection, job.texts["rule"], settings)
    outcomes = connection.sql(OUTCOMES).to_arrow_table().to_pylist()
    mark_near_identical(outcomes, settings.max_similarity)
    fill_in_chats(job, outcomes, settings.reasoning)
    pairs = [_pair(job, row, settings.rule) for row in outcomes if row["reason"] is None]
    dropped = dict(Counter(row["reason"] for row in outcomes if row["reason"] is not None))
    excluded = connection.execute(
        "SELECT excluded, count(*) FROM judged WHERE excluded IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    (n_scored_prompts,) = connection.execute("SELECT count(DISTINCT prompt_id) FROM eligible").fetchall()[0]
    counted = connection.execute("SELECT count(*), count(*) FILTER (injection_suspected) FROM judged")
    n_candidates, n_flagged = counted.fetchall()[0]
    notes = PairsNotes(n_candidates, dict(excluded), n_flagged, n_scored_prompts)
    return Rows(to_table(pairs, Pair), Counts(len(outcomes), len(pairs), dropped, notes.stored()))


def _connect(job: Job, settings: PairsConfig) -> Any:
    """The connection that checks and counts."""
    # No rule ever runs on this connection, so none can change what is checked and counted.
    connection = connect()
    for role in ("prompts", "candidates", "scores"):
        connection.register(role, job.table(role))
    least = {"min_scored": settings.min_scored}
    connection.register("judged", connection.sql(JUDGED, params=least).to_arrow_table())
    allow = {"allow": settings.allow_injection_suspected}
    connection.register("eligible", connection.sql(ELIGIBLE, params=allow).to_arrow_table())
    return connection


def _apply_rule(job: Job, connection: Any, rule: str, settings: PairsConfig) -> None:
    """Run the rule into the view `picked`. Raises InputError unless it is a SELECT within its contract."""
    picked = _picked(job, connection, rule, settings)
    connection.register("picked", picked)
    for problem, query in _RULE_CONTRACT.items():
        offender = connection.execute(query.format(per_prompt=settings.per_prompt)).fetchall()
        if offender:
            told = problem.format(per_prompt=settings.per_prompt)
            raise InputError(f"pair rule {settings.rule}: {told}, first for prompt {offender[0][0]!r}")


def _picked(job: Job, connection: Any, rule: str, settings: PairsConfig) -> pa.Table:
    """The rows that the rule returns."""
    import duckdb
    import pyarrow as pa

    what = f"pair rule {settings.rule}"
    # DuckDB refuses parameters that a query does not use.
    values = {name: getattr(settings, name) for name in _PARAMETERS if re.search(rf"\${name}\b", rule)}
    # A separate connection over the same Arrow tables: the rule sees what counts and cannot alter it.
    with connect() as own:
        for role in ("prompts", "candidates", "scores"):
            own.register(role, job.table(role))
        for name, table in further_views(job, rule, settings).items():
            own.register(name, table)
        for view in ("judged", "eligible"):
            own.register(view, connection.sql(f"SELECT * FROM {quoted(view)}").to_arrow_table())
        try:
            picked = own.sql(check_reads(own, rule, what), params=values).to_arrow_table()
        except UsageError as error:
            raise InputError(str(error)) from error
        except (duckdb.Error, pa.ArrowException, AttributeError) as error:
            raise InputError(f"{what}: {one_line(error)}") from error
    columns = ("prompt_id", "chosen_id", "rejected_id")
    if missing := sorted(set(columns) - set(picked.column_names)):
        raise InputError(f"{what}: returns {picked.column_names}, expected also {missing}")
    if any(picked.column_names.count(column) > 1 for column in columns):
        raise InputError(f"{what}: returns {picked.column_names}, expected each name once")
    for column in columns:
        found = picked.schema.field(column).type
        if not (pa.types.is_string(found) or pa.types.is_large_string(found) or picked.num_rows == 0):
            raise InputError(
                f"{what}: returns {column} of type {found}, expected the ids of `eligible` (text)"
            )
    return picked.select(columns).cast(pa.schema([(column, pa.string()) for column in columns]))


# Users write rules of their own, so the result is checked before any of it is stored.
_RULE_CONTRACT = {
    "returns more pairs for a prompt than pairs.per_prompt {per_prompt}": """
        SELECT prompt_id FROM picked GROUP BY prompt_id HAVING count(*) > {per_prompt} ORDER BY ALL LIMIT 1""",
    "returns a pair twice": """
        SELECT prompt_id FROM picked GROUP BY prompt_id, chosen_id, rejected_id HAVING count(*) > 1 ORDER BY ALL LIMIT 1""",
    "picks a candidate that is not eligible or belongs to another prompt": """
        SELECT prompt_id FROM picked
        WHERE (prompt_id, chosen_id) NOT IN (SELECT (prompt_id, candidate_id) FROM eligible WHERE may_be_chosen)
           OR (prompt_id, rejected_id) NOT IN (SELECT (prompt_id, candidate_id) FROM eligible)
        ORDER BY ALL LIMIT 1""",
    "chooses a response that does not beat the rejected one": """
        SELECT picked.prompt_id FROM picked
        JOIN eligible c ON c.candidate_id = chosen_id JOIN eligible r ON r.candidate_id = rejected_id
        WHERE c.score <= r.score ORDER BY ALL LIMIT 1""",
}


def _pair(job: Job, row: dict[str, Any], rule: str) -> Pair:
    return Pair(
        pair_id=row_id("pair", row["chosen_id"], row["rejected_id"]),
        iteration=job.iteration,
        prompt_id=row["prompt_id"],
        prompt=row["chat"],
        chosen=[Message("assistant", row["chosen"])],
        rejected=[Message("assistant", row["rejected"])],
        chosen_id=row["chosen_id"],
        rejected_id=row["rejected_id"],
        chosen_score=row["chosen_score"],
        rejected_score=row["rejected_score"],
        margin=row["chosen_score"] - row["rejected_score"],
        rule=rule,
    )


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
