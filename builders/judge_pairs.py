"""`judge_pairs`: preference pairs of judgements, from their comparisons (arXiv 2407.19594, section 2.3).

    {"judge_pair_id": "jpair-…", "candidate_id": "c-…", "prompt": [{"role": "user", "content": "<judge prompt>"}],
     "chosen": [{"role": "assistant", "content": "… Score: 3"}], "rejected": […], "chosen_id": "j-…",
     "rejected_id": "j-…", "chosen_rating": 1.9, "rejected_rating": -1.9, "margin": 3.8, "chosen_score": 3.0, …}

Of each compared answer the judgement rated highest is chosen and the one rated lowest rejected; of equal ratings the
shorter is chosen and the longer rejected, since meta-judges like length. DPO trains on these together with `pairs`, in
the mix that `meta.max_share` allows, so that what is stored here is what is trained on. Every answer that gives no pair is
counted under its reason. Off without the section `meta`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from selfreward.builders.eft import allowed_per_score
from selfreward.chats import judge_texts
from selfreward.config.meta import MetaConfig
from selfreward.config.run import RunConfig
from selfreward.judging.judgements import template_name
from selfreward.judging.meta.ratings import (
    Contest,
    PositionWeights,
    consistent,
    position_weights,
    ratings,
)
from selfreward.judging.prompts.templates import RENDER_VERSION, JudgeTemplate, load_for_range
from selfreward.notes import JudgePairsNotes
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import DatasetName, JudgePair, Message, MetaJudgement, from_table, row_id, to_table

NAME = "builders.judge_pairs"
VERSION = 1

_INPUTS = ("prompts", "candidates", "judgements", "meta_judgements", "pairs")


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each version of the comparisons and each rule; None without `meta`."""
    if config.meta is None:
        return None
    return Plan(
        name=str(DatasetName("judge_pairs", iteration)),
        module=__name__,
        inputs={role: str(DatasetName(role, iteration)) for role in _INPUTS},
        texts={"judge_template": load_for_range(config.judging.template, config.judging.min_score).text},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "meta": config.meta.picking(),
            "render": RENDER_VERSION,
        },
    )


def build(job: Job) -> Rows:
    """Rate the judgements of every compared answer, pick two, balance and mix."""
    settings = job.section("meta", MetaConfig)
    found = from_table(job.table("meta_judgements"), MetaJudgement)
    compared = {
        candidate: [Contest(row.first_id, row.second_id, row.winner) for row in rows if row.winner]
        for candidate, rows in _by_candidate(found).items()
    }
    weights = position_weights(one for comparisons in compared.values() for one in comparisons)
    texts = _Texts(job)
    picked = [
        _pick(job, texts, settings, weights, candidate, comparisons)
        for candidate, comparisons in sorted(compared.items())
    ]
    pairs = [pair for pair in picked if isinstance(pair, JudgePair)]
    dropped = Counter(reason for reason in picked if isinstance(reason, str))
    balanced = _balanced(pairs, settings.max_share_per_score, job.seed)
    # At most the stated share of the step: with n pairs of answers, share / (1 - share) times n.
    most = int(settings.max_share / (1 - settings.max_share) * job.inputs["pairs"].n_rows + 1e-9)
    mixed = _drawn(balanced, most, job.seed)
    dropped["score_too_common"] += len(pairs) - len(balanced)
    dropped["over_max_share"] += len(balanced) - len(mixed)
    notes = JudgePairsNotes(
        answer_pairs=job.inputs["pairs"].n_rows,
        chosen_scores=sorted(Counter(pair.chosen_score for pair in mixed).items()),
        weight_first=weights.first,
        weight_second=weights.second,
    )
    kept = {reason: n for reason, n in dropped.items() if n}
    return Rows(to_table(mixed, JudgePair), Counts(len(picked), len(mixed), kept, notes.stored()))


def _by_candidate(rows: Sequence[MetaJudgement]) -> dict[str, list[MetaJudgement]]:
    found: dict[str, list[MetaJudgement]] = {}
    for row in rows:
        found.setdefault(row.candidate_id, []).append(row)
    return found


