"""Several judges or templates on the same candidates: which, each one's score, one score of them all, their agreement.

    judging: {judge: [current, "openai:http://localhost:8000/v1#big"], more_templates: [additive-short], combine: median}

The judgements stay apart, by their columns `judge` and `template`. A *setup* is a judge with a template, numbered in the
order of the configuration: every template of the first judge, then of the second. The combined score of a candidate is
NULL unless every setup scored it, as candidates scored by different judges are not comparable; its variance is that of a
single setup's judgements around their mean, averaged over the setups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfreward.notes import JsonObject
from selfreward.sql.queries import connect

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreward.config.run import RunConfig
    from selfreward.steps.step import Job

# The setups are numbered as they first occur: judgements lie in the order of the configuration.
JUDGE_SCORES = """
SELECT candidate_id, any_value(prompt_id) AS prompt_id, setup, judge, template, judge_mode, iteration, avg(score) AS score,
    var_pop(score) AS score_variance, count(*) AS n_judgements, count(score) AS n_scored,
    bool_or(injection_suspected) AS injection_suspected
FROM judgements JOIN (
    SELECT judge, template, judge_mode, row_number() OVER (ORDER BY min(place)) - 1 AS setup
    FROM (SELECT judge, template, judge_mode, row_number() OVER () AS place FROM judgements) GROUP BY ALL
) USING (judge, template, judge_mode)
GROUP BY ALL ORDER BY setup, candidate_id
"""

# Of the setups' scores of one candidate, in the order of the setups.
RULES = {
    "mean": "list_avg(found)",
    "median": "list_median(found)",
    "worst": "list_min(found)",
    "first": "found[1]",
    # The whole score that most setups come nearest to; the mean of those that tie.
    "majority": """list_avg(list_transform(list_filter(map_entries(votes), lambda e: e.value = list_max(map_values(votes))),
        lambda e: e.key))""",
}
_COMBINED = """
SELECT candidate_id, '{rule} of ' || (SELECT string_agg(judge, ', ' ORDER BY setup) FROM
        (SELECT judge, min(setup) AS setup FROM judge_scores GROUP BY judge)) AS judge,
    (SELECT string_agg(template, ', ' ORDER BY setup) FROM
        (SELECT template, min(setup) AS setup FROM judge_scores GROUP BY template)) AS template,
    judge_mode, iteration, prompt_id,
    CASE WHEN {enough} THEN {score} END AS score, CASE WHEN {enough} THEN score_variance END AS score_variance,
    n_judgements, n_scored, injection_suspected
FROM (
    SELECT candidate_id, judge_mode, iteration, any_value(prompt_id) AS prompt_id, list(score ORDER BY setup) AS found,
        histogram(round(score)) AS votes, avg(score_variance) AS score_variance, sum(n_judgements)::BIGINT AS n_judgements,
        sum(n_scored)::BIGINT AS n_scored, bool_or(injection_suspected) AS injection_suspected
    FROM judge_scores GROUP BY candidate_id, judge_mode, iteration
) ORDER BY candidate_id
"""
_AGREEMENT = """
WITH sides AS (
    SELECT a.setup AS first, b.setup AS second, a.prompt_id, a.candidate_id, a.score AS one, b.score AS other
    FROM judge_scores a JOIN judge_scores b ON a.candidate_id = b.candidate_id AND a.setup < b.setup
    WHERE a.score IS NOT NULL AND b.score IS NOT NULL
), compared AS (
    SELECT x.first, x.second, sign(x.one - y.one) * sign(x.other - y.other) AS same
    FROM sides x JOIN sides y ON x.first = y.first AND x.second = y.second AND x.prompt_id = y.prompt_id
        AND x.candidate_id < y.candidate_id
), names AS (SELECT DISTINCT setup, judge, template FROM judge_scores)
SELECT n.judge AS first_judge, n.template AS first_template, m.judge AS second_judge, m.template AS second_template,
    s.n AS both_scored, s.difference AS mean_difference, c.n AS comparisons, c.same_order, c.reversed
FROM (SELECT first, second, count(*) AS n, avg(one - other) AS difference FROM sides GROUP BY ALL) s
LEFT JOIN (SELECT first, second, count(*) AS n, count(*) FILTER (same > 0) AS same_order,
        count(*) FILTER (same < 0) AS reversed FROM compared GROUP BY ALL) c USING (first, second)
JOIN names n ON n.setup = s.first JOIN names m ON m.setup = s.second ORDER BY s.first, s.second
"""


def setups_of(config: RunConfig, iteration: int) -> list[tuple[str, str]]:
    """Judge and template of each setup of an iteration."""
    judges = config.named_models(config.judging.judges, iteration)
    return [(judge, template) for judge in judges for template in config.judging.templates]


@dataclass(frozen=True)
class Setup:
    """A judge with a template, by their roles in the job."""

    judge: str
    template: str


def setups_in(job: Job) -> list[Setup]:
    """All of them, in the order of the configuration."""
    templates = [role for role in job.texts if role.startswith("template")]
    return [Setup(judge, template) for judge in job.models for template in templates]


def judge_scores(judgements: pa.Table) -> pa.Table:
    """Each setup's own score of each candidate."""
    with connect() as connection:
        connection.register("judgements", judgements)
        return connection.sql(JUDGE_SCORES).to_arrow_table()


def combined_scores(judgements: pa.Table, rule: str) -> pa.Table:
    """The rows of `scores`, by one of `RULES`."""
    with connect() as connection:
        connection.register("judge_scores", judge_scores(judgements))
        return connection.sql(_combined_query(rule)).to_arrow_table()


def _combined_query(rule: str) -> str:
    # A judge that is only compared with the first one may leave a candidate unscored.
    enough = "found[1] IS NOT NULL" if rule == "first" else "len(list_filter(found, lambda s: s IS NULL)) = 0"
    return _COMBINED.format(rule=rule, score=RULES[rule], enough=enough)


def agreement_between(judgements: pa.Table) -> list[JsonObject]:
    """For each two setups: how many candidates both scored, how far apart, how often in the same order.

    `comparisons` are pairs of answers to one prompt; `same_order` and `reversed` of them, the rest is tied for one judge.
    """
    with connect() as connection:
        connection.register("judge_scores", judge_scores(judgements))
        rows: list[JsonObject] = connection.sql(_AGREEMENT).to_arrow_table().to_pylist()
    return rows
