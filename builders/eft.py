"""`eft`: evaluation fine-tuning rows, a judge prompt and the judgement to learn (paper section 3.1.1).

    {"eft_id": "eft-…", "split": "train", "prompt_id": "e0cf…", "response_id": "7d05…", "human_rank": 1,
     "judge_prompt": "Review …", "target": "The answer … \\nScore: 3", "target_score": 3.0, "accepted": True, …}

Targets are the seeds' written judgements, the scores that ranks or quality labels stand for, or samples of the SFT baseline whose scores agree with the human
ranking by the rule `eft.agreement`; then the most common score is down-sampled. Rows that are not trained on
stay, with `accepted = false` and a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from selfreward.builders.seeds.split import split_prompts
from selfreward.builders.seeds.targets import score_of_quality, score_of_rank, worst_ranks
from selfreward.config.data import EftConfig, SplitConfig
from selfreward.config.judging import JudgingConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Request, Sampling
from selfreward.errors import EmptyResultError, InputError
from selfreward.estimate.requests import Known, Requests
from selfreward.judging.judge.judge import SCORE_LABEL, read_score
from selfreward.judging.judge.judge import shortest_request as judge_request
from selfreward.judging.parsing.again import read_alike
from selfreward.judging.parsing.scores import PARSER_VERSION
from selfreward.judging.prompts.templates import RENDER_VERSION, JudgeTemplate, load_for_range
from selfreward.notes import EftNotes, GenerationNotes
from selfreward.similarity.evaluation_sets import evaluation_files, load_evaluation_prompts
from selfreward.steps.generation import Generation
from selfreward.steps.kept_answers import kept_answers
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.recipe import Recipe
from selfreward.store.run import Counts, Run
from selfreward.store.version import Version
from selfreward.tables import Eft, Message, Seed, from_table, row_id, to_table

ScoreT = TypeVar("ScoreT", float, float | None)

NAME = "builders.eft"
VERSION = 1


@dataclass(frozen=True)
class Target:
    """A judgement to learn, or the reason why it is missing."""

    text: str | None
    score: float | None
    reason: str | None


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each seeds version, split, template, target mode and rule; None for `eft: null`."""
    if config.eft is None:
        return None
    generated = config.eft.targets == "generated"
    judging = config.judging
    template = load_for_range(judging.template, judging.min_score).text
    files = evaluation_files(config.prompts.evaluation_sets)
    params: dict[str, Any] = {
        "seed": config.seed,
        "split": config.split.keyed(),
        # Written targets use no sampling settings; in the key, those would only cause rebuilds.
        "eft": config.eft.keyed()
        if generated
        else config.eft.model_dump(include={"targets", "max_share_per_score"}),
        "judging": {
            "min_score": judging.min_score,
            "max_score": judging.max_score,
            **({"score_pattern": judging.score_pattern} if judging.score_pattern else {}),
        },
        "parser": PARSER_VERSION,
        "render": RENDER_VERSION,
    }
    if generated:
        params["engine"] = config.engine.keyed()
    return Plan(
        name="eft",
        module=__name__,
        inputs={"seeds": "seeds"},
        models={"model": "SFT"} if generated else {},
        files=files,
        texts={"template": template},
        params=params,
        unkeyed={"train": config.train},
        requests=partial(_planned, config, config.eft, template, files) if generated else None,
    )


def _planned(
    config: RunConfig, settings: EftConfig, template: str, files: dict[str, Path], known: Known
) -> list[Requests]:
    seeds = from_table(known["seeds"].table(), Seed)
    rows, _ = _rows(seeds, config.split, config.seed, JudgeTemplate.from_text(template), files)
    return [Requests(_requests(rows, settings, config.seed))]


def shortest_request(plan: Plan) -> Request:
    """The shortest request that the judge's context must hold."""
    template = JudgeTemplate.from_text(plan.texts["template"])
    return judge_request(template, plan.params["eft"]["max_tokens"])


