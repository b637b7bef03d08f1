"""What a pair rule may read beside `eligible`, each made only for rules that name it.

| view | rows |
|---|---|
| `judge_scores` | each judge's own score of each candidate: `candidate_id`, `prompt_id`, `setup` (0 for the first judge and template of the configuration, then 1, …), `judge`, `template`, `judge_mode`, `score`, `score_variance`, `n_scored` |
| `earlier_scores`, `earlier_candidates` | `scores` and `candidates` of the iterations before; none in the first |
| `sampling_error` | one: `variance` of a single judgement of a candidate around that candidate's mean, and its degrees of freedom `df` |
| `score_range` | `n`, `quantile`: by chance the best and the worst of `n` equally good answers differ by less than so many standard errors in 1 - `pairs.level` of the prompts (Tukey's studentized range) |

A rule says in its comments what it cannot do without, so that a run is refused before it starts:
`-- needs judges: 2`, `-- needs models: 2`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.config.judging import PairsConfig
from selfreward.config.run import RunConfig
from selfreward.errors import InputError, UsageError
from selfreward.judging.judge.combine import JUDGE_SCORES, setups_of
from selfreward.sql.queries import connect
from selfreward.tables import Candidate, DatasetName, Score, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreward.steps.step import Job

_RULES = Path(__file__).parent
_NEEDS = re.compile(r"^--\s*needs (judges|models): (\d+)\s*$", re.MULTILINE)
_HAD = {
    "judges": ("scores of", "judging.judge", "judging.judge: [current, previous]"),
    "models": ("answers of", "candidates.also", "candidates.also: [previous]"),
}
_EARLIER = {"earlier_scores": ("scores", Score), "earlier_candidates": ("candidates", Candidate)}

_SAMPLING_ERROR = """
SELECT sum(score_variance * n_scored) / sum(n_scored - 1) AS variance, sum(n_scored - 1)::BIGINT AS df
FROM scores WHERE n_scored > 1
"""


def known_rules() -> list[str]:
    """The rules that come with the package."""
    return sorted(path.stem for path in _RULES.glob("*.sql"))


def rule_text(rule: str) -> str:
    """The SQL of a rule, by name or path."""
    path = Path(rule) if rule.endswith(".sql") else _RULES / f"{rule}.sql"
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"pairs.rule {path}: is no text file; expected one SELECT in UTF-8") from error
    except FileNotFoundError as error:
        raise UsageError(
            f"pairs.rule {rule!r}: no such rule; known: {', '.join(known_rules())}, or the path of an .sql file"
        ) from error


def check_needs(rule: str, config: RunConfig, iteration: int) -> None:
    """UsageError if the rule compares more judges or models than the configuration has."""
    has = {
        "judges": len(setups_of(config, iteration)),
        "models": len(config.named_models(["current", *config.candidates.also], iteration)),
    }
    for what, number in _NEEDS.findall(rule):
        if has[what] < int(number):
            told, key, example = _HAD[what]
            raise UsageError(
                f"iter{iteration}/pairs: pairs.rule {config.pairs.rule} compares the {told} {number} {what}, but iteration "
                f"{iteration} has {has[what]} ({key}); expected for example {example}"
            )


def further_inputs(rule: str, iteration: int) -> dict[str, str]:
    """Role -> dataset of the inputs that only this rule needs."""
    inputs = {}
    if _names(rule, "judge_scores"):
        inputs["judgements"] = str(DatasetName("judgements", iteration))
    for view, (kind, _) in _EARLIER.items():
        if _names(rule, view):
            inputs |= {f"{kind}{k}": str(DatasetName(kind, k)) for k in range(1, iteration)}
    return inputs


def further_views(job: Job, rule: str, settings: PairsConfig) -> dict[str, pa.Table]:
    """The views that the rule names. InputError if the judgements cannot tell what it asks for."""
    import pyarrow as pa

    views: dict[str, Any] = {}
    if _names(rule, "judge_scores"):
        views["judge_scores"] = _query(JUDGE_SCORES, judgements=job.table("judgements"))
    for view, (kind, row) in _EARLIER.items():
        if _names(rule, view):
            roles = (role for role in job.inputs if re.fullmatch(rf"{kind}\d+", role))
            tables = [job.table(role) for role in roles]
            views[view] = pa.concat_tables(
                [arrow_schema(row).empty_table(), *tables], promote_options="default"
            )
    if _names(rule, "sampling_error") or _names(rule, "score_range"):
        views["sampling_error"] = _sampling_error(job, settings)
    if _names(rule, "score_range"):
        views["score_range"] = _score_range(job, settings, views["sampling_error"]["df"][0].as_py())
    return views


def _names(rule: str, view: str) -> bool:
    return re.search(rf"\b{view}\b", re.sub(r"--.*", "", rule)) is not None


def _query(query: str, **tables: pa.Table) -> pa.Table:
    with connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(query).to_arrow_table()


def _sampling_error(job: Job, settings: PairsConfig) -> pa.Table:
    found = _query(_SAMPLING_ERROR, scores=job.table("scores"))
    if not found["df"][0].as_py():
        raise InputError(
            f"pair rule {settings.rule}: no candidate has two scored judgements, so that the judge's sampling error is "
            "unknown; expected judging.mode: sampled with judging.samples of 2 or more"
        )
    return found


def _score_range(job: Job, settings: PairsConfig, df: int) -> pa.Table:
    """The quantiles for 2 answers up to as many as a prompt has."""
    import pyarrow as pa
    from scipy.stats import studentized_range

    counts = job.table("scores")["prompt_id"].value_counts().to_pylist()
    most = max((entry["counts"] for entry in counts), default=2)
    # Above a thousand degrees of freedom the distribution no longer moves in four digits, but takes longer to compute.
    rows = [
        {"n": n, "quantile": round(float(studentized_range.ppf(1 - settings.level, n, min(df, 1000))), 6)}
        for n in range(2, max(most, 2) + 1)
    ]
    return pa.Table.from_pylist(rows)
