"""A pairwise judge against people: every pair in both orders, its verdicts beside theirs, and how often place decides.

    run = evaluate_pairwise(JudgeJob(model="hf:M1", data="pandalm.json.gz", out=Path("judge")), "selfreward_weighted")
    print(format_pairwise_run(run))

Pairs are all pairs of replies to one prompt, two of equal human rank included (people's verdict is then a tie). Who
wins in both orders wins, everything else is a tie, as in the paper's head-to-head; a pair with a verdict missing has
none, and is counted. Two equal texts are a tie without asking. OUT gets `pairwise-<annotator>.jsonl`, a row for
each pair with both verdicts, and the journal.

Intervals are over pairs: where a prompt has more than two replies its pairs hang together, and they are too narrow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from selfreward.engines.base import Completion, Request, Sampling
from selfreward.errors import InputError
from selfreward.evaluation.alpaca.annotators import JudgeTemplate, load_annotator
from selfreward.evaluation.alpaca.judge import require_logprobs
from selfreward.evaluation.alpaca.pairwise import MODEL_FIRST, REFERENCE_FIRST, Key, parse_replies
from selfreward.evaluation.ask.files import Prompt
from selfreward.evaluation.ask.requests import asking
from selfreward.evaluation.ask.results import write_rows
from selfreward.evaluation.judges.ranked_replies import Row
from selfreward.evaluation.judges.run import JudgeJob, replies_of
from selfreward.evaluation.pairwise.result import sign
from selfreward.judging.parsing.verdicts import (
    Ceiling,
    PositionFlips,
    Verdict,
    VerdictAgreement,
    position_flips,
    verdict_agreement,
)
from selfreward.progress import say
from selfreward.store import durable, lock
from selfreward.tables import row_id

_FIRST, _SECOND = 1, 2


@dataclass(frozen=True, slots=True)
class PairwiseRun:
    """One pairwise judge's outcome."""

    judge: str
    verdicts: VerdictAgreement
    flips: PositionFlips
    ceiling: Ceiling | None
    by_status: dict[str, int]
    """Of the pairs in each order: `ok`, `same_text` (not asked), `no_verdict`, `engine_error`."""
    rows: Path
    source: str
    dropped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "judge": self.judge,
            "verdicts": self.verdicts.to_dict(),
            "position": self.flips.to_dict(),
            "annotators": None if self.ceiling is None else self.ceiling.to_dict(),
            "by_status": self.by_status,
            "rows": str(self.rows),
            "source": self.source,
            "dropped": self.dropped,
        }


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two replies to one prompt, in the order of the data, and what people say of them."""

    id: str
    first: Row
    second: Row
    people: int


def evaluate_pairwise(job: JudgeJob, annotator: str) -> PairwiseRun:
    """Ask for every pair in both orders; what was left out of the data is said on stderr."""
    template = load_annotator(annotator)
    replies = replies_of(job)
    say(replies.sentence)
    pairs = _pairs(replies.rows, replies.source)
    ref = job.models.ref(job.model)
    requests = _requests(pairs, template, job.seed)
    durable.make_folder(job.out)
    with (
        lock.hold(job.out, "selfreward evaluate judge"),
        asking(ref, job.out / ".work", "verdicts", job.models.terms_for(job.model, job.terms)) as asked,
    ):
        require_logprobs(asked.engine, list(requests.values()))
        completions = asked.complete(list(requests.values()), f"by {ref.name}")
    found = {key: completions[request.id, 0] for key, request in requests.items()}
    places = _places(pairs, template, found, job.seed)
    rows = [_row(pair, places[pair.id], found) for pair in pairs]
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return PairwiseRun(
        judge=f"{template.name}:{ref.name}",
        verdicts=verdict_agreement([row["verdict"] for row in rows], [pair.people for pair in pairs]),
        flips=position_flips(
            [places[pair.id][0] for pair in pairs], [places[pair.id][1] for pair in pairs], seed=job.seed
        ),
        ceiling=replies.ceiling,
        by_status=dict(Counter(status for row in rows for status in row["statuses"]).most_common()),
        rows=write_rows(job.out / f"pairwise-{template.name}.jsonl", text),
        source=replies.source,
        dropped=replies.dropped,
    )


def _pairs(rows: Sequence[Row], source: str) -> list[_Pair]:
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    pairs = [
        _Pair(row_id("pair", one["prompt_id"], one["response_id"], other["response_id"]), one, other, people)
        for replies in by_prompt.values()
        for one, other in combinations(replies, 2)
        for people in [_people(one, other)]
    ]
    if not any(pair.people for pair in pairs):
        raise InputError(f"{source}: people tell no two replies apart, so there is no verdict to agree with")
    return pairs


def _people(one: Row, other: Row) -> int:
    """Whose rank is lower (or score higher) wins; equal is a tie."""
    better = [
        -row["human_rank"] if row.get("human_rank") is not None else row["human_score"]
        for row in (one, other)
    ]
    return 0 if better[0] == better[1] else _FIRST if better[0] > better[1] else _SECOND


def _requests(pairs: Sequence[_Pair], template: JudgeTemplate, seed: int) -> dict[Key, Request]:
    """(pair, order) -> what is asked; nothing for two equal texts."""
    sampling = Sampling(template.temperature, 1.0, template.max_tokens)
    requests = {}
    for pair in pairs:
        texts = (pair.first["response"], pair.second["response"])
        if texts[0] == texts[1]:
            continue
        for order, shown in ((REFERENCE_FIRST, texts), (MODEL_FIRST, texts[::-1])):
            requests[pair.id, order] = Request(
                id=f"{pair.id}/{order}",
                messages=template.fill(pair.first["prompt"], *shown),
                sampling=sampling,
                seed=seed,
                choices=template.choices,
            )
    return requests


def _places(
    pairs: Sequence[_Pair], template: JudgeTemplate, found: dict[Key, Completion], seed: int
) -> dict[str, tuple[Verdict, Verdict]]:
    """For each pair the *place* that won in either order (1: shown first), as alpaca-eval's parsers read it."""
    # Repeated instructions would be one to alpaca-eval; it sees the pair's id, and the texts stay outside anyway.
    prompts = [
        Prompt(pair.id, None, pair.first["response"], pair.second["response"])
        for pair in pairs
        if (pair.id, MODEL_FIRST) in found
    ]
    preferences: dict[Key, float] = {}
    for order in (REFERENCE_FIRST, MODEL_FIRST):
        preferences |= parse_replies(template, prompts, found, order, seed)
    places: dict[str, tuple[Verdict, Verdict]] = {pair.id: (0, 0) for pair in pairs}
    for prompt in prompts:
        in_order = preferences.get((prompt.instruction, REFERENCE_FIRST))
        swapped = preferences.get((prompt.instruction, MODEL_FIRST))
        places[prompt.instruction] = (_place(in_order, 1), _place(swapped, -1))
    return places