def reusable(run: Run, recipe: Recipe) -> Version | None:
    """A version made with an earlier parser, if today's parser reads the same scores."""
    return read_alike(run, recipe, "target", "target_score")


def build(job: Job) -> Rows:
    """Rows of both splits; every seed reply is one or is counted."""
    seeds = from_table(job.table("seeds"), Seed)
    split, template = job.section("split", SplitConfig), JudgeTemplate.from_text(job.texts["template"])
    rows, dropped = _rows(seeds, split, job.seed, template, job.files)
    settings = job.section("eft", EftConfig)
    generation: GenerationNotes | None = None
    if settings.targets == "written":
        rows = [_with_target(row, _written(job, row, seeds_by_id(seeds)[row.response_id])) for row in rows]
    elif settings.targets in ("ranks", "quality"):
        ranked = _ranked(job, rows, seeds, settings.targets)
        rows = [_with_target(row, ranked[row.eft_id]) for row in rows]
    else:
        targets, generation = _generated(job, rows, settings)
        rows = [_with_target(row, targets[row.eft_id]) if row.split == "train" else row for row in rows]
    rows = down_sample(rows, settings.max_share_per_score, job.seed)
    # Without training nobody reads the rows of the train split: a run that only judges needs none.
    if job.unkeyed.get("train", True):
        _require_training_rows(rows, len(seeds), dropped)
    return Rows(
        to_table(rows, Eft), Counts(len(seeds), len(rows), dict(dropped), _notes(rows, generation).stored())
    )


def _rows(
    seeds: Sequence[Seed], split: SplitConfig, seed_: int, template: JudgeTemplate, files: dict[str, Path]
) -> tuple[list[Eft], Counter[str]]:
    """The rows of both splits, still without targets, and the dropped replies by reason."""
    parts = split_prompts(seeds, split, seed_)
    evaluation = load_evaluation_prompts(files)
    dropped: Counter[str] = Counter()
    rows: list[Eft] = []
    for seed in seeds:
        part = parts[seed.prompt_id]
        if part == "ift":
            dropped["held_for_ift"] += 1
        elif seed.human_rank is None:
            dropped["unranked"] += 1
        # Only training rows are checked against the evaluation sets: eval rows teach nothing.
        elif part == "eft_train" and evaluation.overlap(seed.prompt) is not None:
            dropped["contamination"] += 1
        else:
            rows.append(_row(seed, "train" if part == "eft_train" else "eval", template))
    return rows, dropped


def seeds_by_id(seeds: Sequence[Seed]) -> dict[str, Seed]:
    """seed_id -> seed."""
    return {seed.seed_id: seed for seed in seeds}


def _row(seed: Seed, split: Literal["train", "eval"], template: JudgeTemplate) -> Eft:
    assert seed.human_rank is not None
    return Eft(
        eft_id=row_id("eft", seed.seed_id),
        split=split,
        prompt_id=seed.prompt_id,
        prompt=seed.prompt,
        response_id=seed.seed_id,
        response=seed.response,
        human_rank=seed.human_rank,
        judge_prompt=template.render(seed.prompt, seed.response),
        target=None,
        target_score=None,
        accepted=split == "eval",
        reason=None,
        source=seed.source,
        source_id=seed.seed_id,
    )


def _with_target(row: Eft, target: Target) -> Eft:
    # The eval split is never filtered: filtered by agreement, accuracy would be perfect by construction.
    accepted = row.split == "eval" or target.reason is None
    return replace(
        row, target=target.text, target_score=target.score, accepted=accepted, reason=target.reason
    )


