"""AlpacaEval's verdicts and figures as tables of a run: `alpaca_annotations` and `evaluation_figures`.

A table of its own beside the iterations' `annotations`: here prompts without a verdict are rows too, and length control
has a column.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfreward.evaluation.alpaca.result import AlpacaResult
from selfreward.evaluation.ask.answers import prompts_sha256
from selfreward.evaluation.ask.results import Evaluation, Tables

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


def alpaca_tables(result: AlpacaResult) -> Tables:
    """The rows and figures of one model before one judge; the same evaluation again replaces them."""
    n = result.n_annotated
    evaluation = Evaluation(
        measure="alpaca",
        model=result.model,
        against=result.reference,
        judge=result.annotator,
        prompts=f"{result.n_total} prompts with reference answers",
        n_prompts=result.n_total,
        settings={"prompts": prompts_sha256(row.instruction for row in result.prompts)},
    )
    rows = [
        AlpacaAnnotation(
            evaluation_id="",
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
            order=row.order,
            disagree=row.disagree,
        )
        for row in result.prompts
    ]
    interval = {"low": result.win_rate_ci_low, "high": result.win_rate_ci_high}
    figure = evaluation.figure
    figures = [
        figure("win_rate", result.win_rate, n=n, of="prompts", **interval),
        figure("length_controlled_winrate", result.length_controlled_winrate, n=n, of="prompts"),
        figure("discrete_win_rate", result.discrete_win_rate, n=n, of="prompts"),
        figure("avg_length", result.avg_length, n=result.n_total, of="prompts", unit="characters"),
        figure("n_annotated", n, n=result.n_total, of="prompts", unit="count"),
    ]
    return Tables(evaluation, figures, {ANNOTATIONS: rows})
