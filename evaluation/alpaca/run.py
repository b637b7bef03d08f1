"""`evaluate alpaca`: AlpacaEval from files of answers and verdicts, or with a model and a judge.

OUT holds `reference.json` (the prompts in use), `model_outputs.json` and `annotations.json` in alpaca-eval's formats,
each replaced whole, and `.work/` with every answer and verdict ever asked for there; nothing is written elsewhere.
With `n_max` a fixed draw of the prompts is used, and the result says of how many.

The judge's prompt, choices and parser are those of an annotator configuration, its model is the one given. The row has
the configuration's name if that is its own model, else `configuration:model`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from selfreward.errors import UsageError
from selfreward.evaluation.alpaca.annotators import PairwiseTemplate, load_annotator
from selfreward.evaluation.alpaca.baselines import constant_outputs
from selfreward.evaluation.alpaca.judge import annotator_name, judge_pairs, plan_annotations
from selfreward.evaluation.alpaca.leaderboard import format_beside
from selfreward.evaluation.alpaca.result import AlpacaResult, Baseline
from selfreward.evaluation.alpaca.score import evaluate_files
from selfreward.evaluation.ask.answers import ModelAccess, Prompts, greedy, output_rows, restrict
from selfreward.evaluation.ask.files import Answers, read_answers
from selfreward.evaluation.ask.requests import CachedGeneration
from selfreward.evaluation.ask.results import Tables
from selfreward.evaluation.measure import (
    DEFAULT_ANNOTATOR,
    Annotator,
    File,
    Folder,
    ModelName,
    NMax,
    Temperature,
    WithAnswers,
    WithJudge,
)
from selfreward.statistics import drawn


@plain_dataclass(frozen=True, slots=True)
class AlpacaFiles:
    """The files that are scored: given by the user, or made in OUT."""

    reference: Path
    outputs: Path
    annotations: Path
    constant: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AlpacaEval(WithAnswers[AlpacaFiles, AlpacaResult], WithJudge[AlpacaFiles, AlpacaResult]):
    """Win rate against reference answers, length-controlled, as on the AlpacaEval leaderboard."""

    name = "alpaca"
    reference: File
    """Prompts with reference answers, in AlpacaEval's format (.gz is fine)."""
    outputs: File | None = None
    """A model's answers (model_outputs.json)."""
    model: ModelName | None = None
    """Or a model that answers them now: hf:…, M2"""
    model_name: str | None = None
    """What to call the model on the leaderboard."""
    annotations: File | None = None
    """Existing verdicts; without them --judge is needed."""
    judge: ModelName | None = None
    """The model that compares the answers."""
    annotator: Annotator | None = None
    both_orders: bool = False
    """Judge each pair in both orders."""
    judge_constant: bool = False
    """Have a constant answer judged as well: as many verdicts again."""
    difficulty: File | None = None
    """Instruction difficulties (csv) for length control."""
    gamed: File | None = None
    """df_gamed.csv from the Hub, for length_controlled_v1."""
    out: Folder | None = None
    """Folder for model_outputs.json, annotations.json and the journal."""
    n_max: NMax | None = None
    temperature: Temperature = 0.0
    strict: bool = False
    """Missing, empty or lost rows are an error."""
    leaderboard: File | None = None
    """Another leaderboard (csv) than the snapshot."""
    sort: str = "length_controlled_winrate"
    """Column of the leaderboard to sort by."""

    def __post_init__(self) -> None:
        if (self.outputs is None) == (self.model is None):
            raise UsageError("evaluate alpaca: expected either --outputs FILE or --model MODEL")
        if self.annotations is None and (self.judge is None or self.out is None):
            raise UsageError(
                "evaluate alpaca: expected --annotations FILE, or a judge and a folder: --judge MODEL --out DIR"
            )
        answered_now = self.outputs is None or self.judge is not None or self.n_max is not None
        if self.annotations is not None and answered_now:
            # verdicts on stored answers say nothing about answers generated now
            raise UsageError(
                "evaluate alpaca: --annotations are verdicts on the answers of a file: give --outputs FILE, without "
                "--model, --judge or --n-max"
            )

    def rows(self, ask: ModelAccess) -> AlpacaFiles:
        """Answer (or read), judge and write, or just locate the given files."""
        if self.annotations is not None and self.outputs is not None:
            return AlpacaFiles(self.reference, self.outputs, self.annotations)
        everything = read_answers(self.reference)
        template = load_annotator(self.annotator or DEFAULT_ANNOTATOR)
        chosen = drawn(everything.outputs, self.n_max)
        # in the reference's order, not the draw's: files keep their order
        references = restrict(everything, (text for text in everything.outputs if text in chosen))
        prompts = Prompts(self.reference.name, tuple(references.outputs), len(everything.outputs))
        judge = str(self.judge)
        ask.models.ref(judge)  # report an unknown judge before anything is answered
        reference = ask.write("reference.json", output_rows(references))
        answers = ask.answers(
            str(self.outputs or self.model),
            prompts,
            greedy(self.max_tokens, self.temperature),
            self.model_name,
            references.datasets,
        )
        outputs = ask.write("model_outputs.json", output_rows(answers))
        name = annotator_name(template, ask.models.ref(judge))
        constant = None
        with ask.judge(judge) as generation:
            rows = self._judge(generation, template, name, references, answers)
            annotations = ask.write("annotations.json", rows)
            if self.judge_constant:
                rows = self._judge(generation, template, name, references, constant_outputs(references))
                constant = ask.write("constant_annotations.json", rows)
        n, of = len(prompts.texts), prompts.n_in_source
        note = f"{n} of the {of} prompts of {prompts.source} were drawn (n_max {self.n_max}); n_total counts these"
        return AlpacaFiles(reference, outputs, annotations, constant, (note,) if n < of else ())

    def figures(self, files: AlpacaFiles) -> AlpacaResult:
        """The leaderboard row, the draw and the judged constant answer in it."""
        result = evaluate_files(
            files.outputs,
            files.reference,
            files.annotations,
            self.difficulty,
            self.gamed,
            strict=self.strict,
            model=self.model_name,
            annotator=self.annotator if self.annotations else None,
        )
        result = replace(result, warnings=files.notes + result.warnings)
        if files.constant is None:
            return result
        rows = json.loads(files.constant.read_bytes())
        return replace(result, baselines=tuple(_with_constant(result.baselines, rows)))

    def tables(self, result: AlpacaResult) -> Iterable[Tables]:
        """`alpaca_annotations`, a row for each prompt."""
        yield result.tables()

    def text(self, result: AlpacaResult) -> str:
        """The row, with the leaderboard if it is comparable or requested."""
        return f"{result.text()}\n\n{format_beside(result, self.leaderboard, self.sort)}"

    def _judge(
        self,
        generation: CachedGeneration,
        template: PairwiseTemplate,
        judge: str | None,
        references: Answers,
        answers: Answers,
    ) -> list[dict[str, Any]]:
        plan = plan_annotations(references, answers, template, judge, both_orders=self.both_orders)
        return judge_pairs(generation, plan, f"on {plan.generators[1]}")


def _with_constant(baselines: Sequence[Baseline], rows: Sequence[dict[str, Any]]) -> list[Baseline]:
    won = [row["preference"] - 1 for row in rows if row["preference"] is not None]
    judged = Baseline(
        "constant answer",
        100 * sum(won) / len(won) if won else None,
        None,
        f"{rows[0]['output_2']!r} to every prompt, {len(won)} of {len(rows)} judged",
    )
    return [judged if baseline.name == "constant answer" else baseline for baseline in baselines]
