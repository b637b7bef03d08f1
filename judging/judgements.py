"""`judgements`: the current model judges every candidate (paper section 2.2, step 3: three samples each).

    {"judgement_id": "j-…", "iteration": 1, "candidate_id": "c-…", "sample": 0, "judge": "M1@3f0c…",
     "template": "additive@91ab…", "judgement": "The response … \\nScore: 3", "score": 3.0, "status": "ok", …}

Every judgement is a row with its raw text: unscored ones keep score NULL and a `status` that says why. A candidate that
failed in the engine is not sent to the judge; its rows say `engine_error`, so that counts stay prompts x N x samples.
With several judges or templates each of them judges every candidate, one after the other (`judging.judge.combine`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from selfreward.chats import judge_texts
from selfreward.config.judging import JudgingConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Request
from selfreward.estimate.requests import Known, Requests
from selfreward.judging.judge.combine import Setup, setups_in, setups_of
from selfreward.judging.judge.judge import EXPECTED_VERSION, Item, Judged, judge_items, planned_requests
from selfreward.judging.judge.judge import shortest_request as judge_request
from selfreward.judging.judge.read_again import read_again
from selfreward.judging.parsing.again import read_alike
from selfreward.judging.parsing.scores import PARSER_VERSION
from selfreward.judging.prompts.injection import injection_suspected
from selfreward.judging.prompts.templates import RENDER_VERSION, JudgeTemplate, load_for_range
from selfreward.notes import GenerationNotes, JudgementsNotes
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows, numbered
from selfreward.store.recipe import Recipe
from selfreward.store.run import Counts, Run
from selfreward.store.version import Version
from selfreward.tables import DatasetName, Judgement, JudgeMode, row_id, to_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "judging.judgements"
VERSION = 2


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each candidates version, judge, template and judging parameters."""
    settings = config.judging
    setups = setups_of(config, iteration)
    judges = list(dict.fromkeys(judge for judge, _ in setups))
    templates = [load_for_range(name, settings.min_score).text for name in settings.templates]
    several = {"setups": len(setups)} if len(setups) > 1 else {}
    return Plan(
        name=str(DatasetName("judgements", iteration)),
        module=__name__,
        inputs={
            "prompts": str(DatasetName("prompts", iteration)),
            "candidates": str(DatasetName("candidates", iteration)),
        },
        models=numbered("model", judges),
        texts=numbered("template", templates),
        params={
            "iteration": iteration,
            "seed": config.seed,
            "judging": judging_params(settings),
            "parser": reading_version(settings),
            "render": RENDER_VERSION,
            "engine": config.engine.keyed(),
            **several,
        },
        requests=partial(_planned, config, iteration, templates, len(judges)),
    )


def _planned(
    config: RunConfig, iteration: int, templates: list[str], n_judges: int, known: Known
) -> list[Requests]:
    """The requests of all judges and templates; timed is the first judge, as if the others were as fast."""
    found = [
        one
        for text in templates
        for one in _planned_of_one(config, iteration, JudgeTemplate.from_text(text), known)
    ]
    return [one.times(n_judges, "judges") for one in found]


def _planned_of_one(
    config: RunConfig, iteration: int, template: JudgeTemplate, known: Known
) -> list[Requests]:
    """One request per candidate; before candidates exist, the configured number, sized like IFT's rows."""
    prompts, candidates = (
        known.get(str(DatasetName("prompts", iteration))),
        known.get(str(DatasetName("candidates", iteration))),
    )
    if prompts and candidates:
        items = _items(prompts.table(), candidates.table().to_pylist())
        return planned_requests(items, template, config.judging, config.seed)
    n_prompts = sum(prompts.table(["kept"])["kept"].to_pylist()) if prompts else config.prompts.n
    items = [Item(row["ift_id"], row["prompt"], row["response"]) for row in known["ift"].table().to_pylist()]
    n_items = n_prompts * config.candidates.n * (1 + len(config.candidates.also))
    assumed = "candidates are like IFT's responses" + ("" if prompts else ", all of prompts.n are kept")
    return planned_requests(items, template, config.judging, config.seed, n_items, assumed)


def shortest_request(plan: Plan) -> Request:
    """The shortest request that the judge must have room for."""
    longest = max((text for role, text in plan.texts.items() if role.startswith("template")), key=len)
    return judge_request(JudgeTemplate.from_text(longest), plan.params["judging"]["max_tokens"])


