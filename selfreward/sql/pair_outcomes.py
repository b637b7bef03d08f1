"""Which candidates may enter a pair, and why a prompt gave none: the queries of `pairs`, and the view that lists the prompts.

    SELECT reason, count(*) FROM prompts_without_pair GROUP BY ALL

`prompts_without_pair` has one row for each kept prompt without a pair. It is computed when it is asked for, from the
versions of prompts, candidates and scores that the manifest of `pairs` names as inputs, so that scores which have
changed since do not explain pairs that were made before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from selfreward.sql.queries import quoted
from selfreward.store.run import Run
from selfreward.store.version import Version
from selfreward.tables import DatasetName

WITHOUT_PAIR = "prompts_without_pair"
INPUTS = ("prompts", "candidates", "scores")

# Texts stay where they are: copied, they are most of the memory and time of a selection among millions. Empty is what
# DuckDB's `trim` leaves empty, seen at the first character that is no blank.
# The variance is only compared: rounded, it does not depend on the order in which a judge's scores were added up.
JUDGED = """
SELECT c.prompt_id, c.candidate_id, c.n_chars, c.n_tokens, c.sample, c.model,
    m.model_order,
    s.score, round(s.score_variance, 9) AS score_variance, s.n_scored, s.injection_suspected,
    CASE WHEN c.finish_reason = 'error' THEN 'failed'
         WHEN c.finish_reason = 'length' THEN 'truncated'
         WHEN regexp_full_match(c.response, '\\p{Zs}*') THEN 'empty'
         WHEN s.score IS NULL THEN 'unscored'
         WHEN s.n_scored < $min_scored THEN 'too_few_scored'
    END AS excluded
FROM candidates c LEFT JOIN scores s USING (candidate_id)
JOIN (SELECT model, dense_rank() OVER (ORDER BY min(sample)) - 1 AS model_order FROM candidates GROUP BY model) m USING (model)
"""
ELIGIBLE = """
SELECT * EXCLUDE (excluded), ($allow OR NOT injection_suspected) AS may_be_chosen FROM judged WHERE excluded IS NULL
"""

# Why a prompt gave no pair, most basic reason first; `picked` is what the rule returned. Texts that differ in blanks around
# them are the same, as the audit `pairs_differ` has it.
OUTCOMES = """
SELECT p.prompt_id, p.prompt, picked.chosen_id, picked.rejected_id,
    chosen_text.response AS chosen, rejected_text.response AS rejected,
    chosen.score AS chosen_score, rejected.score AS rejected_score,
    CASE WHEN picked.chosen_id IS NOT NULL AND trim(chosen_text.response) = trim(rejected_text.response)
            THEN 'identical_text'
         WHEN picked.chosen_id IS NOT NULL THEN NULL
         WHEN coalesce(e.n, 0) = 0 AND coalesce(j.n_truncated, 0) = j.n THEN 'all_truncated'
         WHEN coalesce(e.n, 0) = 0 AND coalesce(j.n_unscored, 0) = j.n THEN 'all_unscored'
         WHEN coalesce(e.n, 0) < 2 AND coalesce(j.n_scored, 0) < 2 THEN 'fewer_than_two_eligible'
         WHEN coalesce(e.n, 0) < 2 OR e.lowest = e.highest AND j.lowest < j.highest THEN 'too_few_scored'
         WHEN e.lowest = e.highest THEN 'tied'
         WHEN NOT e.any_may_be_chosen THEN 'injection_suspected'
         ELSE 'rule'
    END AS reason
FROM prompts p
LEFT JOIN picked USING (prompt_id)
LEFT JOIN judged chosen ON chosen.candidate_id = picked.chosen_id
LEFT JOIN judged rejected ON rejected.candidate_id = picked.rejected_id
LEFT JOIN candidates chosen_text ON chosen_text.candidate_id = picked.chosen_id
LEFT JOIN candidates rejected_text ON rejected_text.candidate_id = picked.rejected_id
LEFT JOIN (SELECT prompt_id, count(*) AS n, min(score) AS lowest, max(score) AS highest,
                  bool_or(may_be_chosen) AS any_may_be_chosen
           FROM eligible GROUP BY prompt_id) e ON e.prompt_id = p.prompt_id
LEFT JOIN (SELECT prompt_id, count(*) AS n, count(*) FILTER (excluded = 'truncated') AS n_truncated,
                  count(*) FILTER (excluded = 'unscored') AS n_unscored,
                  count(*) FILTER (coalesce(excluded, 'too_few_scored') = 'too_few_scored') AS n_scored,
                  min(score) FILTER (coalesce(excluded, 'too_few_scored') = 'too_few_scored') AS lowest,
                  max(score) FILTER (coalesce(excluded, 'too_few_scored') = 'too_few_scored') AS highest
           FROM judged GROUP BY prompt_id) j ON j.prompt_id = p.prompt_id
