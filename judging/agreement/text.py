"""An agreement measurement as a table for the terminal, every figure with its interval or its n.

The paper's M1 is shown for orientation, not as a target: a 70 B judge after IFT and EFT, measured on its own
held-out prompts (table 4).
"""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

from selfreward.statistics import Figure
from selfreward.summary.paper import paper_value

if TYPE_CHECKING:
    from selfreward.judging.agreement.agreement import Agreement, Coverage, Measures
    from selfreward.statistics import SelfConsistency

_LABELS = {
    "pairwise_ties_left_out": "pairwise, ties left out, %",
    "pairwise_ties_half": "pairwise, ties half, %",
    "pairwise_ties_wrong": "pairwise, ties wrong, %",
    "five_best": "5-best, %",
    "exact_match": "exact match, %",
    "spearman": "Spearman",
    "kendall_tau": "Kendall tau-b",
    "spearman_defined": "Spearman, defined only",
    "kendall_tau_defined": "Kendall tau-b, defined only",
}


def format_agreement(agreement: Agreement) -> str:
    """The table and its notes, lines of at most 120 characters (with n below 10,000), without a trailing newline."""
    parts = [_coverage(agreement.counts), _table(agreement), _notes(agreement)]
    return "\n\n".join(parts)


def _coverage(counts: Coverage) -> str:
    ordered = counts.n_pairs - counts.n_pairs_human_tied
    both = ordered - counts.n_pairs_unscored
    left_out = (
        f"{counts.n_prompts_one_response} with one response, {counts.n_prompts_human_tied} tied by people"
    )
    return "\n".join(
        [
            f"responses  {counts.n_rows}, scored {_of(counts.n_scored, counts.n_rows)}, unscored {counts.n_unscored}",
            f"prompts    {counts.n_prompts}, measured {counts.n_prompts_measured} ({left_out}); "
            f"fully scored {_of(counts.n_prompts_fully_scored, counts.n_prompts_measured)}",
            f"pairs      {counts.n_pairs}, tied by people {counts.n_pairs_human_tied}, ordered {ordered}; "
            f"both sides scored {_of(both, ordered)}:",
            f"           right {counts.n_pairs_right}, tied {counts.n_pairs_score_tied}, "
            f"wrong {counts.n_pairs_wrong}, unscored {counts.n_pairs_unscored}",
        ]
    )


def _of(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else f"{part}"


def _table(agreement: Agreement) -> str:
    lines = [
        ["measure (n)", "judge,", "judge,", "longest,", "longest,", "", "paper"],
        ["", "scored only", "all", "scored", "all", "random", "M1"],
    ]
    others = [
        agreement.judge_unscored_wrong,
        agreement.longest_where_scored,
        agreement.longest,
        agreement.random,
    ]
    for name, label in _LABELS.items():
        scale = 100 if label.endswith("%") else 1
        paper = paper_value("judge", name, "M1")
        figures = [
            _with_interval(getattr(agreement.judge, name), scale),
            *(_short(other, name, scale) for other in others),
        ]
        lines.append([label, *figures, "" if paper is None else _number(paper / scale, scale)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: list[str], widths: list[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join([line[0].ljust(widths[0]), *cells]).rstrip()


def _short(measures: Measures | None, name: str, scale: int) -> str:
    if measures is None:
        return "–"
    figure: Figure = getattr(measures, name)
    return f"{_number(figure.value, scale)} ({figure.n})"


def _with_interval(figure: Figure, scale: int) -> str:
    return f"{figure.shown(scale, 1 if scale == 100 else 3)} ({figure.n})"


def _number(value: float | None, scale: int) -> str:
    if value is None:
        return "–"
    # z: a correlation of -0.0 is printed as 0.0.
    return f"{scale * value:z.1f}" if scale == 100 else f"{value:z.3f}"


def _notes(agreement: Agreement) -> str:
    judge = agreement.judge
    lines = [
        f"[low, high]: 95 % interval, {agreement.n_bootstrap} bootstrap resamples of prompts, seed {agreement.seed}."
        if agreement.n_bootstrap
        else "No intervals: no bootstrap was asked for.",
        f"Correlations are means over prompts; undefined, all scores tied: {judge.spearman.n_undefined} of "
        f"{judge.spearman.n} prompts, counted 0 (the last two rows leave them out).",
        f"5-best: {judge.five_best.n} responses were given a perfect {agreement.perfect_score:g}.",
        "All: a pair with an unscored side fails, a prompt with an unscored response fails and its correlation is 0. "
        "Scored only: such pairs, and for exact match such prompts, are left out.",
        "Paper M1: a 70 B judge on other prompts; the policy for ties is not stated there (left out fits its figures).",
    ]
    if agreement.n_above_perfect:
        lines.append(
            f"{agreement.n_above_perfect} scores are above {agreement.perfect_score:g}: is that the scale?"
        )
    if agreement.similar_length and agreement.similar_length.value is not None:
        lines.append(
            "Pairs whose lengths differ by a tenth at most, ties half, %: "
            f"{_with_interval(agreement.similar_length, 100)}."
        )
    if agreement.score_length and agreement.score_length_within:
        lines.append(
            f"Score and length, Spearman: {_with_interval(agreement.score_length, 1)} over all scored responses, "
            f"{_with_interval(agreement.score_length_within, 1)} within prompts."
        )
    else:
        lines.append("Length: no `n_chars` or `response` column, so neither baseline nor correlation.")
    lines += _samples(agreement.self_consistency)
    return "\n".join(fill(line, 118, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def _samples(consistency: SelfConsistency | None) -> list[str]:
    if consistency is None:
        return ["Self-consistency: no `scores` column with the single samples."]
    if not consistency.n_responses:
        return ["Self-consistency: no response has two scored samples."]
    return [
        f"Self-consistency over {consistency.n_responses} responses with two scored samples or more "
        f"({consistency.n_left_out} have fewer; {consistency.n_unscored_samples} of {consistency.n_samples} samples "
        f"unscored): all samples agree, % {_with_interval(consistency.all_agree, 100)}; variance within a response "
        f"{_with_interval(consistency.variance, 1)}; Krippendorff's alpha, interval, "
        f"{_with_interval(consistency.alpha, 1)}."
    ]
