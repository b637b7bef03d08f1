"""A step's notes in its manifest, next to the accounting (`counts.notes`): one frozen class for each kind of step.

    Counts(n, n, notes=PromptsNotes(generation=…, kept=24, …).stored())     # the step
    version.notes(PromptsNotes).kept                                        # a reader of the manifest

Like the row classes in `tables`, these are the stored form: keys stay as they are. Reading is tolerant: a missing
key (from an older or imported version) is None, and an unknown key is ignored. Writing is strict: a field without a
default must be given and is stored even if it is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from selfreward.statistics import Figure

JsonObject = dict[str, Any]
# Score -> how many, as pairs, since the keys of a JSON object are texts.
Histogram = list[tuple[float, int]]


@dataclass(frozen=True)
class Notes:
    """The base of all kinds."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From a manifest; missing keys are None."""
        values = {field.name: stored.get(field.name) for field in fields(cls)}
        # Stored flat among the step's own notes, so it is read from the same level.
        if "generation" in values:
            values["generation"] = GenerationNotes.read(stored)
        return cls(**values)

    def stored(self) -> JsonObject:
        """For a manifest; the generation's counts are merged into the step's own."""
        values: JsonObject = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, GenerationNotes):
                values |= asdict(value)
            # A field with a default is optional: if None, it does not apply and is not stored.
            elif value is not None or field.default is MISSING:
                values[field.name] = value
        return values


@dataclass(frozen=True)
class GenerationNotes(Notes):
    """Of every step that asks a model. Values that depend on speed or restarts are not in rows and not hashed."""

    completions: int | None
    truncated: int | None
    engine_errors: int | None
    first_engine_error: str | None
    new_tokens: int | None
    resumed: int | None
    tokens_per_second: float | None

    @classmethod
    def together(cls, parts: Sequence[GenerationNotes]) -> GenerationNotes:
        """The counts of a step that asked several models; the speed is the slowest one's."""
        if len(parts) == 1:
            return parts[0]
        counts = {
            name: sum(getattr(part, name) or 0 for part in parts)
            for name in ("completions", "truncated", "engine_errors", "new_tokens", "resumed")
        }
        speeds = [part.tokens_per_second for part in parts if part.tokens_per_second]
        error = next((part.first_engine_error for part in parts if part.first_engine_error), None)
        return cls(**counts, first_engine_error=error, tokens_per_second=min(speeds, default=None))

    @property
    def failures(self) -> str:
        """How many answers failed, and the first error; empty if none failed."""
        if not self.engine_errors:
            return ""
        return f"{self.engine_errors:,} of {self.completions:,} answers failed, the first: {self.first_engine_error}"


@dataclass(frozen=True, kw_only=True)
class Generated(Notes):
    """Notes of a step that asks a model and has nothing else to note."""

    generation: GenerationNotes | None = None

    @property
    def failures(self) -> str:
        """See `GenerationNotes`."""
        return self.generation.failures if self.generation else ""


@dataclass(frozen=True)
class SeedsNotes(Notes):
    """Of `seeds`."""

    prompts: int | None
    unranked: int | None = None
    """Replies without a rank."""
    revision: str | None = None
    """The commit of a Hub dataset, `unknown` if the Hub did not name it."""


@dataclass(frozen=True, kw_only=True)
class EftNotes(Generated):
    """Of `eft`; no generation if humans wrote the targets."""

    train: int | None
    train_accepted: int | None
    train_rejected: dict[str, int] | None
    train_scores: Histogram | None
    eval: int | None
    eval_prompts: int | None


@dataclass(frozen=True, kw_only=True)
class PromptsNotes(Generated):
    """Of `prompts`."""

    kept: int | None
    wanted: int | None
    rejected: dict[str, int] | None
    rounds: int | None
    revision: str | None = None
    """The commit of a Hub dataset that the prompts are from, `unknown` if the Hub did not name it."""
    source_rows: int | None = None
    """Rows of the file or dataset that the prompts are from, in all, and those that no iteration has looked at yet."""
    source_rows_left: int | None = None


@dataclass(frozen=True, kw_only=True)
class JudgementsNotes(Generated):
    """Of `judgements`."""

    by_status: dict[str, int] | None
    resampled: int | None
    scored_after_resampling: int | None
    injection_suspected: int | None
    """Candidates."""
    read_again_from: str | None = None
    """The version whose texts were read again; nothing was generated."""