def _written(job: Job, row: Eft, seed: Seed) -> Target:
    """A seed's own judgement. Raises InputError if its score cannot be read."""
    if seed.judgement is None:
        return Target(None, None, "no_judgement")
    limits = job.section("judging", JudgingConfig)
    parsed = read_score(seed.judgement, "stop", limits)
    # Refused rather than skipped: training on it would teach the judge to omit the score.
    if parsed.score is None:
        form = limits.score_pattern or f"Score: <{limits.min_score:g} to {limits.max_score:g}>"
        raise InputError(
            f"eft: the written judgement of seed {seed.seed_id!r} has no usable score ({parsed.status}): it ends "
            f"{seed.judgement[-60:]!r}, expected `{form}`"
        )
    return Target(seed.judgement, parsed.score, None)


def _ranked(job: Job, rows: Sequence[Eft], seeds: Sequence[Seed], by: str) -> dict[str, Target]:
    """The scores that ranks or quality labels stand for; a reply without a label has none."""
    limits, worst, known = job.section("judging", JudgingConfig), worst_ranks(seeds), seeds_by_id(seeds)
    low, high = limits.min_score, limits.max_score
    targets = {}
    for row in rows:
        quality = known[row.response_id].quality
        if by == "quality" and quality is None:
            targets[row.eft_id] = Target(None, None, "no_quality")
            continue
        if by == "quality":
            assert quality is not None
            score = score_of_quality(quality, low, high)
        else:
            score = score_of_rank(row.human_rank, worst[row.prompt_id], low, high)
        targets[row.eft_id] = Target(f"{SCORE_LABEL} {score:g}", score, None)
    return targets


def _generated(
    job: Job, rows: Sequence[Eft], settings: EftConfig
) -> tuple[dict[str, Target], GenerationNotes]:
    """Judgements sampled from the SFT baseline, accepted if a prompt's scores agree with its human ranks."""
    train = [row for row in rows if row.split == "train"]
    requests = _requests(rows, settings, job.seed)
    with (
        kept_answers(job, requests),
        job.open_engine() as engine,
        Generation(job.name, job.work, engine) as generation,
    ):
        completions = generation.complete(requests, "judgements")
        notes = generation.notes()
    limits = job.section("judging", JudgingConfig)
    scored: dict[str, list[tuple[float, str]]] = {}
    for row in train:
        for sample in range(settings.samples):
            completion = completions[row.eft_id, sample]
            parsed = read_score(completion.text, completion.finish_reason, limits)
            if parsed.score is not None:
                scored.setdefault(row.eft_id, []).append((parsed.score, completion.text))
    return agreeing_targets(train, scored, settings.agreement), notes


def _requests(rows: Sequence[Eft], settings: EftConfig, seed: int) -> list[Request]:
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    return [
        Request(row.eft_id, (Message("user", row.judge_prompt),), sampling, settings.samples, seed)
        for row in rows
        if row.split == "train"
    ]


def agreeing_targets(
    rows: Sequence[Eft], scored: dict[str, list[tuple[float, str]]], rule: str
) -> dict[str, Target]:
    """For each row the sample nearest its mean score, accepted if the prompt's means agree with its ranks.

    `scored` maps eft_id to (score, text) of its scored samples; a row without any makes its prompt `unscored`.
    """
    by_prompt: dict[str, list[Eft]] = {}
    for row in rows:
        by_prompt.setdefault(row.prompt_id, []).append(row)
    targets: dict[str, Target] = {}
    for group in by_prompt.values():
        means = {
            r.eft_id: sum(s for s, _ in scored[r.eft_id]) / len(scored[r.eft_id])
            for r in group
            if r.eft_id in scored
        }
        # The rule covers a prompt as a whole: one unscored reply leaves its siblings' order unchecked.
        complete = len(means) == len(group)
        agrees = complete and agrees_with_ranks([(r.human_rank, means[r.eft_id]) for r in group], rule)
        for row in group:
            if row.eft_id not in means:
                targets[row.eft_id] = Target(None, None, "unscored")
                continue
            # A sample as it was written, not an average: text and score must belong together.
            score, text = min(scored[row.eft_id], key=lambda s: abs(s[0] - means[row.eft_id]))
            reason = None if agrees else "disagrees_with_ranks" if complete else "sibling_unscored"
            targets[row.eft_id] = Target(text, score, reason)
    return targets


