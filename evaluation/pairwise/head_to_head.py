"""`evaluate head-to-head`: two models on the same prompts before one judge, both orders, as in the paper: win, tie, loss.

    result = measure(HeadToHead(a="M2", b="M1", judge="openai:…", run=run_folder, out=Path("h2h")))

An answer that wins in both orders wins; every other pair of verdicts is a tie. A prompt without both answers or a
readable verdict is counted by reason and left out of the shares. Intervals are 95 % bootstrap intervals over *all*
prompts: such a prompt counts against a share at the low end and for it at the high end.

The share of prompts where the order decided is shown too: such a judge says little about answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pydantic.dataclasses import dataclass

from selfreward.engines.base import Sampling
from selfreward.errors import InputError
from selfreward.evaluation.alpaca.annotators import PairwiseTemplate, load_annotator
from selfreward.evaluation.alpaca.judge import annotator_name, judge_pairs, plan_annotations
from selfreward.evaluation.ask.answers import (
    EFT_EVAL_SPLIT,
    ModelAccess,
    greedy,
    output_rows,
    prompts_sha256,
    restrict,
)
from selfreward.evaluation.ask.files import Answers
from selfreward.evaluation.ask.requests import CachedGeneration
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import (
    DEFAULT_ANNOTATOR,
    Annotator,
    Judge,
    ModelName,
    NMax,
    Out,
    PromptsFile,
    ResultT,
    RowsT,
    Temperature,
    WithAnswers,
    WithJudge,
)
from selfreward.evaluation.pairwise.result import HeadToHeadResult, HeadToHeadRow, sign, summarise, verdict_of
from selfreward.tables import row_id
from selfreward.text import shorten

TABLE = "head_to_head"


@dataclass(frozen=True, kw_only=True)
class Compared(WithAnswers[RowsT, ResultT], WithJudge[RowsT, ResultT]):
    """Settings common to all comparisons of models by a judge."""

    judge: Judge
    out: Out
    prompts: PromptsFile | None = None
    annotator: Annotator | None = None
    n_max: NMax | None = None
    temperature: Temperature = 0.0

    @property
    def sampling(self) -> Sampling:
        """Of the answers."""
        return greedy(self.max_tokens, self.temperature)

    def tables_of(self, result: HeadToHeadResult, measure: str) -> Tables:
        """Rows and figures of one comparison."""
        evaluation = Evaluation(
            measure=measure,
            model=result.model_a,
            against=result.model_b,
            judge=result.judge,
            prompts=self.prompts.name if self.prompts else EFT_EVAL_SPLIT,
            n_prompts=result.n_prompts,
            settings={
                "prompts": prompts_sha256(row.prompt for row in result.rows),
                "max_tokens": self.max_tokens,
                "temperature": self.temperature,
            },
        )
        figures = [
            *evaluation.shares(result, "win", "tie", "loss", "order_decided"),
            evaluation.figure("avg_length", result.avg_length_a, unit="characters", part="model"),
            evaluation.figure("avg_length", result.avg_length_b, unit="characters", part="against"),
        ]
        return Tables(evaluation, figures, {TABLE: result.rows})


@dataclass(frozen=True, kw_only=True)
class HeadToHead(Compared[list[HeadToHeadRow], HeadToHeadResult]):
    """Two models, models of a run, or files of answers, on the same prompts."""

    name = "head-to-head"
    a: ModelName
    """A model, M1 of --run, or a file of answers."""
    b: ModelName
    """The model to compare with."""

    def rows(self, ask: ModelAccess) -> list[HeadToHeadRow]:
        """Answer, judge; OUT gets `answers_a.json`, `answers_b.json` and `verdicts.json`."""
        prompts = ask.prompts(self.prompts, self.n_max)
        template = load_annotator(self.annotator or DEFAULT_ANNOTATOR)
        name = annotator_name(template, ask.models.ref(self.judge))
        answers = []
        for side, source in (("a", self.a), ("b", self.b)):
            answers.append(ask.answers(source, prompts, self.sampling))
            ask.write(f"answers_{side}.json", output_rows(answers[-1]))
        with ask.judge(self.judge) as generation:
            rows = compare(answers[0], answers[1], template, generation, name)
        ask.write("verdicts.json", map(asdict, rows))
        return rows

    def figures(self, rows: list[HeadToHeadRow]) -> HeadToHeadResult:
        """Shares and intervals."""
        return summarise(rows)

    def tables(self, result: HeadToHeadResult) -> Iterable[Tables]:
        """`head_to_head`, a row for each prompt."""
        yield self.tables_of(result, TABLE)


def compare(
    a: Answers, b: Answers, template: PairwiseTemplate, generation: CachedGeneration, judge: str | None = None
) -> list[HeadToHeadRow]:
    """Judge b's answers against a's in both orders. Both answer the same prompts; None means no answer.

    `judge` is the judging model's name in rows, None if the template's name suffices.
    """
    # a prompt that only one model answered would count for the other
    if a.outputs.keys() != b.outputs.keys():
        strangers = a.outputs.keys() ^ b.outputs.keys()
        raise InputError(
            f"{a.source} and {b.source} answer different prompts: {len(strangers)} are only in one of them, "
            f"such as {shorten(min(strangers), 60)!r}"
        )
    names = (a.generator or "a", b.generator or "b")
    # two files of one generator: the rows still need two names
    if names[0] == names[1]:
        names = (f"{names[0]} (a)", f"{names[1]} (b)")
    both = [text for text in a.outputs if a.outputs[text] is not None and b.outputs[text] is not None]
    annotations: dict[str, dict[str, Any]] = {}
    if both:
        plan = plan_annotations(restrict(a, both), restrict(b, both), template, judge, both_orders=True)
        found = judge_pairs(generation, plan, f"on {names[0]} and {names[1]}")
        annotations = {row["instruction"]: row for row in found}
    judge_shown = f"{template.name}:{judge}" if judge else template.name
    return [
        _row(prompt, a.outputs[prompt], b.outputs[prompt], annotations.get(prompt), names, judge_shown)
        for prompt in a.outputs
    ]


def _row(
    prompt: str,
    answer_a: str | None,
    answer_b: str | None,
    annotation: dict[str, Any] | None,
    names: tuple[str, str],
    judge: str,
) -> HeadToHeadRow:
    a_first: float | None = annotation["preference_reference_first"] if annotation else None
    b_first: float | None = annotation["preference_model_first"] if annotation else None
    missing = [side for side, text in (("a", answer_a), ("b", answer_b)) if text is None]
    status = annotation["status"] if annotation else f"missing_{'both' if len(missing) == 2 else missing[0]}"
    # `ok` without two preferences: equal answers, a tie without a request
    verdict, order_decided = "tie" if status == "ok" else None, None
    if a_first is not None and b_first is not None:
        verdict, order_decided = verdict_of(a_first, b_first), sign(a_first) * sign(b_first) < 0
    return HeadToHeadRow(
        evaluation_id="",
        comparison_id=row_id("h2h", *names, judge, prompt),
        prompt=prompt,
        model_a=names[0],
        model_b=names[1],
        judge=judge,
        answer_a=answer_a,
        answer_b=answer_b,
        n_chars_a=None if answer_a is None else len(answer_a),
        n_chars_b=None if answer_b is None else len(answer_b),
        verdict=verdict,
        status=status,
        preference_a_first=a_first,
        preference_b_first=b_first,
        order_decided=order_decided,
    )
