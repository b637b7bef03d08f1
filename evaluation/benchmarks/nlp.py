"""The paper's nine NLP benchmarks through lm-eval (extra `nlp`): did training on preferences cost other skills?

    scores = measure(Nlp(model="M2", run=run_folder, out=Path("nlp"))).scores

The paper states neither shots nor metrics; `PRESET` chooses both (see docs/evaluation.md). Each finished task is kept
in OUT, so that a restart skips it, and a task that fails gets a row with the reason. Data comes from the Hub through
lm-eval, into the Hub's own cache.

`check_datasets` reports which of the datasets load today, without measuring anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from selfreward.engines.references import ModelRef
from selfreward.engines.registry import parse_model_string
from selfreward.errors import SelfrewardError, UsageError
from selfreward.evaluation.ask.answers import ModelAccess, replace_text
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import Folder, Measure, ModelName, Result
from selfreward.progress import say
from selfreward.store.sealed import digest
from selfreward.text import format_table
from selfreward.unkeyed import Count


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of the nine benchmarks: lm-eval's task, the reported metric, the number of shots."""

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
            (s.label, s.value, s.standard_error, s.n_questions, s.n_shots, s.metric, s.reason or "")
            for s in self.scores
        ]
        table = format_table(("benchmark", "%", "± s.e.", "questions", "shots", "metric", ""), rows)
        version = f"lm-eval {self.scores[0].lm_eval}" if self.scores else ""
        trial = f"; only the first {self.limit} questions of each task: a trial, not a figure"
        return f"{table}\n{version}{trial if self.limit else ''}"


@pydantic_dataclass(frozen=True, kw_only=True)
class Nlp(Measure[NlpResult, NlpResult]):
    """Which model, which benchmarks."""

    name = "nlp"
    model: ModelName | None = None
    """A local model: hf:…, vllm:…, M2 of --run."""
    out: Folder | None = None
    """Folder for the finished tasks."""
    task: tuple[str, ...] = ()
    """Only this one; may be repeated. Default: the paper's nine."""
    limit: Count | None = None
    """Only the first questions of each task: a trial."""
    batch_size: Count = 8
    """Questions at a time."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; default: a GPU if there is one."""
    dtype: str = "auto"
    """auto, float32, bfloat16."""
    chat_template: bool = False
    """Put the questions into the model's chat template."""
    include: Folder | None = None
    """Tasks of your own, in lm-eval's YAML."""
    check: Annotated[bool, Field(title="--check")] = False
    """Only check which benchmarks' datasets load with the installed `datasets`."""

    def __post_init__(self) -> None:
        if not self.check and (self.model is None or self.out is None):
            raise UsageError("evaluate nlp: expected --model MODEL and --out DIR (or --check)")

    def rows(self, ask: ModelAccess) -> NlpResult:
        """A score for every task, in order; finished tasks in OUT are not measured again."""
        if self.check:
            return NlpResult(checked=check_datasets())
        library = _library()
        ref = ask.models.ref(str(self.model))
        _check(self, ref)
        ask.claim()
        scores, model = [], None
        for task in self.task or BY_TASK:
            benchmark = BY_TASK.get(task) or Benchmark(task, task, "acc,none", 0, "")
            path = ask.out / f"{task}-{_key(self, ref, benchmark)}.json"
            # only tasks without a `reason` are stored, so that a failed one is measured again
            if path.is_file():
                scores.append(NlpScore(**json.loads(path.read_bytes())))
                continue
            say(f"{benchmark.label}: {benchmark.n_shots} shots, {benchmark.metric.split(',')[0]}")
            model = model or _open(self, ref)
            score = _measure(library, model, self, benchmark)
            if score.reason is None:
                replace_text(path, json.dumps(asdict(score), indent=1))
            scores.append(score)
        return NlpResult(ref.name, tuple(scores), self.limit)

    def tables(self, result: NlpResult) -> Iterable[Tables]:
        """A figure for each benchmark, NULL where it could not be measured."""
        if result.checked is not None:
            return
        evaluation = Evaluation(
            measure="nlp",
            model=result.model,
            against=None,
            judge=None,
            prompts="lm-eval",
            n_prompts=sum(score.n_questions or 0 for score in result.scores),
            settings={
                "limit": self.limit,
                "chat_template": self.chat_template,
                "tasks": list(self.task or BY_TASK),
            },
        )
        figures = []
        for score in result.scores:
            rest = {"n": score.n_questions, "of": "questions", "part": score.label}
            figures.append(evaluation.figure(score.metric, score.value, **score.interval, **rest))
        yield Tables(evaluation, figures)


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
        # the questions of a group such as MMLU are those of its subtasks
        n_questions=sum(int(counts["effective"]) for counts in results["n-samples"].values()),
        reason=reason,
        lm_eval=version,
    )