@dataclass(frozen=True)
class ScoresNotes(Notes):
    """Of `scores`."""

    judgements: int | None
    judgements_by_status: dict[str, int] | None
    histogram: Histogram | None
    prompts_all_tied: int | None
    prompts_comparable: int | None
    unscored_candidates: int | None
    agreement: list[JsonObject] | None = None
    """Between each two judges or templates, if there are several (`judging.judge.combine.agreement_between`)."""


@dataclass(frozen=True, kw_only=True)
class MetaJudgementsNotes(Generated):
    """Of `meta_judgements`."""

    by_status: dict[str, int] | None
    by_winner: dict[str, int] | None
    """By place: first, second, tie."""
    compared_in_both_orders: int | None
    """Pairs of judgements with a readable comparison in each order."""
    same_winner_in_both_orders: int | None
    weight_first: float | None
    """What a win in the first place is worth."""
    weight_second: float | None
    candidates: int | None
    prompts_not_compared: dict[str, int] | None


@dataclass(frozen=True)
class JudgePairsNotes(Notes):
    """Of `judge_pairs`."""

    answer_pairs: int | None
    """Pairs of answers that the same DPO step trains on."""
    chosen_scores: Histogram | None
    weight_first: float | None
    weight_second: float | None


@dataclass(frozen=True)
class PairsNotes(Notes):
    """Of `pairs`."""

    candidates: int | None
    candidates_excluded: dict[str, int] | None
    candidates_flagged_injection: int | None
    prompts_with_scores: int | None


@dataclass(frozen=True, kw_only=True)
class TrainingNotes(Notes):
    """Of a model; the last four as `training.json` has them."""

    gate: str | None
    """`passed`, or `off` if the audits were not run."""
    warnings: list[str] | None = None
    gate_thresholds: dict[str, float] | None = None
    effect: JsonObject | None
    metrics: JsonObject | None
    seconds: float | None
    preflight: JsonObject | None

    def change(self, answer: str) -> float | None:
        """Mean change of an answer's log-probability; `answer` is completion, chosen or rejected."""
        measured = (self.effect or {}).get(answer)
        return measured["change"] if isinstance(measured, dict) else None


@dataclass(frozen=True, kw_only=True)
class JudgeEvalNotes(Generated):
    """Of `judge_eval`."""

    by_status: dict[str, int] | None
    scored_share: float | None
    histogram: Histogram | None
    agreement: JsonObject | None
    """`Agreement.to_dict()`."""
    responses_left_out_by_n_max: int | None

    def figure(self, name: str) -> Figure | None:
        """A figure of the agreement with humans over scored rows; None if nothing could be compared."""
        from selfreward.statistics import Figure

        found = ((self.agreement or {}).get("judge") or {}).get(name)
        return Figure(**{"of": "pairs", **found}) if found else None

    @property
    def n_prompts(self) -> int | None:
        """Prompts that the agreement is over."""
        return ((self.agreement or {}).get("counts") or {}).get("n_prompts")


@dataclass(frozen=True, kw_only=True)
class RuleEvalNotes(Generated):
    """Of `rule_eval`."""

    prompts: int | None
    prompts_left_out: int | None
    """By `n_max`."""
    kept: JsonObject | None
    """The share of answers that keep every rule, with its interval over prompts: a `Figure`."""
    by_rule: JsonObject | None
    """Kind of rule -> [answers that keep it, answers with a verdict]."""
    unchecked: dict[str, int] | None
    """Reason -> answers without a verdict."""
    mean_chars: float | None
    distinct_words: float | None
    """Mean over answers of the share of words that are different ones."""
    role_leakage: int | None
    """Answers that read like a judgement."""


@dataclass(frozen=True, kw_only=True)
class OutputsNotes(Generated):
    """Of `model_outputs`."""

    prompts_left_out_by_n_max: int | None


@dataclass(frozen=True, kw_only=True)
class AnnotationsNotes(Generated):
    """Of `annotations`."""

    alpaca: JsonObject | None
    """The row of the leaderboard: `AlpacaResult.to_dict()`."""


@dataclass(frozen=True)
class AlpacaFigures(Notes):
    """The fields read from `AnnotationsNotes.alpaca`; shares in percent, lengths in characters."""

    model: str | None = None
    win_rate: float | None = None
    win_rate_ci_low: float | None = None
    win_rate_ci_high: float | None = None
    length_controlled_winrate: float | None = None
    n_total: int | None = None
    n_annotated: int | None = None
    n_lost: dict[str, int] | None = None
    avg_length: int | None = None
    avg_length_reference: int | None = None
    n_disagree: int | None = None
    annotator: str | None = None
    reference: str | None = None
    baselines: list[JsonObject] | None = None
