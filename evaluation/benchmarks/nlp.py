"""The paper's nine NLP benchmarks through lm-eval (extra `nlp`): did training on preferences cost other skills?

    scores = evaluate_nlp(NlpJob(model="M2", out=Path("nlp"), models=models))

lm-eval does the measuring; this module chooses tasks, metric and shots (`PRESET`; the paper states neither shots nor
metric, see docs/evaluation.md), keeps each finished task in OUT so that a restart skips it, and gives a task that cannot
be measured a row with its reason. A benchmark is data from the Hub, fetched by lm-eval into the Hub's own cache.

`check_datasets` says which of them load today without measuring anything: `datasets` 4 and newer refuse all that need a
loading script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from selfreward.engines.references import ModelRef
from selfreward.engines.registry import parse_model_string
from selfreward.errors import SelfrewardError, UsageError
from selfreward.evaluation.ask.answers import Models
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish, write_rows
from selfreward.progress import say
from selfreward.store import durable, lock
from selfreward.store.run import Run
from selfreward.store.sealed import digest


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of the nine: lm-eval's task, the metric that is reported, the examples shown before each question."""

    label: str
    task: str
    metric: str
    n_shots: int
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
_FAILURES = (OSError, RuntimeError, ValueError, KeyError, ImportError)
"""What loading and measuring one benchmark raises: no network, a loading script, memory, a missing package."""


@dataclass(frozen=True, slots=True)
class NlpScore:
    """One benchmark of one model."""

    label: str
    task: str
    metric: str
    n_shots: int
    value: float | None
    """Percent; NULL with a `reason`."""
    standard_error: float | None
    n_questions: int | None
    reason: str | None
    lm_eval: str
    """Its version: tasks change between versions."""

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """95 %, from the standard error."""
        if self.value is None or self.standard_error is None:
            return None, None
        return self.value - 1.96 * self.standard_error, self.value + 1.96 * self.standard_error


@dataclass(frozen=True, slots=True)
class NlpJob:
    """Which model, which benchmarks."""

    model: str
    out: Path
    tasks: tuple[str, ...] = tuple(BY_TASK)
    limit: int | None = None
    """Only the first questions of each task: a trial, not a figure."""
    batch_size: int = 8
    device: str | None = None
    dtype: str = "auto"
    chat_template: bool = False
    include: Path | None = None
    """A folder with tasks of one's own (lm-eval's YAML)."""
    models: Models = field(default_factory=Models)


def evaluate_nlp(job: NlpJob) -> list[NlpScore]:
    """A score for every task, in order; what is in OUT already is not measured again."""
    library = _library()
    ref = job.models.ref(job.model)
    _check(job, ref, library)
    durable.make_folder(job.out)
    scores = []
    with lock.hold(job.out, "selfreward evaluate nlp"):
        model = None
        for task in job.tasks:
            benchmark = BY_TASK.get(task) or Benchmark(task, task, "acc,none", 0, "")
            path = job.out / f"{task}-{_key(job, ref, benchmark)}.json"
            if path.is_file():
                scores.append(NlpScore(**json.loads(path.read_bytes())))
                continue
            say(f"{benchmark.label}: {benchmark.n_shots} shots, {benchmark.metric.split(',')[0]}")
            model = model or _open(job, ref)
            score = _measure(library, model, job, benchmark)
            if score.reason is None:
                write_rows(path, json.dumps(asdict(score), indent=1))
            scores.append(score)
    return scores


def score_of(results: dict[str, Any], benchmark: Benchmark, version: str) -> NlpScore:
    """One score from what lm-eval's `simple_evaluate` returns; a group's questions are those of its subtasks."""
    row = results["results"][benchmark.task]
    metric, _, filtered = benchmark.metric.partition(",")
    value, error = row.get(benchmark.metric), row.get(f"{metric}_stderr,{filtered}")
    reason = None if isinstance(value, int | float) else f"lm-eval reports no {benchmark.metric}"
    return NlpScore(
        label=benchmark.label,
        task=benchmark.task,
        metric=metric,
        n_shots=benchmark.n_shots,
        value=None if reason else 100.0 * value,
        standard_error=100.0 * error if isinstance(error, int | float) else None,
        n_questions=sum(int(counts["effective"]) for counts in results["n-samples"].values()),
        reason=reason,
        lm_eval=version,
    )


