"""`candidates`: N sampled responses of the current model to every kept prompt (paper section 2.2, step 2).

    {"candidate_id": "c-…", "iteration": 1, "prompt_id": "p-…", "sample": 0, "response": "…",
     "finish_reason": "stop", "n_tokens": 61, "n_chars": 312, "model": "M1@3f0c…", "seed": 71…, "error": None}

Every requested answer is a row; a truncated one has `finish_reason = length`, a failed one `error` with the
reason. `seed` is the seed it was sampled with, 0 if the engine has no per-row seeds. With `candidates.reasoning: apart`,
the block a model thinks in is the column `reasoning`, and `response` what comes after it; `n_tokens` counts both, and
`n_reasoning_tokens` the block (NULL where the engine counts no tokens).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from selfreward.builders.answers.chats import reasoning_apart, reasoning_tokens, require_system_turns
from selfreward.chats import chat_of, kept_rows
from selfreward.config.data import CandidatesConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Request, Sampling
from selfreward.estimate.requests import Known, Range, Requests
from selfreward.notes import Generated, GenerationNotes
from selfreward.steps.generation import Completions, Generation
from selfreward.steps.step import Job, Plan, Rows, numbered
from selfreward.store.run import Counts
from selfreward.store.version import Version
from selfreward.tables import Candidate, DatasetName, row_id, to_table

NAME = "builders.candidates"
VERSION = 2


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each iteration, made by model M_k, and by those of `candidates.also`."""
    models = config.named_models(["current", *config.candidates.also], iteration)
    return Plan(
        name=str(DatasetName("candidates", iteration)),
        module=__name__,
        inputs={"prompts": str(DatasetName("prompts", iteration))},
        models=numbered("model", models),
        params={
            "iteration": iteration,
            "seed": config.seed,
            "candidates": config.candidates.keyed(),
            "engine": config.engine.keyed(),
            **({"models": len(models)} if len(models) > 1 else {}),
        },
        requests=partial(_planned, config, iteration, len(models)),
    )


def _planned(config: RunConfig, iteration: int, n_models: int, known: Known) -> list[Requests]:
    """One request per kept prompt; before any exist, `prompts.n` of them, represented by IFT's prompts."""
    if prompts := known.get(str(DatasetName("prompts", iteration))):
        return [Requests(_requests(prompts, config.candidates, config.seed)).times(n_models, "models")]
    rows = known["ift"].table(["ift_id", "prompt"]).rename_columns(["prompt_id", "prompt"]).to_pylist()
    examples = [_request(row, config.candidates, config.seed) for row in rows]
    wanted = Range.exactly(config.prompts.n)
    assumed = "all of prompts.n are kept, and are like IFT's"
    return [Requests(examples, wanted, assumed).times(n_models, "models")]


def build(job: Job) -> Rows:
    """Sample `n` responses for each kept prompt."""
    settings = job.section("candidates", CandidatesConfig)
    requests = _requests(job.inputs["prompts"], settings, job.seed)
    rows: list[Candidate] = []
    parts: list[GenerationNotes] = []
    n_reasoning: dict[str, int | None] = {}
    # No row is dropped: what may not become a pair is decided, and counted, in `selfreward.builders.pairs`.
    for number, role in enumerate(job.models):
        with job.open_engine(role) as engine, Generation(job.name, job.work, engine, number) as generation:
            require_system_turns(job.name, engine, requests)
            completions = generation.complete(requests, "responses")
            parts.append(generation.notes())
            answers = _rows(job, role, requests, completions, number * settings.n)
            if settings.reasoning == "apart":
                n_reasoning |= reasoning_tokens(answers, engine)
        rows += answers
    # Answers to one prompt lie together, whoever wrote them; the sort keeps the order of the rest.
    places = {request.id: place for place, request in enumerate(requests)}
    rows.sort(key=lambda row: places[row.prompt_id])
    notes = Generated(generation=GenerationNotes.together(parts))
    table = reasoning_apart(rows, n_reasoning) if n_reasoning else to_table(rows, Candidate)
    return Rows(table, Counts(len(rows), len(rows), notes=notes.stored()))


def _rows(
    job: Job, role: str, requests: list[Request], completions: Completions, first_sample: int
) -> list[Candidate]:
    """The answers of one model; `first_sample` keeps the sample numbers of a prompt different."""
    return [
        Candidate(
            # The model is part of the id: answers of two models to one prompt are different rows.
            candidate_id=row_id("c", request.id, job.models[role].name, sample),
            iteration=job.iteration,
            prompt_id=request.id,
            sample=first_sample + sample,
            response=completions[request.id, sample].text,
            finish_reason=completions[request.id, sample].finish_reason,
            n_tokens=completions[request.id, sample].n_tokens,
            n_chars=len(completions[request.id, sample].text),
            model=job.models[role].name,
            seed=completions[request.id, sample].seed,
            error=completions[request.id, sample].error,
        )
        for request in requests
        for sample in range(request.n)
    ]


def _requests(prompts: Version, settings: CandidatesConfig, seed: int) -> list[Request]:
    return [_request(row, settings, seed) for row in kept_rows(prompts.table())]


def _request(row: dict[str, Any], settings: CandidatesConfig, seed: int) -> Request:
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    return Request(row["prompt_id"], chat_of(row), sampling, settings.n, seed)


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
