"""What lm-eval reports, as scores: the paper's nine benchmarks with one metric each, any other task with all of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfreward.evaluation.measure import Result
from selfreward.text import format_table

# Metrics that are shares and shown in percent; others (perplexity, bleu, …) are shown as lm-eval reports them.
_SHARES = re.compile(r"acc(_|\b)|_acc\b|exact_match|\bem\b|\bf1\b|pass@|precision|recall", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of the nine benchmarks: lm-eval's task, the reported metric, the number of shots."""

    label: str
    task: str
    metric: str
    """With lm-eval's filter; empty: those asked for, or all."""
    n_shots: int | None
    """None: the task's own."""
    dataset: str
    configuration: str | None = None


PRESET = (
    Benchmark("ARC-e", "arc_easy", "acc_norm,none", 0, "allenai/ai2_arc", "ARC-Easy"),
    Benchmark("ARC-c", "arc_challenge", "acc_norm,none", 0, "allenai/ai2_arc", "ARC-Challenge"),
    Benchmark("HellaSwag", "hellaswag", "acc_norm,none", 0, "Rowan/hellaswag"),
    Benchmark("SIQA", "social_iqa", "acc,none", 0, "lighteval/siqa"),
    Benchmark("PIQA", "piqa", "acc_norm,none", 0, "baber/piqa"),
    Benchmark("GSM8K", "gsm8k", "exact_match,strict-match", 8, "openai/gsm8k", "main"),
    Benchmark("MMLU", "mmlu", "acc,none", 5, "cais/mmlu", "abstract_algebra"),
    Benchmark("OBQA", "openbookqa", "acc_norm,none", 0, "allenai/openbookqa", "main"),
    Benchmark("NQ", "nq_open", "exact_match,remove_whitespace", 5, "google-research-datasets/nq_open"),
)
"""Datasets as lm-eval 0.4.13 names them; earlier versions take SIQA from a loading script."""
BY_TASK = {benchmark.task: benchmark for benchmark in PRESET}


@dataclass(frozen=True, slots=True)
class NlpScore:
    """One benchmark of one model."""

    label: str
    task: str
    metric: str
    n_shots: int | None
    value: float | None
    """NULL with a `reason`."""
    standard_error: float | None
    n_questions: int | None
    reason: str | None
    lm_eval: str
    """Its version: tasks change between versions."""
    unit: str = "%"
    """Empty: as lm-eval reports it."""

    @property
    def interval(self) -> dict[str, float]:
        """`low` and `high` of 95 %, from the standard error, if there is one."""
        if self.value is None or self.standard_error is None:
            return {}
        return {
            "low": self.value - 1.96 * self.standard_error,
            "high": self.value + 1.96 * self.standard_error,
        }


@dataclass(frozen=True, slots=True)
class NlpResult(Result):
    """The scores in the requested order."""

    model: str = ""
    scores: tuple[NlpScore, ...] = ()
    limit: int | None = None
    checked: dict[str, str | None] | None = None
    """Of `--check`, instead: why a benchmark's dataset does not load, by label; None if it loads."""

    @property
    def failed(self) -> bool:
        """Some benchmark has no score, or some dataset does not load."""
        return any(score.value is None for score in self.scores) or any((self.checked or {}).values())

    def to_dict(self) -> Any:
        """For `--json`."""
        return [asdict(score) for score in self.scores] if self.checked is None else self.checked

    def text(self) -> str:
        """A line for each benchmark."""
        if self.checked is not None:
            datasets = [(label, why or "loads") for label, why in self.checked.items()]
            return format_table(("benchmark", "dataset"), datasets)
        rows = [
            (s.label, s.value, s.unit, s.standard_error, s.n_questions, s.n_shots, s.metric, s.reason or "")
            for s in self.scores
        ]
        table = format_table(("benchmark", "value", "", "± s.e.", "questions", "shots", "metric", ""), rows)
        version = f"lm-eval {self.scores[0].lm_eval}" if self.scores else ""
        trial = f"; only the first {self.limit} questions of each task: a trial, not a figure"
        return f"{table}\n{version}{trial if self.limit else ''}"


def scores_of(
    results: dict[str, Any], benchmark: Benchmark, metrics: Sequence[str], version: str
) -> Iterator[NlpScore]:
    """The scores of a task from what lm-eval's `simple_evaluate` returns.

    Of the nine the benchmark's own metric; of another task the named metrics (with a filter, `exact_match,strict-match`, or
    without: each filter's), or all that lm-eval reports.
    """
    row = results["results"][benchmark.task]
    reported = [key for key in row if "," in key and not key.partition(",")[0].endswith("_stderr")]
    if benchmark.metric:
        keys = [benchmark.metric]
    elif metrics:
        keys = [key for name in metrics for key in _matching(name, reported) or [name]]
    else:
        keys = [key for key in reported if isinstance(row[key], int | float)] or reported or ["a metric"]
    for key in keys:
        yield _score(results, row, benchmark, key, version)


def score_of(results: dict[str, Any], benchmark: Benchmark, version: str) -> NlpScore:
    """The one score of a benchmark that has a metric."""
    (score,) = scores_of(results, benchmark, (), version)
    return score


def _matching(name: str, reported: Sequence[str]) -> list[str]:
    return [key for key in reported if name in (key, key.partition(",")[0])]


def _score(
    results: dict[str, Any], row: dict[str, Any], benchmark: Benchmark, key: str, version: str
) -> NlpScore:
    metric, _, filtered = key.partition(",")
    value, error = row.get(key), row.get(f"{metric}_stderr,{filtered}")
    reason = None if isinstance(value, int | float) else f"lm-eval reports no {key}"
    scale = 100.0 if _SHARES.search(metric) else 1.0
    shots = results.get("n-shot", {}).get(benchmark.task) if benchmark.n_shots is None else benchmark.n_shots
    return NlpScore(
        label=benchmark.label,
        task=benchmark.task,
        # Two filters of one metric are two scores.
        metric=metric if benchmark.metric or filtered in ("none", "") else key,
        n_shots=shots,
        value=scale * value if isinstance(value, int | float) else None,
        standard_error=scale * error if isinstance(error, int | float) else None,
        # the questions of a group such as MMLU are those of its subtasks
        n_questions=sum(int(counts["effective"]) for counts in results["n-samples"].values()),
        reason=reason,
        lm_eval=version,
        unit="%" if scale != 1.0 else "",
    )