WHERE p.kept
ORDER BY p.prompt_id, chosen.score - rejected.score DESC, chosen.sample, rejected.sample
"""

_WITHOUT_PAIR = """
SELECT CAST($iteration AS BIGINT) AS iteration, o.prompt_id, if(o.reason = 'rule', $rest, o.reason) AS reason,
    count(c.candidate_id) AS n_candidates,
    count(*) FILTER (c.excluded = 'truncated') AS n_truncated, count(*) FILTER (c.excluded = 'empty') AS n_empty,
    count(*) FILTER (c.excluded = 'failed') AS n_failed, count(*) FILTER (c.excluded = 'unscored') AS n_unscored,
    count(*) FILTER (c.excluded = 'too_few_scored') AS n_too_few_scored,
    max(c.score) FILTER (c.excluded IS NULL) AS best_score, min(c.score) FILTER (c.excluded IS NULL) AS worst_score,
    o.prompt
FROM outcomes o LEFT JOIN judged c USING (prompt_id)
WHERE o.reason IS NOT NULL GROUP BY o.prompt_id, o.prompt, o.reason
"""


@dataclass(frozen=True)
class Explained:
    """A version of pairs, and the versions of prompts, candidates and scores that it was made from."""

    pairs: Version
    iteration: int
    inputs: dict[str, Version]


def explainable(names: Iterable[str]) -> list[DatasetName]:
    """The pairs among these datasets that have prompts, candidates and scores beside them."""
    known = set(names)
    pairs = [
        name for name in map(DatasetName.parse, known) if name.kind == "pairs" and name.iteration is not None
    ]
    beside = [name for name in pairs if {str(name.sibling(kind)) for kind in INPUTS} <= known]
    return sorted(beside, key=str)


def explained_pairs(run: Run, names: Iterable[str]) -> list[Explained]:
    """The current version of each, with the versions it was made from."""
    found = []
    for name in explainable(names):
        pairs = run.current(str(name))
        inputs = {kind: _input(run, pairs, str(name.sibling(kind)), kind) for kind in INPUTS}
        found.append(Explained(pairs, name.iteration or 0, inputs))
    return found


def _input(run: Run, pairs: Version, source: str, kind: str) -> Version:
    """The version that the manifest names; the current one if it names none (imported pairs) or that is gone."""
    recorded = pairs.manifest["inputs"].get(kind)
    for version in run.versions(source) if recorded else []:
        if version.content_sha256 == recorded["content_sha256"]:
            return version
    return run.current(source)


def without_pair_view(found: Iterable[Explained], table_of: Callable[[Version], str]) -> str:
    """The statement that creates the view; `table_of` registers the rows of a version and names them."""
    parts = " UNION ALL ".join(f"FROM ({_query(one, table_of)})" for one in found)
    return f"CREATE OR REPLACE VIEW {quoted(WITHOUT_PAIR)} AS {parts}"


def _query(found: Explained, table_of: Callable[[Version], str]) -> str:
    settings = found.pairs.manifest["params"].get("pairs")
    settings = settings if isinstance(settings, dict) else {}
    allow, least = bool(settings.get("allow_injection_suspected")), int(settings.get("min_scored") or 1)
    parts = {kind: f"FROM {quoted(table_of(found.inputs[kind]))}" for kind in INPUTS}
    parts |= {"picked": f"SELECT prompt_id, chosen_id, rejected_id FROM {quoted(table_of(found.pairs))}"}
    parts |= {
        "judged": JUDGED.replace("$min_scored", str(least)),
        "eligible": ELIGIBLE.replace("$allow", str(allow)),
        "outcomes": OUTCOMES,
    }
    named = ", ".join(f"{name} AS ({query})" for name, query in parts.items())
    rows = _WITHOUT_PAIR.replace("$iteration", str(found.iteration))
    return f"WITH {named} {rows.replace('$rest', _rest(found.pairs))}"


def _rest(pairs: Version) -> str:
    """The reason of prompts that could have given a pair by the queries above, as an SQL text."""
    # What a rule returned is not stored: which of these it was, the counts of the version say.
    dropped = pairs.manifest["counts"]["dropped"]
    reasons = [reason for reason in ("rule", "identical_text", "near_identical") if dropped.get(reason)]
    return f"'{' or '.join(reasons) or 'not_in_imported_pairs'}'"
