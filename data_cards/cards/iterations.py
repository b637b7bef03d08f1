"""One iteration as a card shows it, from the columns of its datasets.

Counted from rows rather than read from the builders' notes, so that rows which a user imported say as much as those a
builder made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from selfreward.funnel import FunnelStep
from selfreward.store.version import Version

Column = list[Any]


@dataclass(frozen=True)
class Lengths:
    """Characters of the answers of one iteration."""

    candidates: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longer_chosen(self) -> float | None:
        """The share of pairs whose chosen answer is the longer one; a judge that likes length shows here."""
        pairs = list(zip(self.chosen, self.rejected, strict=True))
        return sum(c > r for c, r in pairs) / len(pairs) if pairs else None


@dataclass(frozen=True)
class IterationFacts:
    """One iteration, as far as it is published."""

    number: int
    funnel: list[FunnelStep]
    statuses: dict[str, int]
    """Judgements by status; only `ok` has a score."""
    histogram: list[tuple[float, int]]
    """Score of one judgement -> how many gave it."""
    scores: list[float]
    """Mean score of each scored candidate."""
    lengths: Lengths
    sample: dict[str, str] | None
    """Texts of the first pair and one judgement of its chosen answer."""


def iteration_facts(versions: Mapping[str, Version], number: int) -> IterationFacts:
    """The facts of iteration `number`; what it does not have is empty."""
    mine = {name.partition("/")[2]: v for name, v in versions.items() if name.startswith(f"iter{number}/")}
    statuses = dict(Counter(_column(mine, "judgements", "status")))
    single = [score for score in _column(mine, "judgements", "score") if score is not None]
    return IterationFacts(
        number=number,
        funnel=_funnel(mine, statuses),
        statuses=statuses,
        histogram=sorted(Counter(single).items()),
        scores=[score for score in _column(mine, "scores", "score") if score is not None],
        lengths=Lengths(
            candidates=_column(mine, "candidates", "n_chars"),
            chosen=[_n_chars(messages) for messages in _column(mine, "pairs", "chosen")],
            rejected=[_n_chars(messages) for messages in _column(mine, "pairs", "rejected")],
        ),
        sample=_sample(mine),
    )


def _column(versions: Mapping[str, Version], kind: str, column: str) -> Column:
    if kind not in versions:
        return []
    values: Column = versions[kind].table([column])[column].to_pylist()
    return values


def _funnel(versions: Mapping[str, Version], statuses: Mapping[str, int]) -> list[FunnelStep]:
    steps = []
    if "prompts" in versions:
        kept = _column(versions, "prompts", "kept")
        reasons = Counter(reason for reason in _column(versions, "prompts", "reason") if reason)
        steps.append(FunnelStep("prompts generated", len(kept), {}))
        steps.append(FunnelStep("prompts kept", sum(kept), dict(reasons)))
    if "candidates" in versions:
        ended = Counter(_column(versions, "candidates", "finish_reason"))
        cut = {"truncated": ended["length"], "failed": ended["error"]}
        steps.append(FunnelStep("candidates", sum(ended.values()), cut))
    if "judgements" in versions:
        unscored = {status: n for status, n in statuses.items() if status != "ok"}
        steps.append(FunnelStep("judgements scored", statuses.get("ok", 0), unscored))
    if "scores" in versions:
        scores = _column(versions, "scores", "score")
        missing = sum(score is None for score in scores)
        steps.append(FunnelStep("candidates scored", len(scores) - missing, {"unscored": missing}))
    if "pairs" in versions:
        counts = versions["pairs"].manifest["counts"]
        steps.append(FunnelStep("pairs", counts["out"], counts["dropped"]))
    return steps


def _n_chars(messages: list[dict[str, str]]) -> int:
    return sum(len(message["content"]) for message in messages)


def _sample(versions: Mapping[str, Version]) -> dict[str, str] | None:
    if "pairs" not in versions or versions["pairs"].n_rows == 0:
        return None
    pair = versions["pairs"].table().slice(0, 1).to_pylist()[0]
    sample = {role: pair[role][-1]["content"] for role in ("prompt", "chosen", "rejected") if pair[role]}
    sample |= {name: f"{pair[name]:.3g}" for name in ("chosen_score", "rejected_score")}
    judged = _column(versions, "judgements", "candidate_id")
    if pair["chosen_id"] in judged:
        sample["judgement"] = _column(versions, "judgements", "judgement")[judged.index(pair["chosen_id"])]
    return sample
