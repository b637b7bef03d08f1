"""Trivial answers and a trivial judge for comparison: a win rate that does not beat them says little.

Four baselines follow from files alone: the reference against itself, a judge that only counts characters, the longer
of the two answers before the given judge, and, for the leaderboard's own judge and reference, the published constant
answer. For any other judge, have `constant_outputs` (or `longest_outputs`) judged like a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from selfreward.evaluation.alpaca.leaderboard import PUBLISHED_ANNOTATOR, PUBLISHED_REFERENCE, leaderboard
from selfreward.evaluation.alpaca.result import AlpacaAnnotation, Baseline
from selfreward.evaluation.ask.files import Answers

# one constant answer reached 86.5 length-controlled on AlpacaEval 2 (alpaca_eval#414)
CONSTANT_ANSWER = "I am sorry, but I cannot help with that."
NULL_MODEL = "NullModel"


def baselines(
    table: Sequence[AlpacaAnnotation], annotator: str | None, reference: str | None
) -> tuple[Baseline, ...]:
    """The baselines that need no judging; `win_rate` is None if unknown."""
    return (
        Baseline("reference itself", 50.0, 50.0, "by construction: every verdict a draw"),
        _longest_wins(table),
        _longer_answer(table),
        _constant_answer(annotator, reference),
    )


def constant_outputs(references: Answers, text: str = CONSTANT_ANSWER) -> Answers:
    """One answer to every prompt, to be judged like a model."""
    return Answers(
        "constant answer", "constant_answer", dict.fromkeys(references.outputs, text), references.datasets
    )


def longest_outputs(references: Answers, candidates: Mapping[str, Sequence[str]]) -> Answers:
    """The longest candidate (characters; the first among equals) of each prompt, to be judged like a model."""
    outputs = {
        key: max(candidates[key], key=len) if candidates.get(key) else None for key in references.outputs
    }
    return Answers("longest candidate", "longest_candidate", dict(outputs), references.datasets)


def _longest_wins(table: Sequence[AlpacaAnnotation]) -> Baseline:
    """The model's win rate before a judge that prefers the longer of the two answers, ties half."""
    # the longer answer wins two verdicts in three on some benchmarks
    longer = [row.n_chars - row.n_chars_reference for row in table if row.n_chars is not None]
    won = [1.0 if by > 0 else 0.5 if by == 0 else 0.0 for by in longer]
    basis = f"share of {len(won)} answered prompts where the model's answer is longer than the reference's"
    return Baseline("longest wins", 100 * sum(won) / len(won) if won else None, None, basis)


def _longer_answer(table: Sequence[AlpacaAnnotation]) -> Baseline:
    """The win rate of answering with the longer of the two answers, by this judge's verdicts."""
    # no request is needed: the model's answer has its verdict, the reference against itself is a draw
    won = [
        row.preference - 1 if is_longer and row.preference is not None else 0.5
        for row in table
        for is_longer in [row.n_chars is not None and row.n_chars > row.n_chars_reference]
        if not is_longer or row.preference is not None
    ]
    n_unknown = len(table) - len(won)
    basis = "answers with the longer of model and reference, by this judge's verdicts"
    unknown = f"; {n_unknown} without a verdict left out" if n_unknown else ""
    return Baseline("longer answer", 100 * sum(won) / len(won) if won else None, None, basis + unknown)


def _constant_answer(annotator: str | None, reference: str | None) -> Baseline:
    if (annotator, reference) != (PUBLISHED_ANNOTATOR, PUBLISHED_REFERENCE):
        return Baseline("constant answer", None, None, "not judged by this judge (--judge-constant)")
    board = leaderboard()
    row = board.rows.get(NULL_MODEL)
    if row is None:
        return Baseline(
            "constant answer", None, None, f"{NULL_MODEL} is not on the leaderboard of {board.source}"
        )
    win_rate, controlled = row.get("win_rate"), row.get("length_controlled_winrate")
    return Baseline(
        "constant answer",
        win_rate if isinstance(win_rate, float) else None,
        controlled if isinstance(controlled, float) else None,
        f"published: one adversarial answer to all prompts ({NULL_MODEL}, {board.source}, {board.date})",
    )