def check_datasets(benchmarks: Sequence[Benchmark] = PRESET) -> dict[str, str | None]:
    """By label: None where the dataset's description loads with the installed `datasets`, else the reason. Needs the Hub."""
    import datasets

    found: dict[str, str | None] = {}
    for benchmark in benchmarks:
        try:
            datasets.load_dataset_builder(benchmark.dataset, benchmark.configuration)
            found[benchmark.label] = None
        except _FAILURES as error:
            found[benchmark.label] = _reason(error)
    return found


def publish_nlp(run: Run, job: NlpJob, scores: Sequence[NlpScore]) -> None:
    """Figures of the benchmarks that were measured as rows of the run's figures; the others are NULL."""
    evaluation = Evaluation(
        measure="nlp",
        model=job.models.ref(job.model).name,
        against=None,
        judge=None,
        prompts="lm-eval",
        n_prompts=sum(score.n_questions or 0 for score in scores),
        settings={"limit": job.limit, "chat_template": job.chat_template, "tasks": list(job.tasks)},
    )
    rows = [
        evaluation.figure(
            score.metric,
            score.value,
            low=score.interval[0],
            high=score.interval[1],
            n=score.n_questions,
            of="questions",
            part=score.label,
        )
        for score in scores
    ]
    publish(run, evaluation, {FIGURES: (rows, EvaluationFigure)})


def format_nlp(scores: Sequence[NlpScore], limit: int | None) -> str:
    """For a terminal."""
    from selfreward.text import format_table

    rows = [
        (s.label, s.value, s.standard_error, s.n_questions, s.n_shots, s.metric, s.reason or "")
        for s in scores
    ]
    table = format_table(("benchmark", "%", "± s.e.", "questions", "shots", "metric", ""), rows)
    version = f"lm-eval {scores[0].lm_eval}" if scores else ""
    trial = f"; only the first {limit} questions of each task: a trial, not a figure" if limit else ""
    return f"{table}\n{version}{trial}"


def _library() -> Any:
    try:
        import lm_eval
    except ImportError as error:
        raise SelfrewardError(
            f"the NLP benchmarks need lm-eval 0.4.13 or newer ({error}): pip install 'selfreward[nlp]'"
        ) from error
    return lm_eval


def _check(job: NlpJob, ref: ModelRef, library: Any) -> None:
    engine = parse_model_string(ref.model_string).engine
    if engine not in ("hf", "vllm") or ref.folder is None:
        raise UsageError(
            f"model {job.model!r}: the benchmarks need log-probabilities of given answers, which lm-eval computes itself; "
            "expected a local model: hf:NAME_OR_PATH, vllm:NAME_OR_PATH or a model of a run"
        )
    if job.include is None:
        unknown = [task for task in job.tasks if task not in BY_TASK]
        if unknown:
            known = ", ".join(BY_TASK)
            raise UsageError(
                f"--task {unknown[0]!r}: known are {known}; --include DIR adds tasks of your own"
            )


def _open(job: NlpJob, ref: ModelRef) -> Any:
    """lm-eval's model object, loaded once for all tasks. Code that comes with weights is not run."""
    from lm_eval.api.registry import get_model

    engine = parse_model_string(ref.model_string).engine
    arguments: dict[str, Any] = {
        "pretrained": str(ref.folder),
        "batch_size": job.batch_size,
        "dtype": job.dtype,
    }
    if job.device:
        arguments["device"] = job.device
    return get_model(engine)(trust_remote_code=False, **arguments)


def _measure(library: Any, model: Any, job: NlpJob, benchmark: Benchmark) -> NlpScore:
    from lm_eval.tasks import TaskManager

    version = metadata.version("lm-eval")
    try:
        results = library.simple_evaluate(
            model=model,
            tasks=[benchmark.task],
            num_fewshot=benchmark.n_shots,
            limit=job.limit,
            log_samples=False,
            apply_chat_template=job.chat_template,
            task_manager=TaskManager(include_path=str(job.include) if job.include else None),
        )
        return score_of(results, benchmark, version)
    except _FAILURES as error:  # one benchmark that cannot be had does not take the others with it
        return NlpScore(
            benchmark.label,
            benchmark.task,
            benchmark.metric.split(",")[0],
            benchmark.n_shots,
            None,
            None,
            None,
            _reason(error),
            version,
        )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _key(job: NlpJob, ref: ModelRef, benchmark: Benchmark) -> str:
    parts = {
        "model": ref.content_sha256,
        "benchmark": asdict(benchmark),
        "limit": job.limit,
        "dtype": job.dtype,
        "chat_template": job.chat_template,
        "lm_eval": metadata.version("lm-eval"),
    }
    return digest(parts)[:12]
