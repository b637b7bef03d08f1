"""`judge_eval`: how well model M_k judges, on the human-ranked EFT eval split (paper section 3.2.3, table 4).

    {"eft_id": "eft-…", "iteration": 1, "prompt_id": "e0cf…", "human_rank": 0, "sample": 0, "score": 4.0,
     "status": "ok", "judgement": "The answer … \\nScore: 4", …}

Iteration 0 is M0, before any training. The agreement figures are in the manifest's notes.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.config.evaluation import JudgeEvalConfig
from selfreward.config.judging import JudgingConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Request
from selfreward.errors import InputError
from selfreward.estimate.requests import Known, Requests
from selfreward.judging.judge.judge import Item, Judged, judge_items, planned_requests, sampled_requests
from selfreward.judging.judge.judge import shortest_request as judge_request
from selfreward.judging.judgements import judging_params, reading_version, template_name
from selfreward.judging.parsing.again import read_alike
from selfreward.judging.prompts.templates import RENDER_VERSION, JudgeTemplate, load_for_range
from selfreward.judging.rules.files import EMBEDDED as RULES
from selfreward.judging.rules.files import file_of
from selfreward.judging.rules.prompts import held_out_replies
from selfreward.notes import JsonObject, JudgeEvalNotes
from selfreward.steps.generation import Generation
from selfreward.steps.kept_answers import kept_answers
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.recipe import Recipe
from selfreward.store.run import Counts, Run
from selfreward.store.version import Version
from selfreward.tables import DatasetName, JudgeEval, JudgeMode, row_id, to_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "evaluation.judge_eval"
VERSION = 1
EFT_EVAL = "eft_eval"


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each model of the run; without training, of the configured judge. None if there is nothing to judge."""
    measured = config.evaluate.judge
    if measured is None or (iteration == 0 and not config.train):
        return None
    # Without EFT there is no eval split; replies of a file are judged all the same.
    if config.eft is None and measured.replies == EFT_EVAL:
        return None
    # without training there is one judge, the configured one (of several the first)
    (judge, *_) = config.named_models(["current"] if config.train else config.judging.judges, iteration)
    # one attempt: asking again until a score can be read would hide how often the judge gives none
    settings = config.judging.model_copy(update={"samples": measured.samples, "max_attempts": 1})
    template = load_for_range(settings.template, settings.min_score).text
    return Plan(
        name=str(DatasetName("judge_eval", iteration)),
        module=__name__,
        inputs={"eft": "eft"} if measured.replies == EFT_EVAL else {},
        files=_reply_files(measured.replies),
        models={"model": judge},
        texts={"template": template},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "judging": judging_params(settings),
            "judge_eval": _keyed(measured),
            "parser": reading_version(settings),
            "render": RENDER_VERSION,
            "engine": config.engine.keyed(),
        },
        requests=partial(_planned, settings, measured, template, config.seed),
    )


def _keyed(settings: JudgeEvalConfig) -> dict[str, Any]:
    """The held-out replies by name, a file by its content alone; the EFT eval split as ever."""
    replies = settings.replies
    return settings.keyed() | (
        {} if replies == EFT_EVAL else {"replies": replies if replies == RULES else "file"}
    )


def _planned(
    settings: JudgingConfig, limits: JudgeEvalConfig, template: str, seed: int, known: Known
) -> list[Requests] | None:
    files = _reply_files(limits.replies)
    if not files and "eft" not in known:
        return None
    rows = _file_rows(limits.replies, files["replies"]) if files else _eval_rows(known["eft"].table())
    items = _items(_whole_prompts(rows, limits.n_max))
    return planned_requests(items, JudgeTemplate.from_text(template), settings, seed)


def shortest_request(plan: Plan) -> Request:
    """The minimum context that the judge needs."""
    template = JudgeTemplate.from_text(plan.texts["template"])
    return judge_request(template, plan.params["judging"]["max_tokens"])


def reusable(run: Run, recipe: Recipe) -> Version | None:
    """A version of an earlier parser, if today's reads it the same."""
    return read_alike(run, recipe, "judgement", "score")


