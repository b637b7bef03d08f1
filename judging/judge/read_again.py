"""Judgements whose scores are read again from their texts: by another parser, range or pattern, nothing is generated."""

from __future__ import annotations

from typing import Any

from selfreward.config.judging import JudgingConfig
from selfreward.judging.judge.combine import Setup, setups_in
from selfreward.judging.judge.judge import Judged, read_score
from selfreward.progress import say
from selfreward.steps.step import Job
from selfreward.store.version import Version


def read_again(job: Job, settings: JudgingConfig) -> tuple[dict[Setup, list[Judged]], Version] | None:
    """The judgements of an earlier version that differs in parser or range alone, parsed again, and that version."""
    # An expected score comes from probabilities, which are not stored: there is no text to parse.
    if settings.mode != "sampled":
        return None
    for version in reversed(job.run.versions(job.name)):
        manifest = version.manifest
        same_inputs = {role: entry["content_sha256"] for role, entry in manifest["inputs"].items()} == {
            role: entry["content_sha256"] for role, entry in job.recipe.inputs.items()
        }
        if same_inputs and _without_reading(manifest["params"]) == _without_reading(job.recipe.params):
            say(f"{job.name}: reading the scores of version {version.version} again, nothing is generated")
            # 0 attempts: the candidate failed and was never judged; `build` adds such rows itself.
            # Of resampled judgements only the last attempt is stored: a score in an earlier one is lost.
            rows = [row for row in version.table().to_pylist() if row["attempts"] > 0]
            found = _by_setup(setups_in(job), rows)
            return {s: [_parsed_again(row, settings) for row in part] for s, part in found.items()}, version
    return None


def _by_setup(setups: list[Setup], rows: list[dict[str, Any]]) -> dict[Setup, list[dict[str, Any]]]:
    """The rows of each setup: they lie one setup after the other, in the order that the key names."""
    # By place rather than by name: a model that was moved has another name and the same content.
    names = list(dict.fromkeys((row["judge"], row["template"]) for row in rows))
    found: dict[Setup, list[dict[str, Any]]] = {setup: [] for setup in setups}
    for row in rows:
        found[setups[names.index((row["judge"], row["template"]))]].append(row)
    return found


def _without_reading(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters without those that only affect how a score is read."""
    judging = {
        k: v for k, v in params["judging"].items() if k not in ("min_score", "max_score", "score_pattern")
    }
    return {**{k: v for k, v in params.items() if k != "parser"}, "judging": judging}


def _parsed_again(row: dict[str, Any], settings: JudgingConfig) -> Judged:
    parsed = read_score(row["judgement"], row["finish_reason"], settings)
    return Judged(
        item_id=row["candidate_id"],
        sample=row["sample"],
        text=row["judgement"],
        score=parsed.score,
        status=parsed.status,
        finish_reason=row["finish_reason"],
        n_tokens=row["n_tokens"],
        attempts=row["attempts"],
        seed=row["seed"],
    )