def check_datasets(benchmarks: Sequence[Benchmark] = PRESET) -> dict[str, str | None]:
    """By label: None if the dataset's description loads with the installed `datasets`, else the reason."""
    import datasets

    found: dict[str, str | None] = {}
    for benchmark in benchmarks:
        try:
            # `datasets` 4 and newer refuse all that need a loading script
            datasets.load_dataset_builder(benchmark.dataset, benchmark.configuration)
            found[benchmark.label] = None
        except _FAILURES as error:
            found[benchmark.label] = _reason(error)
    return found


def _library() -> Any:
    try:
        import lm_eval
    except ImportError as error:
        raise SelfrewardError(
            f"the NLP benchmarks need lm-eval 0.4.13 or newer ({error}): pip install 'selfreward[nlp]'"
        ) from error
    return lm_eval


def _check(nlp: Nlp, ref: ModelRef) -> None:
    engine = parse_model_string(ref.model_string).engine
    if engine not in ("hf", "vllm") or ref.folder is None:
        raise UsageError(
            f"model {nlp.model!r}: the benchmarks need log-probabilities of given answers, which lm-eval computes itself; "
            "expected a local model: hf:NAME_OR_PATH, vllm:NAME_OR_PATH or a model of a run"
        )
    unknown = [task for task in nlp.task if task not in BY_TASK]
    if unknown and nlp.include is None:
        known = ", ".join(BY_TASK)
        raise UsageError(f"--task {unknown[0]!r}: known are {known}; --include DIR adds tasks of your own")


def _open(nlp: Nlp, ref: ModelRef) -> Any:
    """lm-eval's model object, loaded once for all tasks."""
    from lm_eval.api.registry import get_model

    engine = parse_model_string(ref.model_string).engine
    arguments: dict[str, Any] = {
        "pretrained": str(ref.folder),
        "batch_size": nlp.batch_size,
        "dtype": nlp.dtype,
    }
    if nlp.device:
        arguments["device"] = nlp.device
    elif engine == "hf":
        import torch

        # By default lm-eval requests CUDA, even without a GPU.
        arguments["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    # code that comes with weights is never run
    return get_model(engine)(trust_remote_code=False, **arguments)


def _measure(library: Any, model: Any, nlp: Nlp, benchmark: Benchmark) -> NlpScore:
    from lm_eval.tasks import TaskManager

    version = metadata.version("lm-eval")
    try:
        results = library.simple_evaluate(
            model=model,
            tasks=[benchmark.task],
            num_fewshot=benchmark.n_shots,
            limit=nlp.limit,
            log_samples=False,
            apply_chat_template=nlp.chat_template,
            task_manager=TaskManager(include_path=str(nlp.include) if nlp.include else None),
        )
        return score_of(results, benchmark, version)
    except _FAILURES as error:  # one failing benchmark does not stop the others
        metric = benchmark.metric.split(",")[0]
        no_value = (None, None, None, _reason(error), version)
        return NlpScore(benchmark.label, benchmark.task, metric, benchmark.n_shots, *no_value)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _key(nlp: Nlp, ref: ModelRef, benchmark: Benchmark) -> str:
    parts = {
        "model": ref.content_sha256,
        "benchmark": asdict(benchmark),
        "limit": nlp.limit,
        "dtype": nlp.dtype,
        "chat_template": nlp.chat_template,
        "lm_eval": metadata.version("lm-eval"),
    }
    return digest(parts)[:12]