def agrees_with_ranks(ranked: Sequence[tuple[int, float]], rule: str) -> bool:
    """Whether mean scores agree with human ranks (0 best) under `strict`, `no_inversion` or `best`.

    >>> agrees_with_ranks([(0, 4.0), (1, 4.0)], "strict"), agrees_with_ranks([(0, 4.0), (1, 4.0)], "no_inversion")
    (False, True)
    """
    # Replies of equal human rank are not compared: no human preference exists between them.
    pairs = [(a, b) for a in ranked for b in ranked if a[0] < b[0]]
    if rule == "best":
        best = min(rank for rank, _ in ranked)
        pairs = [(a, b) for a, b in pairs if a[0] == best]
    if rule == "no_inversion":
        return all(better[1] >= worse[1] for better, worse in pairs)
    return all(better[1] > worse[1] for better, worse in pairs)


def down_sample(rows: Sequence[Eft], max_share: float, seed: int) -> list[Eft]:
    """Mark rows of the most common score `down_sampled` until none exceeds `max_share` of the accepted."""
    accepted = [row for row in rows if row.split == "train" and row.accepted]
    counts = Counter(row.target_score for row in accepted)
    allowed = allowed_per_score(counts, max_share)
    dropped: set[str] = set()
    for score in counts:
        # Drawn by a hash of the id, so that the choice does not depend on the order of the rows.
        same = sorted(
            (r.eft_id for r in accepted if r.target_score == score), key=lambda i: row_id("draw", seed, i)
        )
        dropped |= set(same[allowed[score] :])
    return [replace(r, accepted=False, reason="down_sampled") if r.eft_id in dropped else r for r in rows]


def allowed_per_score(counts: Mapping[ScoreT, int], max_share: float) -> dict[ScoreT, int]:
    """How many rows of each score may stay so that none has more than `max_share` of the rows.

    >>> allowed_per_score({4.0: 8, 3.0: 2, 1.0: 4}, 0.4)
    {4.0: 4, 3.0: 2, 1.0: 4}
    """
    allowed = dict(counts)
    # With fewer than 1 / max_share scores the share cannot be reached, and nothing is dropped.
    while allowed and len(allowed) * max_share >= 1:
        # Ties go to the higher score: a fixed choice, whatever the order of the rows.
        score, n = max(allowed.items(), key=lambda entry: (entry[1], entry[0]))
        rest = sum(allowed.values()) - n
        if n <= max_share * (n + rest):
            break
        allowed[score] = min(n - 1, int(max_share * rest / (1 - max_share)))
    return allowed


def _notes(rows: Sequence[Eft], generation: GenerationNotes | None) -> EftNotes:
    train = [row for row in rows if row.split == "train"]
    scores = Counter(r.target_score for r in train if r.accepted and r.target_score is not None)
    return EftNotes(
        generation=generation,
        train=len(train),
        train_accepted=sum(row.accepted for row in train),
        train_rejected=dict(Counter(row.reason for row in train if row.reason)),
        train_scores=sorted(scores.items()),
        eval=len(rows) - len(train),
        eval_prompts=len({row.prompt_id for row in rows if row.split == "eval"}),
    )


def _require_training_rows(rows: Sequence[Eft], n_seeds: int, dropped: Counter[str]) -> None:
    if not any(row.split == "train" and row.accepted for row in rows):
        rejected = Counter(row.reason for row in rows if row.split == "train")
        funnel = ", ".join(f"{reason} {n}" for reason, n in [*dropped.items(), *rejected.items()])
        raise EmptyResultError(
            f"eft: no training row is left of {n_seeds} seed replies: {funnel}; loosen eft.agreement, raise "
            "eft.samples, or use seeds with written judgements (eft.targets: written)"
        )


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
