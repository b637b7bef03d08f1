"""The funnels of a run, counted from its rows, beside the paper's: from seed replies to EFT rows, from prompts to pairs.

Rows are counted rather than the builders' notes, so that imported datasets are covered too. Only the reason why a
prompt gave no pair is not in any row: it is read from the accounting of `pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfreward.notes import JsonObject
from selfreward.summary.paper import paper_count
from selfreward.tables import DatasetName

if TYPE_CHECKING:
    import pyarrow as pa

# Kind of dataset (`pairs`) -> its rows in one iteration; missing datasets are absent.
Tables = Mapping[str, "pa.Table"]

# The columns read from each dataset of an iteration: all others stay on disk.
COLUMNS = {
    "prompts": ["kept", "reason"],
    "candidates": ["candidate_id", "prompt_id", "finish_reason", "n_chars", "response"],
    "judgements": ["status", "score"],
    "scores": ["candidate_id", "score"],
    "pairs": ["chosen", "rejected"],
    "meta_judgements": ["candidate_id", "first_id", "second_id", "winner", "status"],
    "judge_pairs": ["chosen_score"],
}
EFT_COLUMNS = ["split", "accepted", "reason"]
ITERATION_STEPS = (
    "prompts generated", "prompts kept", "candidates", "candidates whole", "judgements", "judgements scored",
    "candidates scored", "prompts comparable", "prompts not tied", "pairs",
)  # fmt: skip
# Of meta-rewarding, where a run has it.
META_STEPS = (
    "answers compared", "comparisons", "comparisons with a winner", "same winner in both orders", "judge pairs",
)  # fmt: skip
# Reasons of `pairs` for a prompt without comparable answers.
_TOO_FEW = ("all_truncated", "all_unscored", "fewer_than_two_eligible")


@dataclass(frozen=True)
class FunnelStep:
    """One line: how many are left, and how many were lost in this step, by reason."""

    what: str
    n: int | None
    """None if the run has no such dataset."""
    lost: dict[str, int] = field(default_factory=dict)
    paper: int | None = None
    dataset: str = ""
    """What was counted: `iter1/pairs`."""
    share: float | None = None
    """Share of the initial prompts, candidates or judgements."""

    def described(self) -> JsonObject:
        """For the JSON of `audit`."""
        name = self.what.replace(" ", "_")
        return {"step": name, "n": self.n, "share": self.share, "paper": self.paper, "lost": self.lost}


def eft_funnel(eft: pa.Table, n_in: int, dropped: dict[str, int]) -> tuple[FunnelStep, ...]:
    """From the seeds' replies to the judge's training and eval rows."""
    import pyarrow.compute as pc

    train = eft.filter(pc.equal(eft["split"], "train"))
    accepted = sum(train["accepted"].to_pylist())
    return (
        FunnelStep("seed replies", n_in, dataset="eft"),
        FunnelStep("EFT replies", len(eft), dropped, dataset="eft"),
        FunnelStep("EFT rows, train", accepted, counted(train, "reason"),
                   paper_count("eft rows, train", "M1"), "eft"),
        FunnelStep("EFT rows, eval", len(eft) - len(train), {},
                   paper_count("eft rows, eval", "M1"), "eft"),
    )  # fmt: skip


def iteration_funnel(
    tables: Tables, number: int, no_pair: Mapping[str, int], no_judge_pair: Mapping[str, int]
) -> tuple[FunnelStep, ...]:
    """The ten steps of one iteration, and those of meta-rewarding if it has them.

    `no_pair` counts the prompts without a pair, `no_judge_pair` the compared answers without one, by reason.
    """
    found: dict[str, FunnelStep] = {}

    def step(kind: str, what: str, n: int, lost: dict[str, int], of: str, paper: int | None = None) -> None:
        base = n if of == what else found[of].n if of in found else None
        found[what] = FunnelStep(
            what, n, lost, paper, str(DatasetName(kind, number)), round(n / base, 3) if base else None
        )

    if "prompts" in tables:
        prompts = tables["prompts"]
        step("prompts", "prompts generated", len(prompts), {}, "prompts generated")
        kept = sum(prompts["kept"].to_pylist())
        step("prompts", "prompts kept", kept, counted(prompts, "reason"), "prompts generated")
    if "candidates" in tables:
        ended = counted(tables["candidates"], "finish_reason")
        lost = {"truncated": ended.get("length", 0), "failed": ended.get("error", 0)}
        step("candidates", "candidates", len(tables["candidates"]), {}, "candidates")
        step("candidates", "candidates whole", ended.get("stop", 0), lost, "candidates")
    if "judgements" in tables:
        statuses = counted(tables["judgements"], "status")
        step("judgements", "judgements", len(tables["judgements"]), {}, "judgements")
        step("judgements", "judgements scored", statuses.pop("ok", 0), statuses, "judgements")
    if "scores" in tables:
        unscored = tables["scores"]["score"].null_count
        n_scored = len(tables["scores"]) - unscored
        step("scores", "candidates scored", n_scored, {"unscored": unscored}, "candidates")
    if {"prompts", "candidates", "scores"} <= tables.keys():
        n_comparable, n_differing = _comparable(tables["candidates"], tables["scores"])
        too_few = {reason: no_pair[reason] for reason in _TOO_FEW if reason in no_pair}
        # Reasons of imported pairs, or of pairs from earlier scores, do not add up to today's scores.
        if sum(too_few.values()) != kept - n_comparable:
            too_few = {_TOO_FEW[-1]: kept - n_comparable}
        step("scores", "prompts comparable", n_comparable, too_few, "prompts kept")
        tied = {"tied": n_comparable - n_differing}
        step("scores", "prompts not tied", n_differing, tied, "prompts kept")
    if "pairs" in tables:
        lost = {reason: n for reason, n in no_pair.items() if reason not in (*_TOO_FEW, "tied")}
        paper = paper_count("pairs", f"M{number + 1}")
        step("pairs", "pairs", len(tables["pairs"]), lost, "prompts kept", paper)
    if "meta_judgements" in tables:
        _meta_steps(tables["meta_judgements"], step)
    if "judge_pairs" in tables:
        step(
            "judge_pairs", "judge pairs", len(tables["judge_pairs"]), dict(no_judge_pair), "answers compared"
        )
    plain = tuple(found.get(what, FunnelStep(what, None)) for what in ITERATION_STEPS)
    return plain + tuple(found[what] for what in META_STEPS if what in found)


def _meta_steps(comparisons: pa.Table, step: Callable[..., None]) -> None:
    """From answers to pairs of judgements that win in both orders."""
    kind = "meta_judgements"
    step(kind, "answers compared", len(comparisons["candidate_id"].unique()), {}, "answers compared")
    step(kind, "comparisons", len(comparisons), {}, "comparisons")
    statuses = counted(comparisons, "status")
    step(kind, "comparisons with a winner", statuses.pop("ok", 0), statuses, "comparisons")
    # Judgement ids in the order shown -> the id that won, empty for a tie.
    won = {
        (row["first_id"], row["second_id"]): {"first": row["first_id"], "second": row["second_id"]}.get(
            row["winner"], ""
        )
        for row in comparisons.to_pylist()
        if row["winner"]
    }
    both = [(winner, won[second, first]) for (first, second), winner in won.items() if (second, first) in won]
    same = sum(bool(one) and one == other for one, other in both) // 2
    # Each pair of judgements is in `both` twice, once from either order.
    step(kind, "same winner in both orders", same, {"order_decides_or_tie": len(both) // 2 - same}, "")


def counted(table: pa.Table | None, column: str) -> dict[Any, int]:
    """Value -> rows, most frequent first; NULL is not counted; an absent table gives nothing."""
    pairs = table[column].drop_null().value_counts().to_pylist() if table is not None else []
    return {p["values"]: p["counts"] for p in sorted(pairs, key=lambda pair: -pair["counts"])}


def _comparable(candidates: pa.Table, scores: pa.Table) -> tuple[int, int]:
    """Prompts with two whole, scored answers or more, and those of them whose answers' scores differ."""
    import pyarrow.compute as pc

    # As in `pairs`: a truncated or blank answer has a score, but is not compared.
    blank = pc.match_substring_regex(candidates["response"], r"^\p{Zs}*$")
    whole = pc.and_(pc.equal(candidates["finish_reason"], "stop"), pc.invert(blank))
    answers = candidates.filter(whole).select(["candidate_id", "prompt_id"])
    scored = answers.join(scores.filter(pc.is_valid(scores["score"])), "candidate_id", join_type="inner")
    prompts = scored.group_by("prompt_id").aggregate([("score", "count"), ("score", "min"), ("score", "max")])
    several = prompts.filter(pc.greater(prompts["score_count"], 1))
    return len(several), len(several.filter(pc.not_equal(several["score_min"], several["score_max"])))


def format_funnel(steps: Sequence[FunnelStep], outdated: Mapping[str, str]) -> str:
    """The funnel for a terminal; absent steps and zero losses are left out, outdated ones are marked."""
    lines = []
    wide = max([20, *(len(step.what) + 1 for step in steps if step.n is not None)])
    for step in steps:
        lost = ", ".join(f"{reason} {n}" for reason, n in sorted(step.lost.items(), key=lambda e: -e[1]) if n)
        line = f"  {step.what:<{wide}}{step.n or 0:>8,}" + f"   lost: {lost}" * bool(lost)
        line += f"   (paper: {step.paper:,})" if step.paper else ""
        line += "   OUTDATED" * (step.dataset in outdated)
        lines += [line] if step.n is not None else []
    return "\n".join(lines)