def judging_params(settings: JudgingConfig) -> dict[str, Any]:
    """The settings that can change a judgement, template name included (its text is keyed by itself)."""
    return settings.keyed()


def reading_version(settings: JudgingConfig) -> int | str:
    """Version of what turns an answer into a score: the parser, or the rule for probabilities."""
    return f"expected {EXPECTED_VERSION}" if settings.mode == "expected" else PARSER_VERSION


def template_name(text: str) -> str:
    """Short name of a template in rows: the first 12 digits of its text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reusable(run: Run, recipe: Recipe) -> Version | None:
    """A version made by an earlier parser, if the current one reads the same scores from it."""
    return read_alike(run, recipe, "judgement", "score")


def build(job: Job) -> Rows:
    """Judge all candidates of all kept prompts."""
    settings = job.section("judging", JudgingConfig)
    candidates = job.table("candidates").to_pylist()
    items = _items(job.table("prompts"), candidates)
    again = read_again(job, settings)
    parts: list[GenerationNotes] = []
    rows: list[Judgement] = []
    for number, setup in enumerate(setups_in(job)):
        if again is not None:
            judged = again[0][setup]
        else:
            with (
                job.open_engine(setup.judge) as engine,
                Generation(job.name, job.work, engine, number) as generation,
            ):
                template = JudgeTemplate.from_text(job.texts[setup.template])
                judged = judge_items(generation, engine, items, template, settings, job.seed)
                parts.append(generation.notes())
        rows += _rows(job, setup, candidates, judged, settings)
    asked = again[1].notes(JudgementsNotes).generation if again else GenerationNotes.together(parts)
    notes = JudgementsNotes(
        generation=asked,
        by_status=dict(Counter(row.status for row in rows)),
        resampled=sum(row.attempts > 1 for row in rows),
        scored_after_resampling=sum(row.attempts > 1 and row.score is not None for row in rows),
        injection_suspected=len({row.candidate_id for row in rows if row.injection_suspected}),
        read_again_from=again[1].version if again else None,
    )
    return Rows(to_table(rows, Judgement), Counts(len(rows), len(rows), notes=notes.stored()))


def _rows(
    job: Job,
    setup: Setup,
    candidates: list[dict[str, Any]],
    judged: list[Judged],
    settings: JudgingConfig,
) -> list[Judgement]:
    """The rows of one setup, in the order of the candidates."""
    by_candidate: dict[str, list[Judged]] = {}
    for judgement in judged:
        by_candidate.setdefault(judgement.item_id, []).append(judgement)
    n_samples = settings.samples if settings.mode == "sampled" else 1
    return [
        _row(job, setup, candidate, judgement, settings.mode)
        for candidate in candidates
        for judgement in by_candidate.get(candidate["candidate_id"], _failed(candidate, n_samples))
    ]


def _items(prompts: pa.Table, candidates: list[dict[str, Any]]) -> list[Item]:
    """Every candidate except those that failed in the engine."""
    texts = judge_texts(prompts)
    return [
        Item(row["candidate_id"], texts[row["prompt_id"]], row["response"])
        for row in candidates
        if row["finish_reason"] != "error"
    ]


def _failed(candidate: dict[str, Any], n_samples: int) -> list[Judged]:
    """The rows of a candidate that failed in the engine and was never judged."""
    return [
        Judged(candidate["candidate_id"], sample, "", None, "engine_error", "error", 0, 0, 0)
        for sample in range(n_samples)
    ]


def _row(job: Job, setup: Setup, candidate: dict[str, Any], judged: Judged, mode: JudgeMode) -> Judgement:
    judge = job.models[setup.judge].name
    template = template_name(job.texts[setup.template])
    return Judgement(
        judgement_id=row_id("j", judged.item_id, judge, template, mode, judged.sample),
        iteration=job.iteration,
        prompt_id=candidate["prompt_id"],
        candidate_id=judged.item_id,
        sample=judged.sample,
        judge=judge,
        template=template,
        judge_mode=mode,
        judgement=judged.text,
        score=judged.score,
        status=judged.status,
        finish_reason=judged.finish_reason,
        n_tokens=judged.n_tokens,
        attempts=judged.attempts,
        injection_suspected=injection_suspected(candidate["response"]),
        seed=judged.seed,
    )


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