def build(job: Job) -> Rows:
    """Judge the eval split and measure agreement with the human ranks."""
    settings = job.section("judging", JudgingConfig)
    if "replies" in job.files:
        eval_rows = _file_rows(job.section("judge_eval", JudgeEvalConfig).replies, job.files["replies"])
    else:
        eval_rows = _eval_rows(job.table("eft"))
    kept = _whole_prompts(eval_rows, job.section("judge_eval", JudgeEvalConfig).n_max)
    template = JudgeTemplate.from_text(job.texts["template"])
    items = _items(kept)
    with (
        _kept(job, items, template, settings),
        job.open_engine() as engine,
        Generation(job.name, job.work, engine) as generation,
    ):
        judged = judge_items(generation, engine, items, template, settings, job.seed)
        asked = generation.notes()
    by_id = {row["eft_id"]: row for row in kept}
    rows = [_row(job, by_id[judgement.item_id], judgement, settings.mode) for judgement in judged]
    notes = JudgeEvalNotes(
        generation=asked,
        by_status=dict(Counter(row.status for row in rows)),
        # the first thing to know about a small judge, so unscored judgements stay rows
        scored_share=sum(row.score is not None for row in rows) / len(rows) if rows else None,
        histogram=sorted(Counter(row.score for row in rows if row.score is not None).items()),
        agreement=agreement_of(rows),
        responses_left_out_by_n_max=len(eval_rows) - len(kept),
    )
    return Rows(to_table(rows, JudgeEval), Counts(len(rows), len(rows), notes=notes.stored()))


def _kept(
    job: Job, items: list[Item], template: JudgeTemplate, settings: JudgingConfig
) -> AbstractContextManager[None]:
    # An expected score is of the range's own tokens, so another range asks for others.
    if settings.mode == "expected":
        return nullcontext()
    return kept_answers(job, sampled_requests(items, template, settings, job.seed))


def _eval_rows(eft: pa.Table) -> list[dict[str, Any]]:
    return [row for row in eft.to_pylist() if row["split"] == "eval"]


def _reply_files(replies: str) -> dict[str, Path]:
    """The file whose content decides the replies; none for the EFT eval split."""
    return {} if replies == EFT_EVAL else {"replies": file_of(replies)}


def _file_rows(replies: str, path: Path) -> list[dict[str, Any]]:
    """Rows as those of the EFT eval split, from the held-out replies with rules or a file of ranked replies."""
    from selfreward.evaluation.judges.ranked_replies import read_ranked

    found = held_out_replies() if replies == RULES else list(read_ranked(str(path)).rows)
    if unranked := sum(row.get("human_rank") is None for row in found):
        raise InputError(
            f"evaluate.judge.replies {path}: {unranked} replies have no human_rank; expected 0 for the best"
        )
    return [row | {"eft_id": row_id("eft", row["response_id"])} for row in found]


def _items(rows: list[dict[str, Any]]) -> list[Item]:
    return [Item(row["eft_id"], row["prompt"], row["response"]) for row in rows]


def agreement_of(rows: list[JudgeEval]) -> JsonObject | None:
    """The agreement figures of the responses' mean scores; None if there is nothing to compare."""
    import pandas as pd

    from selfreward.judging.agreement.agreement import measure_agreement

    responses: dict[str, list[JudgeEval]] = {}
    for row in rows:
        responses.setdefault(row.eft_id, []).append(row)
    if not responses:
        return None
    table = []
    for samples in responses.values():
        scores = [row.score for row in samples if row.score is not None]
        first = samples[0]
        table.append(
            {
                "prompt_id": first.prompt_id,
                "response_id": first.response_id,
                "human_rank": first.human_rank,
                "score": sum(scores) / len(scores) if scores else None,
                "n_chars": first.n_chars,
            }
        )
    return measure_agreement(pd.DataFrame(table)).to_dict()


def _whole_prompts(rows: list[dict[str, Any]], n_max: int | None) -> list[dict[str, Any]]:
    """At most `n_max` rows, whole prompts only."""
    if n_max is None:
        return rows
    sizes = Counter(row["prompt_id"] for row in rows)
    chosen: set[str] = set()
    total = 0
    # by a hash: the choice does not depend on the order of the rows
    for prompt_id in sorted(sizes, key=lambda prompt: row_id("draw", prompt)):
        if total + sizes[prompt_id] <= n_max:
            chosen.add(prompt_id)
            total += sizes[prompt_id]
    return [row for row in rows if row["prompt_id"] in chosen]


def _row(job: Job, row: dict[str, Any], judged: Judged, mode: JudgeMode) -> JudgeEval:
    return JudgeEval(
        eft_id=row["eft_id"],
        iteration=job.iteration,
        prompt_id=row["prompt_id"],
        response_id=row["response_id"],
        human_rank=row["human_rank"],
        n_chars=len(row["response"]),
        sample=judged.sample,
        judge=job.models["model"].name,
        template=template_name(job.texts["template"]),
        judge_mode=mode,
        judgement=judged.text,
        score=judged.score,
        status=judged.status,
        finish_reason=judged.finish_reason,
        n_tokens=judged.n_tokens,
    )
