"""The report of `selfreward evaluate judge`: each judge's measures, and judges and templates side by side."""

from __future__ import annotations

from collections.abc import Sequence

from selfreward.evaluation.judges.pairwise import PairwiseRun
from selfreward.evaluation.judges.run import JudgedRows, JudgeRun
from selfreward.evaluation.pairwise.result import percent
from selfreward.judging.agreement.agreement import format_agreement
from selfreward.judging.parsing.verdicts import AnnotatorAgreement, VerdictAgreement
from selfreward.statistics import Figure
from selfreward.text import format_table


def format_judge_run(run: JudgeRun) -> str:
    """One judge with one template: coverage, the measures, verdicts on pairs, the annotators' own agreement."""
    judged = run.judged
    head = f"template {judged.how.name}, judge {judged.judge}; judgements: {_statuses(judged)}"
    pairs = [f"\n{format_verdicts(run.pairs)}"] if run.pairs else []
    return "\n".join(
        [
            f"{head}; {judged.n_tokens:,} tokens written",
            format_agreement(run.agreement),
            *pairs,
            *_people(judged),
            f"scored rows: {judged.path}",
        ]
    )


def format_pairwise_run(run: PairwiseRun) -> str:
    """A pairwise judge: verdicts against humans, and how often the order of the replies changed them."""
    flips, judged = run.flips, run.judged
    return "\n".join(
        [
            f"pairwise judge {judged.judge}, both orders; judgements: {_statuses(judged)}",
            format_verdicts(run.verdicts),
            f"\nposition: {percent(flips.flipped)} of the verdicts change when the two replies are swapped",
            f"  the one shown first wins twice   {percent(flips.first_twice)}",
            f"  the one shown second wins twice  {percent(flips.second_twice)}",
            f"  a tie in one of the orders       {percent(flips.tie_once)}",
            *_people(judged),
            f"rows: {judged.path}",
        ]
    )


def _statuses(judged: JudgedRows) -> str:
    return ", ".join(f"{status} {n}" for status, n in judged.by_status.items())


def _people(judged: JudgedRows) -> list[str]:
    people = judged.replies.annotators
    return [f"\n{format_annotators(people)}"] if people else []


def format_verdicts(verdicts: VerdictAgreement) -> str:
    """Shares of pairs, and the table of human verdicts by the judge's."""
    table = [
        (people, *(row[name] for name in ("tie", "first", "second", "unscored")))
        for people, row in verdicts.confusion.items()
    ]
    return "\n".join(
        [
            f"verdicts on {verdicts.n_pairs} pairs, {verdicts.n_unscored} without one",
            f"  as humans, ties included         {percent(verdicts.accuracy)}",
            f"  the same, unscored are wrong     {percent(verdicts.accuracy_unscored_wrong)}",
            f"  where both name a winner         {percent(verdicts.accuracy_no_ties)}",
            f"  always the commonest verdict     {percent(verdicts.commonest)}",
            format_table(("people \\ judge", "tie", "first", "second", "unscored"), table),
        ]
    )


def format_annotators(annotators: AnnotatorAgreement) -> str:
    """The annotators' agreement with each other: the ceiling for a judge."""
    return "\n".join(
        [
            f"the {annotators.n_annotators} annotators with each other ({annotators.n_pairs} pairs; "
            f"{annotators.n_no_majority} without a majority, taken as ties)",
            f"  one against the others' majority {percent(annotators.leave_one_out)}",
            f"  the same, split others left out  {percent(annotators.leave_one_out_decided)}",
            f"  any two of them                  {percent(annotators.pairwise)}",
            f"  all of them                      {percent(annotators.unanimous)}",
            f"  Krippendorff's alpha, nominal    {_shown(annotators.alpha)}",
        ]
    )


def format_comparison(runs: Sequence[JudgeRun]) -> str:
    """Judges and templates in rows, over the same replies; the 95 % interval is in brackets."""
    rows = []
    for run in runs:
        counts, judge = run.agreement.counts, run.agreement.judge
        rows.append(
            (
                run.judged.judge,
                run.judged.how.name,
                f"{counts.n_scored} of {counts.n_rows}",
                f"{counts.n_pairs_score_tied} of {counts.n_pairs - counts.n_pairs_human_tied}",
                _shown(judge.pairwise_ties_half, 100, 1),
                _shown(run.agreement.judge_unscored_wrong.pairwise_ties_half, 100, 1),
                _shown(judge.exact_match, 100, 1),
                _shown(judge.spearman),
                run.judged.n_tokens,
            )
        )
    head = ("judge", "template", "scored", "pairs tied", "agreement with humans %", "unscored wrong %",
            "exact %", "Spearman", "tokens")  # fmt: skip
    note = "Agreement with humans on pairs: ties half, both sides scored; then all pairs, one with an unscored side being wrong."
    return f"{format_table(head, rows)}\n{note}"


def _shown(figure: Figure, scale: int = 1, digits: int = 2) -> str:
    if figure.value is None:
        return "-"
    value, *ends = (
        # `z`: no "-0.00"
        f"{scale * number:z.{digits}f}"
        for number in (figure.value, figure.low, figure.high)
        if number is not None
    )
    return f"{value} [{', '.join(ends)}]" if ends else value