class _Texts:
    """Judgements and judge prompts by id."""

    def __init__(self, job: Job) -> None:
        self._template = JudgeTemplate.from_text(job.texts["judge_template"])
        self.judgements = _by_id(
            job, "judgements", "judgement_id", ["judgement", "score", "sample", "template"]
        )
        self.candidates = _by_id(job, "candidates", "candidate_id", ["response", "prompt_id"])
        self._prompts = judge_texts(job.table("prompts"))

    def judge_prompt(self, candidate_id: str) -> str:
        """The prompt that the judge had."""
        candidate = self.candidates[candidate_id]
        return self._template.render(self._prompts[candidate["prompt_id"]], candidate["response"])


def _by_id(job: Job, role: str, id_column: str, columns: list[str]) -> dict[str, dict[str, Any]]:
    return {row[id_column]: row for row in job.table(role, [id_column, *columns]).to_pylist()}


def _pick(
    job: Job,
    texts: _Texts,
    settings: MetaConfig,
    weights: PositionWeights,
    candidate_id: str,
    comparisons: list[Contest],
) -> JudgePair | str:
    """The pair of one answer, or the reason why there is none."""
    if not comparisons:
        return "no_winner_named"
    if settings.positions == "consistent":
        comparisons, weights = consistent(comparisons), PositionWeights(0.5, 0.5)
    rated = ratings(comparisons, weights, settings.rule)
    if not rated or max(rated.values()) == min(rated.values()):
        return "tied"

    def order(judgement_id: str) -> tuple[float, int, int]:
        row = texts.judgements[judgement_id]
        return -rated[judgement_id], len(row["judgement"]), row["sample"]

    best, *_, worst = sorted(rated, key=order)
    chosen, rejected = texts.judgements[best], texts.judgements[worst]
    # Imported judgements may answer another prompt than the one that would be stored with them.
    if {chosen["template"], rejected["template"]} != {template_name(job.texts["judge_template"])}:
        return "other_template"
    if chosen["judgement"].strip() == rejected["judgement"].strip():
        return "identical_text"
    if len(chosen["judgement"]) > settings.max_length_ratio * len(rejected["judgement"]):
        return "chosen_too_long"
    return JudgePair(
        judge_pair_id=row_id("jpair", best, worst),
        iteration=job.iteration,
        prompt_id=texts.candidates[candidate_id]["prompt_id"],
        candidate_id=candidate_id,
        prompt=[Message("user", texts.judge_prompt(candidate_id))],
        chosen=[Message("assistant", chosen["judgement"])],
        rejected=[Message("assistant", rejected["judgement"])],
        chosen_id=best,
        rejected_id=worst,
        chosen_rating=rated[best],
        rejected_rating=rated[worst],
        margin=rated[best] - rated[worst],
        chosen_score=chosen["score"],
        rejected_score=rejected["score"],
        rule=settings.rule,
    )


def _balanced(pairs: Sequence[JudgePair], max_share: float, seed: int) -> list[JudgePair]:
    """Without what is too common, by the chosen judgement's score, as EFT rows are balanced."""
    counts = Counter(pair.chosen_score for pair in pairs)
    allowed = allowed_per_score(counts, max_share)
    kept = {
        pair.judge_pair_id
        for score in counts
        for pair in _drawn([p for p in pairs if p.chosen_score == score], allowed[score], seed)
    }
    return [pair for pair in pairs if pair.judge_pair_id in kept]


def _drawn(pairs: Sequence[JudgePair], n: int, seed: int) -> list[JudgePair]:
    """`n` of the pairs by a hash of their id, in their order."""
    drawn = sorted(pairs, key=lambda pair: row_id("draw", seed, pair.judge_pair_id))[:n]
    ids = {pair.judge_pair_id for pair in drawn}
    return [pair for pair in pairs if pair.judge_pair_id in ids]


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
