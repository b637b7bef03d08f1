"""`evaluate rules`: how often models keep rules that a program checks, on any prompts with rules.

    result = measure(RulesMeasure(model=("M1", "M3"), run=run_folder, out=Path("rules")))

Every model answers every prompt; no model judges. Each model after the first is also compared with the first one on the
same prompts, in percentage points. Length and variety stand beside the rate, so that a gain by shorter or repeated answers
is seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from selfreward.config.evaluation import RuleEvalConfig
from selfreward.engines.references import trainable
from selfreward.errors import UsageError
from selfreward.evaluation.ask.answers import ModelAccess, prompts_sha256
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import File, NMax, Out, RandomSeed, Result, WithAnswers
from selfreward.evaluation.rules.verdicts import (
    RuleFigures,
    answer_requests,
    limited,
    paired,
    rule_figures,
    verdict_rows,
)
from selfreward.judging.rules.files import EMBEDDED, file_of, read_prompts
from selfreward.statistics import Figure
from selfreward.tables import RuleEval
from selfreward.text import format_table
from selfreward.unkeyed import Count


@plain_dataclass(frozen=True, slots=True)
class ModelAnswers:
    """One model's answers, and the mean log-probability of each under another model, if asked for."""

    rows: list[RuleEval]
    log_probs: list[float | None]


@plain_dataclass(frozen=True, slots=True)
class ModelRules:
    """One model's answers and figures; `gain` is its rate minus the first model's."""

    model: str
    rows: list[RuleEval]
    figures: RuleFigures
    gain: Figure | None
    log_prob: float | None
    """Of a token of its answers, mean over answers, under the model of --fluency."""


@plain_dataclass(frozen=True, slots=True)
class RulesResult(Result):
    """The models in the given order."""

    prompts: str
    models: tuple[ModelRules, ...]

    def to_dict(self) -> dict[str, Any]:
        """By model, without the answers."""
        return {
            one.model: asdict(one.figures) | {"gain": one.gain and asdict(one.gain), "log_prob": one.log_prob}
            for one in self.models
        }

    def text(self) -> str:
        """A table of the models, then one of the kinds of rules."""
        kinds = sorted({kind for one in self.models for kind in one.figures.by_rule})
        head = [
            "model",
            "kept %",
            "gain, points",
            "characters",
            "different words %",
            "log-prob. of a token",
            "like a judgement",
            "no verdict",
        ]
        rows = [
            [
                one.model,
                one.figures.kept.shown(),
                one.gain.shown(sign="+") if one.gain else "-",
                _rounded(one.figures.mean_chars),
                _rounded(100 * one.figures.distinct_words) if one.figures.distinct_words is not None else "-",
                "-" if one.log_prob is None else f"{one.log_prob:.2f}",
                str(one.figures.role_leakage),
                ", ".join(f"{reason} {n}" for reason, n in one.figures.unchecked.items()) or "0",
            ]
            for one in self.models
        ]
        by_kind = [
            [kind, *("{} of {}".format(*one.figures.by_rule.get(kind, (0, 0))) for one in self.models)]
            for kind in kinds
        ]
        first = format_table(head, rows)
        return f"{first}\n\n{format_table(['rule', *(one.model for one in self.models)], by_kind)}"


@dataclass(frozen=True, kw_only=True)
class RulesMeasure(WithAnswers[dict[str, ModelAnswers], RulesResult]):
    """How often models keep rules that a program checks."""

    name = "rules"
    model: Annotated[tuple[str, ...], Field(title="MODEL")]
    """A model, or M1 of --run; repeat to compare several with the first."""
    out: Out
    prompts: File | None = None
    """Prompts with rules: IFEval's file, or prompts that state a rule in known words; default: the control experiment's
    held-out prompts."""
    samples: Count = 1
    """Answers to each prompt."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Of the answers; 0 is greedy."""
    n_max: NMax | None = None
    seed: RandomSeed = 0
    """Of sampled answers."""
    fluency: Annotated[str, Field(title="MODEL")] | None = None
    """Also the mean log-probability of a token under this model (hf: or M0 of --run), to see gains by broken language."""

    def __post_init__(self) -> None:
        if len(set(self.model)) < len(self.model):
            raise UsageError(f"--model {', '.join(self.model)}: one of them is given twice")

    def rows(self, ask: ModelAccess) -> dict[str, ModelAnswers]:
        """Answer and check; OUT gets `rules.jsonl`, a row for each answer."""
        source = str(self.prompts) if self.prompts else EMBEDDED
        prompts = limited(read_prompts(source, file_of(source)), self.n_max)
        settings = RuleEvalConfig(
            samples=self.samples, temperature=self.temperature, max_tokens=self.max_tokens
        )
        found = {}
        for place, model in enumerate(self.model):
            with ask.open(model, f"answers-{place}", ask.answering) as generation:
                requests = answer_requests(prompts, settings, self.seed)
                name = ask.models.ref(model).name
                completions = generation.complete(requests, f"by {name}")
            found[model] = verdict_rows(prompts, completions, settings, name, place)
        ask.write("rules.jsonl", (asdict(row) for rows in found.values() for row in rows))
        return {model: ModelAnswers(rows, self._log_probs(ask, rows)) for model, rows in found.items()}

    def _log_probs(self, ask: ModelAccess, rows: list[RuleEval]) -> list[float | None]:
        if self.fluency is None:
            return []
        from selfreward.evaluation.rules.fluency import mean_log_probs

        return mean_log_probs(
            trainable(ask.models.ref(self.fluency)), [(row.prompt, row.response or "") for row in rows]
        )

    def figures(self, rows: dict[str, ModelAnswers]) -> RulesResult:
        """Rates, and differences from the first model."""
        first = next(iter(rows.values()))
        models = tuple(
            ModelRules(
                model,
                own.rows,
                rule_figures(own.rows),
                None if own is first else paired(own.rows, first.rows),
                _mean([value for value in own.log_probs if value is not None]),
            )
            for model, own in rows.items()
        )
        return RulesResult(self.prompts.name if self.prompts else "held-out rules", models)

    def tables(self, result: RulesResult) -> Iterable[Tables]:
        """Figures only: the answers are in OUT."""
        for one in result.models:
            texts = {row.prompt for row in one.rows}
            evaluation = Evaluation(
                measure="rules",
                model=one.rows[0].model,
                against=result.models[0].rows[0].model if one.gain else None,
                judge=None,
                prompts=result.prompts,
                n_prompts=len(texts),
                settings={
                    "prompts": prompts_sha256(texts),
                    "samples": self.samples,
                    "temperature": self.temperature,
                    "max_tokens": self.max_tokens,
                    "seed": self.seed,
                },
            )
            figures = [evaluation.of_figure("kept", one.figures.kept)]
            figures += [evaluation.of_figure("gain", one.gain)] if one.gain else []
            figures += [
                evaluation.figure("kept", 100 * kept / n if n else None, part=kind, n=n, of="answers")
                for kind, (kept, n) in one.figures.by_rule.items()
            ]
            if one.log_prob is not None:
                figures.append(evaluation.figure("log_prob", one.log_prob, unit="nats"))
            figures.append(evaluation.figure("avg_length", one.figures.mean_chars, unit="characters"))
            yield Tables(evaluation, figures)


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
