"""The flow of a run as lines of boxes: rows in each box, losses on the arrow to it, each box a link to its section.

It is HTML that wraps, so that a phone shows it downwards without scrolling; the template draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfreward.page.figures import Source
from selfreward.summary.funnel import FunnelStep

_MAX_REASONS = 3


@dataclass(frozen=True)
class Box:
    """One dataset or model; `lost` is on the arrow to it."""

    name: str
    said: str
    target: str
    lost: Sequence[str] = ()
    outdated: bool = False


Line = tuple[str, Sequence[Box]]


def flow(source: Source, targets: Mapping[str, str]) -> list[Line]:
    """Seeds to M1, then each iteration from prompts to the model that its pairs train; `targets` by kind of dataset."""
    summary = source.summary

    def box(name: str, lost: Mapping[str, int] | None = None) -> Box:
        version, kind = summary.versions.get(name), name.rpartition("/")[2]
        said = (
            "DAMAGED"
            if name in summary.damaged
            else "not made"
            if version is None
            else f"{version.n_rows:,} rows"
        )
        dropped = lost if lost is not None else version.manifest["counts"]["dropped"] if version else {}
        outdated = name in summary.outdated
        said += " OUTDATED" * outdated
        return Box(
            kind, said, targets.get(kind, "training"), _losses(dropped), outdated or name in summary.damaged
        )

    lines: list[Line] = []
    # SFT exists only if the judgements to imitate were sampled from it.
    first = "SFT" if "SFT" in summary.versions else "M1"
    if {"seeds", "ift", "eft", first} & summary.versions.keys():
        trained = [box(first)] * (first in summary.versions)
        from_answers = [box(first, {})] * (first in summary.versions)
        lines.append(("answers to imitate", [box("seeds"), box("ift"), *from_answers]))
        lines.append(("judgements to imitate", [box("seeds"), box("eft"), *trained]))
    for iteration in summary.iterations:
        steps = {step.what: step for step in iteration.funnel}
        number, next_model = iteration.number, f"M{iteration.number + 1}"
        made_of = [
            box(f"iter{number}/prompts"),
            box(f"iter{number}/candidates", _lost(steps, "prompts kept")),
            box(f"iter{number}/judgements", _lost(steps, "candidates whole")),
            box(f"iter{number}/scores", _lost(steps, "judgements scored")),
            box(f"iter{number}/pairs", _lost(steps, "prompts comparable", "prompts not tied", "pairs")),
        ]
        # Meta-rewarding trains the same model on pairs of judgements.
        for kind, lost in (("meta_judgements", "comparisons with a winner"), ("judge_pairs", "judge pairs")):
            if f"iter{number}/{kind}" in summary.versions:
                made_of.append(box(f"iter{number}/{kind}", _lost(steps, lost)))
        made_of += [box(next_model)] * (next_model in summary.versions)
        lines.append((f"iteration {number}", made_of))
    return lines


def _lost(steps: Mapping[str, FunnelStep], *names: str) -> dict[str, int]:
    return {reason: n for name in names if name in steps for reason, n in steps[name].lost.items()}


def _losses(lost: Mapping[str, int]) -> list[str]:
    """The largest losses by reason, the others as one sum."""
    sorted_ = sorted(((n, reason) for reason, n in lost.items() if n), reverse=True)
    told = [f"−{n:,} {reason.replace('_', ' ')}" for n, reason in sorted_[:_MAX_REASONS]]
    more = sum(n for n, _ in sorted_[_MAX_REASONS:])
    return [*told, f"−{more:,} for other reasons"] if more else told