def _place(preference: float | None, direction: int) -> Verdict:
    """A preference for the pair's first (below 1.5) or second reply as the place where that one was shown."""
    if preference is None:
        return None
    return {0: 0, -1: _FIRST, 1: _SECOND}[direction * sign(preference)]


def _row(pair: _Pair, places: tuple[Verdict, Verdict], found: dict[Key, Completion]) -> dict[str, Any]:
    shown = [found.get((pair.id, order)) for order in (REFERENCE_FIRST, MODEL_FIRST)]
    return {
        "prompt_id": pair.first["prompt_id"],
        "first_id": pair.first["response_id"],
        "second_id": pair.second["response_id"],
        "people": pair.people,
        "verdict": _verdict(*places),
        "place_in_order": places[0],
        "place_swapped": places[1],
        "statuses": [_status(completion, place) for completion, place in zip(shown, places, strict=True)],
        "judgements": [None if completion is None else completion.text for completion in shown],
    }


def _verdict(in_order: Verdict, swapped: Verdict) -> Verdict:
    """The reply that wins in both orders; else a tie.

    >>> _verdict(1, 2), _verdict(2, 1), _verdict(1, 1), _verdict(0, 2), _verdict(None, 1)
    (1, 2, 0, 0, None)
    """
    if in_order is None or swapped is None:
        return None
    return in_order if in_order and in_order == 3 - swapped else 0


def _status(completion: Completion | None, place: Verdict) -> str:
    if completion is None:
        return "same_text"
    if completion.finish_reason == "error":
        return "engine_error"
    return "no_verdict" if place is None else "ok"
