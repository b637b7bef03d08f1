"""A pairwise judge against humans: every pair in both orders, agreement, and how often the position decides.

Pairs are all pairs of replies to one prompt, two of equal human rank included (the human verdict is then a tie). A
reply that wins in both orders wins, everything else is a tie, as in the paper's head-to-head; a pair with a missing
verdict is counted as unscored. OUT gets `pairwise-<annotator>.jsonl`, a row for each pair with both verdicts.

Intervals are over pairs: if a prompt has more than two replies, its pairs are dependent, and the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from selfreward.engines.base import Completion, Request, Sampling
from selfreward.errors import InputError
from selfreward.evaluation.alpaca.annotators import PairwiseTemplate
from selfreward.evaluation.alpaca.judge import require_logprobs
from selfreward.evaluation.alpaca.pairwise import MODEL_FIRST, REFERENCE_FIRST, ComparisonKey, parse_replies
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.files import PromptPair
from selfreward.evaluation.judges.ranked_replies import RankedReplies, ReplyRow, by_prompt, human_verdict
from selfreward.evaluation.judges.run import JudgedRows
from selfreward.evaluation.pairwise.result import sign
from selfreward.judging.parsing.verdicts import (
    PositionFlips,
    Verdict,
    VerdictAgreement,
    position_flips,
    verdict_agreement,
)
from selfreward.tables import row_id

_FIRST, _SECOND = 1, 2


@dataclass(frozen=True, slots=True)
class JudgedPairs(JudgedRows):
    """Every pair of replies with a judge's verdicts in both orders.

    Statuses are of the pairs in each order: `ok`, `same_text` (not asked), `no_verdict`, `engine_error`.
    """

    seed: int


@dataclass(frozen=True, slots=True)
class PairwiseRun:
    """One pairwise judge's outcome."""

    judged: JudgedPairs
    verdicts: VerdictAgreement
    flips: PositionFlips

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "judge": self.judged.judge,
            "verdicts": self.verdicts.to_dict(),
            "position": self.flips.to_dict(),
            "rows": str(self.judged.path),
            **self.judged.facts(),
        }


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two replies to one prompt, in the order of the data, and the human verdict."""

    id: str
    first: ReplyRow
    second: ReplyRow
    people: int


def judge_pairs_of(
    ask: ModelAccess, model: str, replies: RankedReplies, template: PairwiseTemplate, seed: int
) -> JudgedPairs:
    """Ask for every pair in both orders; OUT gets a row for each."""
    pairs = _pairs(replies.rows, replies.source)
    requests = _requests(pairs, template, seed)
    judge = ask.models.ref(model).name
    with ask.judge(model) as generation:
        require_logprobs(generation.engine, list(requests.values()))
        completions = generation.complete(list(requests.values()), f"by {judge}")
    found = {key: completions[request.id, 0] for key, request in requests.items()}
    places = _places(pairs, template, found, seed)
    rows = [_row(pair, places[pair.id], found) for pair in pairs]
    path = ask.write(f"pairwise-{template.name}.jsonl", rows)
    return JudgedPairs(model, f"{template.name}:{judge}", replies, rows, path, seed)


def measure_pairwise(judged: JudgedPairs) -> PairwiseRun:
    """Agreement with human verdicts, and how often the order changes a verdict."""
    rows = judged.rows
    in_order, swapped = ([row[place] for row in rows] for place in ("place_in_order", "place_swapped"))
    verdicts = verdict_agreement([row["verdict"] for row in rows], [row["people"] for row in rows])
    return PairwiseRun(judged, verdicts, position_flips(in_order, swapped, seed=judged.seed))


def _pairs(rows: Sequence[ReplyRow], source: str) -> list[_Pair]:
    pairs = [
        _Pair(row_id("pair", one["prompt_id"], one["response_id"], other["response_id"]), one, other, people)
        for replies in by_prompt(rows)
        for one, other in combinations(replies, 2)
        for people in [human_verdict(one, other)]
    ]
    if not any(pair.people for pair in pairs):
        raise InputError(f"{source}: all human ranks are tied, so there is no verdict to agree with")
    return pairs


def _requests(pairs: Sequence[_Pair], template: PairwiseTemplate, seed: int) -> dict[ComparisonKey, Request]:
    """(pair, order) -> its request."""
    sampling = Sampling(template.temperature, 1.0, template.max_tokens)
    requests = {}
    for pair in pairs:
        texts = (pair.first["response"], pair.second["response"])
        # two equal texts are a tie without a request
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
    pairs: Sequence[_Pair], template: PairwiseTemplate, found: dict[ComparisonKey, Completion], seed: int
) -> dict[str, tuple[Verdict, Verdict]]:
    """For each pair the *place* that won in each order (1: shown first), as alpaca-eval's parsers read it."""
    # alpaca-eval would merge repeated instructions, so it gets the pair's id instead of the text
    prompts = [
        PromptPair(pair.id, None, pair.first["response"], pair.second["response"])
        for pair in pairs
        if (pair.id, MODEL_FIRST) in found
    ]
    preferences: dict[ComparisonKey, float] = {}
    for order in (REFERENCE_FIRST, MODEL_FIRST):
        preferences |= parse_replies(template, prompts, found, order, seed)
    # pairs of equal texts stay at (0, 0): a tie in both orders
    places: dict[str, tuple[Verdict, Verdict]] = {pair.id: (0, 0) for pair in pairs}
    for prompt in prompts:
        in_order = preferences.get((prompt.instruction, REFERENCE_FIRST))
        swapped = preferences.get((prompt.instruction, MODEL_FIRST))
        places[prompt.instruction] = (_place(in_order, 1), _place(swapped, -1))
    return places


def _place(preference: float | None, direction: int) -> Verdict:
    """A preference for the pair's first (below 1.5) or second reply, as the place where it was shown."""
    if preference is None:
        return None
    return {0: 0, -1: _FIRST, 1: _SECOND}[direction * sign(preference)]


def _row(
    pair: _Pair, places: tuple[Verdict, Verdict], found: dict[ComparisonKey, Completion]
) -> dict[str, Any]:
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
    # the other place, because the replies were swapped; the same place twice is the judge's habit
    return in_order if in_order and in_order == 3 - swapped else 0


def _status(completion: Completion | None, place: Verdict) -> str:
    if completion is None:
        return "same_text"
    if completion.finish_reason == "error":
        return "engine_error"
    return "no_verdict" if place is None else "ok"
