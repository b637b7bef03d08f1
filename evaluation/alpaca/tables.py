"""AlpacaEval's verdicts and figures as tables of a run: `alpaca_annotations` and `evaluation_figures`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.evaluation.alpaca.result import AlpacaResult
from selfreward.evaluation.ask.files import read_rows
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish
from selfreward.store.run import Run
from selfreward.store.sealed import digest

ANNOTATIONS = "alpaca_annotations"


@dataclass(frozen=True, slots=True)
class AlpacaAnnotation:
    """One prompt of one evaluation: both lengths and the verdict. Prompts without a verdict are rows too."""

    evaluation_id: str
    instruction: str
    dataset: str | None
    """Which of AlpacaEval's five sources the prompt is from."""
    model: str
    reference: str | None
    annotator: str | None
    n_chars: int | None
    """Of the model's answer; NULL where it is missing."""
    n_chars_reference: int
    preference: float | None
    """In [1, 2]: 2 the model is better."""
    status: str
    """`ok`, `missing_output`, `not_annotated`, or why the verdict has no preference."""
    glm_preference: float | None
    """In [0, 1]: predicted at equal length; NULL without length control."""
    order: str | None
    disagree: bool | None


def publish_alpaca(run: Run, result: AlpacaResult, annotations: Path) -> Evaluation:
    """Put a result into the run; the same evaluation again replaces its rows."""
    by_instruction = {row["instruction"]: row for row in read_rows(annotations)}
    evaluation = Evaluation(
        measure="alpaca",
        model=result.model,
        against=result.reference,
        judge=result.annotator,
        prompts=f"{result.n_total} prompts with reference answers",
        n_prompts=result.n_total,
        settings={"prompts": digest(sorted(row.instruction for row in result.prompts))},
    )
    rows = [
        AlpacaAnnotation(
            evaluation_id=evaluation.id,
            instruction=row.instruction,
            dataset=row.dataset,
            model=result.model,
            reference=result.reference,
            annotator=result.annotator,
            n_chars=row.output_length,
            n_chars_reference=row.reference_length,
            preference=row.preference,
            status=row.status,
            glm_preference=row.glm_preference,
            order=_order(by_instruction.get(row.instruction)),
            disagree=_disagree(by_instruction.get(row.instruction)),
        )
        for row in result.prompts
    ]
    publish(
        run,
        evaluation,
        {ANNOTATIONS: (rows, AlpacaAnnotation), FIGURES: (_figures(evaluation, result), EvaluationFigure)},
    )
    return evaluation


def _figures(evaluation: Evaluation, result: AlpacaResult) -> list[EvaluationFigure]:
    n = result.n_annotated
    return [
        evaluation.figure(
            "win_rate",
            result.win_rate,
            low=result.win_rate_ci_low,
            high=result.win_rate_ci_high,
            n=n,
            of="prompts",
        ),
        evaluation.figure("length_controlled_winrate", result.length_controlled_winrate, n=n, of="prompts"),
        evaluation.figure("discrete_win_rate", result.discrete_win_rate, n=n, of="prompts"),
        evaluation.figure("avg_length", result.avg_length, n=result.n_total, of="prompts", unit="characters"),
        evaluation.figure("n_annotated", n, n=result.n_total, of="prompts", unit="count"),
    ]


def _order(row: Any) -> str | None:
    order = row.get("order") if row else None
    return order if isinstance(order, str) else None


def _disagree(row: Any) -> bool | None:
    turned = row.get("disagree") if row else None
    return turned if isinstance(turned, bool) else None
