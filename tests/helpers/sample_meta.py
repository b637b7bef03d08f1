"""Meta-rewarding's rows of the sample run: comparisons of judgements and the pairs that follow from them.

Of each kept prompt the first answer whose judgements do not all give one score is compared: every two of its judgements,
in both orders. The meta-judge holds with the majority: a judgement whose score is the more common one beats the other,
whatever its place, and two of one score tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from typing import Literal

from selfreward.judging.meta.ratings import Contest, PositionWeights, ratings
from selfreward.tables import Candidate, Judgement, JudgePair, Message, MetaJudgement, Prompt, row_id


def meta_judgements(
    k: int, kept: list[Prompt], candidates: list[Candidate], judgements: list[Judgement]
) -> list[MetaJudgement]:
    """The comparisons of one iteration: six of each compared answer with three judgements."""
    scored: dict[str, list[Judgement]] = {}
    for row in judgements:
        if row.score is not None:
            scored.setdefault(row.candidate_id, []).append(row)
    varied = [c for c in candidates if len({row.score for row in scored.get(c.candidate_id, [])}) > 1]
    compared = [next((c for c in varied if c.prompt_id == p.prompt_id), None) for p in kept]
    return [row for c in compared if c is not None for row in _comparisons(k, scored[c.candidate_id])]


def _comparisons(k: int, judgements: list[Judgement]) -> Iterator[MetaJudgement]:
    common = Counter(row.score for row in judgements)
    for first, second in permutations(judgements, 2):
        lead = common[first.score] - common[second.score]
        winner: Literal["first", "second", "tie"] = "first" if lead > 0 else "second" if lead else "tie"
        text = f"Both follow the rubric.\nWinner: { {'first': 'A', 'second': 'B', 'tie': 'tie'}[winner] }"
        yield MetaJudgement(row_id("mj", first.judgement_id, second.judgement_id), k, first.prompt_id, first.candidate_id,
                            first.judgement_id, second.judgement_id, f"M{k}", "meta-template", text, winner, "ok",
                            "stop", 8, 0)  # fmt: skip


def judge_pairs(
    k: int,
    kept: list[Prompt],
    candidates: list[Candidate],
    judgements: list[Judgement],
    compared: list[MetaJudgement],
) -> list[JudgePair]:
    """The judgements rated highest and lowest of each compared answer, none where all are rated the same."""
    prompts = {p.prompt_id: p.prompt for p in kept}
    by_id = {row.judgement_id: row for row in judgements}
    pairs = []
    for candidate in candidates:
        rows = [row for row in compared if row.candidate_id == candidate.candidate_id]
        contests = [Contest(row.first_id, row.second_id, row.winner) for row in rows if row.winner]
        rated = ratings(contests, PositionWeights(0.5, 0.5), "wins")
        if len(set(rated.values())) < 2:
            continue
        best, *_, worst = sorted(rated, key=lambda id: (-rated[id], by_id[id].sample))
        shown = (
            f"Judge this.\nUser: {prompts[candidate.prompt_id]}\n<response>{candidate.response}</response>"
        )
        pairs.append(_pair(k, shown, by_id[best], by_id[worst], rated))
    return pairs


def _pair(k: int, shown: str, chosen: Judgement, rejected: Judgement, rated: dict[str, float]) -> JudgePair:
    high, low = rated[chosen.judgement_id], rated[rejected.judgement_id]
    assert chosen.score is not None
    assert rejected.score is not None
    return JudgePair(row_id("jpair", chosen.judgement_id, rejected.judgement_id), k, chosen.prompt_id,
                     chosen.candidate_id, [Message("user", shown)], [Message("assistant", chosen.judgement)],
                     [Message("assistant", rejected.judgement)], chosen.judgement_id, rejected.judgement_id, high, low,
                     high - low, chosen.score, rejected.score, "wins")  # fmt: skip


__all__ = ["judge_pairs", "meta_judgements"]
