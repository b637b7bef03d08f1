"""System turns that a model's template must have, reasoning in columns of its own, and chats and reasoning in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selfreward.chats import chats_of, split_reasoning
from selfreward.engines.base import Engine, Request
from selfreward.errors import InputError
from selfreward.steps.step import Job
from selfreward.tables import Candidate, Message, to_table

if TYPE_CHECKING:
    import pyarrow as pa


def require_system_turns(name: str, engine: Engine, requests: Sequence[Request]) -> None:
    """InputError if the model's chat template drops a system turn, or refuses one."""
    asked = next((request for request in requests if request.messages[0].role == "system"), None)
    if asked is None:
        return
    (system, *rest) = asked.messages
    without = engine.count_tokens(rest)
    texts = (system.content, f"{system.content} {system.content}")
    with_it, longer = (engine.count_tokens([Message("system", text), *rest]) for text in texts)
    # A server does not say what its template does. Compared are two texts, since some templates put one of their own where
    # there is no system turn.
    if without is not None and (with_it is None or with_it == longer):
        raise InputError(
            f"{name}: the chat template of {engine.name} {'refuses' if with_it is None else 'drops'} the system turn "
            f"of prompt {asked.id}; put its text into the user's turn, or take a model whose template has one"
        )


def reasoning_tokens(rows: Sequence[Candidate], engine: Engine) -> dict[str, int | None]:
    """candidate_id -> tokens of the reasoning before its answer; None where the engine does not count."""
    # Counted as a turn, less the tokens of an empty turn.
    empty = engine.count_tokens([Message("user", "")])
    counts: dict[str, int | None] = {}
    for row in rows:
        reasoning, _ = split_reasoning(row.response)
        found = engine.count_tokens([Message("user", reasoning)]) if reasoning else empty
        counts[row.candidate_id] = None if empty is None or found is None else found - empty
    return counts


def reasoning_apart(rows: Sequence[Candidate], n_tokens: Mapping[str, int | None]) -> pa.Table:
    """`candidates` with the reasoning before an answer, and its tokens, in columns of their own."""
    import pyarrow as pa

    parts = [split_reasoning(row.response) for row in rows]
    answers = [
        replace(row, response=answer, n_chars=len(answer))
        for row, (_, answer) in zip(rows, parts, strict=True)
    ]
    counts = [n_tokens[row.candidate_id] for row in rows]
    table = to_table(answers, Candidate)
    table = table.append_column("reasoning", pa.array([text or None for text, _ in parts], pa.string()))
    return table.append_column("n_reasoning_tokens", pa.array(counts, pa.int64()))


def fill_in_chats(job: Job, picked: Sequence[dict[str, Any]], with_reasoning: bool) -> None:
    """Give each picked row its `chat`, and its two answers the reasoning before them if it is wanted."""
    chats = chats_of(job.table("prompts"))
    reasoning = _reasoning(job) if with_reasoning else {}
    for row in picked:
        row["chat"] = list(chats[row["prompt_id"]])
        for side in ("chosen", "rejected"):
            if row[side] is not None:
                row[side] = reasoning.get(row[f"{side}_id"], "") + row[side]


def _reasoning(job: Job) -> dict[str, str]:
    """candidate_id -> the reasoning before its answer. InputError where the candidates have none."""
    table = job.table("candidates")
    if "reasoning" not in table.column_names:
        raise InputError(
            f"{job.name}: pairs.reasoning needs candidates with a column `reasoning`, and these have none; set "
            "candidates.reasoning: apart"
        )
    rows = table.select(["candidate_id", "reasoning"]).to_pylist()
    return {row["candidate_id"]: row["reasoning"] or "" for row in rows}
