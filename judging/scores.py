"""`scores`: the reward of each candidate, the mean of its scored judgements (paper section 2.2: three, averaged).

    {"candidate_id": "c-…", "judge": "M1@3f0c…", "template": "additive@91ab…", "judge_mode": "sampled",
     "iteration": 1, "prompt_id": "p-…", "score": 3.67, "score_variance": 0.22, "n_judgements": 3, "n_scored": 3}

The mean keeps its fraction. A candidate none of whose judgements has a score is kept with score NULL. One version
holds one judging set-up (judge, template, mode); two are compared by `selfreward diff` and SQL, never mixed. Several
judges or templates of one version are combined by the rule `judging.combine`, which the column `judge` then names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selfreward.config.judging import JudgingConfig
from selfreward.config.run import RunConfig
from selfreward.errors import EmptyResultError, GateError
from selfreward.judging.judge.combine import agreement_between, combined_scores, setups_of
from selfreward.judging.rules.scores import by_rules, shuffled
from selfreward.notes import JudgementsNotes, ScoresNotes
from selfreward.sql.queries import connect
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import DatasetName, Score, arrow_schema, to_table
from selfreward.text import format_histogram

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "judging.scores"
VERSION = 1

_SCORES = """
SELECT candidate_id, judge, template, judge_mode, iteration, prompt_id,
    avg(score) AS score, var_pop(score) AS score_variance,
    count(*) AS n_judgements, count(score) AS n_scored, bool_or(injection_suspected) AS injection_suspected
FROM judgements GROUP BY ALL ORDER BY candidate_id
"""
_HISTOGRAM = "SELECT score, count(*) AS n FROM judgements WHERE score IS NOT NULL GROUP BY ALL ORDER BY ALL"
_STATUSES = "SELECT status, count(*) FROM judgements GROUP BY ALL ORDER BY ALL"
_TIED = """
SELECT count(*) FILTER (lowest = highest), count(*) FROM (
    SELECT prompt_id, min(score) AS lowest, max(score) AS highest
    FROM scores WHERE score IS NOT NULL GROUP BY prompt_id HAVING count(*) > 1)
"""


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each iteration and judging set-up."""
    settings, source = config.judging, config.scores.source
    inputs = ("judgements", "prompts", "candidates") if source == "rules" else ("judgements",)
    several = {"combine": settings.combine} if len(setups_of(config, iteration)) > 1 else {}
    params: dict[str, Any] = {
        "iteration": iteration,
        "seed": config.seed,
        "judging": {**settings.model_dump(include={"collapse_share", "collapse_tied_share"}), **several},
    }
    # In the key only where it is used: the judge's own scores have the key they always had.
    if source != "judge":
        params["scores"] = config.scores.keyed()
        params["judging"] |= settings.model_dump(include={"min_score", "max_score"})
    return Plan(
        name=str(DatasetName("scores", iteration)),
        module=__name__,
        inputs={role: str(DatasetName(role, iteration)) for role in inputs},
        params=params,
    )


def build(job: Job) -> Rows:
    """Average the judgements, then stop the run if the judge no longer distinguishes responses."""
    connection = connect()
    judgements = job.table("judgements")
    connection.register("judgements", judgements)
    params = job.recipe.params
    scores = scores_of(judgements, params, job.table)
    connection.register("scores", scores)
    histogram = connection.execute(_HISTOGRAM).fetchall()
    tied, comparable = connection.execute(_TIED).fetchall()[0]
    statuses = dict(connection.execute(_STATUSES).fetchall())
    # A collapsed judge gives almost every response the same score: DPO would train on noise.
    _refuse_collapse(job, histogram, tied, comparable, statuses)
    notes = ScoresNotes(
        judgements=sum(statuses.values()),
        judgements_by_status=statuses,
        histogram=histogram,
        prompts_all_tied=tied,
        prompts_comparable=comparable,
        unscored_candidates=scores["score"].null_count,
        agreement=agreement_between(judgements) if params["judging"].get("combine") else None,
    )
    return Rows(scores, Counts(scores.num_rows, scores.num_rows, notes=notes.stored()))


def scores_of(judgements: pa.Table, params: dict[str, Any], table: Callable[[str], pa.Table]) -> pa.Table:
    """The rows of `scores` from judgements and the parameters in its manifest; `table` has `prompts` and `candidates`.

    The audit `scores_match_judgements` makes the rows anew with it.
    """
    combine = params["judging"].get("combine")
    if combine:
        found = combined_scores(judgements, combine)
    else:
        with connect() as connection:
            connection.register("judgements", judgements)
            found = connection.sql(_SCORES).to_arrow_table()
    scores = found.cast(arrow_schema(Score))
    return (
        to_table(map(_score, _controlled(scores.to_pylist(), params, table)), Score)
        if "scores" in params
        else scores
    )


def _score(row: dict[str, Any]) -> Score:
    return Score(**row)


def _controlled(
    scores: list[dict[str, Any]], params: dict[str, Any], table: Callable[[str], pa.Table]
) -> list[dict[str, Any]]:
    """The rows of a control: see `scores.source`."""
    if params["scores"]["source"] == "shuffled":
        return shuffled(scores, params["seed"] + params["iteration"])
    prompts, candidates = table("prompts"), table("candidates")
    texts = dict(zip(prompts["prompt_id"].to_pylist(), prompts["prompt"].to_pylist(), strict=True))
    answers = dict(
        zip(candidates["candidate_id"].to_pylist(), candidates["response"].to_pylist(), strict=True)
    )
    limits = params["judging"]
    return by_rules(scores, texts, answers, limits["min_score"], limits["max_score"])


def _refuse_collapse(
    job: Job, histogram: list[tuple[float, int]], tied: int, comparable: int, statuses: dict[str, int]
) -> None:
    settings = job.section("judging", JudgingConfig)
    n_scored = sum(n for _, n in histogram)
    counts = ", ".join(f"{status} {n}" for status, n in statuses.items())
    if n_scored == 0:
        failed = job.inputs["judgements"].notes(JudgementsNotes).failures
        raise EmptyResultError(
            f"{job.name}: none of the judgements has a score ({counts}); {failed + '; ' if failed else ''}train the judge on more EFT rows, or take "
            "another template or judge"
        )
    score, n_modal = max(histogram, key=lambda entry: entry[1])
    # With few scores a high share is chance rather than collapse: at least 20 here, 10 prompts below.
    if n_scored >= 20 and n_modal / n_scored > settings.collapse_share:
        raise GateError(
            f"{job.name}: the judge collapsed: {n_modal} of {n_scored} scores are {score:g} "
            f"(judging.collapse_share {settings.collapse_share:g}).\n{format_histogram(histogram)}"
        )
    if comparable >= 10 and tied / comparable > settings.collapse_tied_share:
        raise GateError(
            f"{job.name}: the judge collapsed: {tied} of {comparable} prompts have all their scores tied "
            f"(judging.collapse_tied_share {settings.collapse_tied_share:g}).\n{format_histogram(histogram)}"
        )


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
