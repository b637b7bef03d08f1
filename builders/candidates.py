"""`candidates`: N sampled responses of the current model to every kept prompt (paper section 2.2, step 2).

    {"candidate_id": "c-…", "iteration": 1, "prompt_id": "p-…", "sample": 0, "response": "…",
     "finish_reason": "stop", "n_tokens": 61, "n_chars": 312, "model": "M1@3f0c…", "seed": 71…, "error": None}

Every requested answer is a row; a truncated one has `finish_reason = length`, a failed one `error` with the
reason. `seed` is the seed it was sampled with, 0 if the engine has no per-row seeds. With `candidates.reasoning: apart`,
the block a model thinks in is the column `reasoning`, and `response` what comes after it; `n_tokens` counts both, and
`n_reasoning_tokens` the block (NULL where the engine counts no tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from selfreward.chats import chat_of, chats_of, split_reasoning
from selfreward.config.run import CandidatesConfig, RunConfig
from selfreward.engines.base import Engine, Request, Sampling
from selfreward.errors import InputError
from selfreward.estimate.requests import Known, Range, Requests
from selfreward.notes import Generated
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.store.version import Version
from selfreward.tables import Candidate, DatasetName, Message, row_id, to_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "builders.candidates"
VERSION = 2


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each iteration, made by model M_k."""
    return Plan(
        name=str(DatasetName("candidates", iteration)),
        module=__name__,
        inputs={"prompts": str(DatasetName("prompts", iteration))},
        models={"model": f"M{iteration}"},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "candidates": config.candidates.keyed(),
            "engine": config.engine.keyed(),
        },
        requests=partial(_planned, config, iteration),
    )


def _planned(config: RunConfig, iteration: int, known: Known) -> list[Requests]:
    """One request per kept prompt; before any exist, `prompts.n` of them, represented by IFT's prompts."""
    if prompts := known.get(str(DatasetName("prompts", iteration))):
        return [Requests(_requests(prompts, config.candidates, config.seed))]
    rows = known["ift"].table(["ift_id", "prompt"]).rename_columns(["prompt_id", "prompt"]).to_pylist()
    examples = [_request(row, config.candidates, config.seed) for row in rows]
    wanted = Range.exactly(config.prompts.n)
    return [Requests(examples, wanted, "all of prompts.n are kept, and are like IFT's")]


def build(job: Job) -> Rows:
    """Sample `n` responses for each kept prompt."""
    settings = job.section("candidates", CandidatesConfig)
    requests = _requests(job.inputs["prompts"], settings, job.seed)
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        _require_system_turns(job.name, engine, requests)
        completions = generation.complete(requests, "responses")
        notes = Generated(generation=generation.notes())
    # No row is dropped: what may not become a pair is decided, and counted, in `selfreward.builders.pairs`.
    rows = [
        Candidate(
            # The model is part of the id: answers of two models to one prompt are different rows.
            candidate_id=row_id("c", request.id, job.models["model"].name, sample),
            iteration=job.iteration,
            prompt_id=request.id,
            sample=sample,
            response=completions[request.id, sample].text,
            finish_reason=completions[request.id, sample].finish_reason,
            n_tokens=completions[request.id, sample].n_tokens,
            n_chars=len(completions[request.id, sample].text),
            model=job.models["model"].name,
            seed=completions[request.id, sample].seed,
            error=completions[request.id, sample].error,
        )
        for request in requests
        for sample in range(request.n)
    ]
    table = to_table(rows, Candidate)
    if settings.reasoning == "apart":
        with job.open_engine() as engine:
            table = _apart(rows, engine)
    return Rows(table, Counts(len(rows), len(rows), notes=notes.stored()))


def _requests(prompts: Version, settings: CandidatesConfig, seed: int) -> list[Request]:
    table = prompts.table()
    rows = table.select(["prompt_id", "kept"]).to_pylist()
    chats = chats_of(table)
    return [_asked(row["prompt_id"], chats[row["prompt_id"]], settings, seed) for row in rows if row["kept"]]


def _request(row: dict[str, Any], settings: CandidatesConfig, seed: int) -> Request:
    return _asked(row["prompt_id"], chat_of(row), settings, seed)


def _asked(prompt_id: str, chat: tuple[Message, ...], settings: CandidatesConfig, seed: int) -> Request:
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    return Request(prompt_id, chat, sampling, settings.n, seed)


def _require_system_turns(name: str, engine: Engine, requests: Sequence[Request]) -> None:
    """InputError if the model's chat template drops a system turn, or refuses one."""
    asked = next((request for request in requests if request.messages[0].role == "system"), None)
    if asked is None:
        return
    (system, *rest) = asked.messages
    without = engine.count_tokens(rest)
    with_text, longer = (
        engine.count_tokens([Message("system", text), *rest])
        for text in (system.content, 2 * f"{system.content} ")
    )
    # A server does not say what its template does. Some templates put a text of their own where there is no system turn.
    if without is not None and (with_text is None or with_text == longer):
        raise InputError(
            f"{name}: the chat template of {engine.name} {'refuses' if with_text is None else 'drops'} the system turn "
            f"of prompt {asked.id}; put its text into the user's turn, or take a model whose template has one"
        )


def _apart(rows: Sequence[Candidate], engine: Engine) -> pa.Table:
    """`candidates` with the reasoning before an answer in columns of its own."""
    import pyarrow as pa

    parts = [split_reasoning(row.response) for row in rows]
    answers = [
        replace(row, response=answer, n_chars=len(answer))
        for row, (_, answer) in zip(rows, parts, strict=True)
    ]
    empty = engine.count_tokens([Message("user", "")])
    counts = [
        None if empty is None else _n_tokens(engine, reasoning) - empty if reasoning else 0
        for reasoning, _ in parts
    ]
    table = to_table(answers, Candidate)
    table = table.append_column("reasoning", pa.array([text or None for text, _ in parts], pa.string()))
    return table.append_column("n_reasoning_tokens", pa.array(counts, pa.int64()))


def _n_tokens(engine: Engine, text: str) -> int:
    return engine.count_tokens([Message("user", text)]) or 0


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
