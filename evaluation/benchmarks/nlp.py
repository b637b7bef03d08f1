"""Benchmarks through lm-eval (extra `nlp`): did training on preferences cost other skills, are instructions followed?

    scores = measure(Nlp(model="M2", run=run_folder, out=Path("nlp"))).scores

Without `--task` the paper's nine, of which it states neither shots nor metrics; `PRESET` chooses both (see
docs/evaluation.md). Any other task of lm-eval (`ifeval`, …) is measured with its own shots and metrics. Each finished task is kept
in OUT, so that a restart skips it, and a task that fails gets a row with the reason. Data comes from the Hub through
lm-eval, into the Hub's own cache.

`check_datasets` reports which of the datasets load today, without measuring anything.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from selfreward.engines.references import ModelRef
from selfreward.engines.registry import parse_model_string
from selfreward.errors import SelfrewardError, UsageError
from selfreward.evaluation.ask.answers import ModelAccess, replace_text
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.benchmarks.nlp_result import (
    BY_TASK,
    PRESET,
    Benchmark,
    NlpResult,
    NlpScore,
    scores_of,
)
from selfreward.evaluation.measure import Folder, Measure, ModelName
from selfreward.progress import say
from selfreward.store.sealed import digest
from selfreward.unkeyed import Count

_FAILURES = (OSError, RuntimeError, ValueError, KeyError, ImportError)
"""What loading and measuring one benchmark raises: no network, a loading script, memory, a missing package."""


@pydantic_dataclass(frozen=True, kw_only=True)
class Nlp(Measure[NlpResult, NlpResult]):
    """Which model, which benchmarks."""

    name = "nlp"
    model: ModelName | None = None
    """A local model: hf:…, vllm:…, M2 of --run."""
    out: Folder | None = None
    """Folder for the finished tasks."""
    task: tuple[str, ...] = ()
    """Any task of lm-eval, such as ifeval; may be repeated. Default: the paper's nine."""
    metric: tuple[str, ...] = ()
    """Of tasks beside the nine, as lm-eval names it (prompt_level_strict_acc); may be repeated. Default: all."""
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
            benchmark = BY_TASK.get(task) or Benchmark(task, task, "", None, "")
            path = ask.out / f"{task}-{_key(self, ref, benchmark)}.json"
            # only tasks without a `reason` are stored, so that a failed one is measured again
            if path.is_file():
                stored = json.loads(path.read_bytes())
                scores += [NlpScore(**score) for score in (stored if isinstance(stored, list) else [stored])]
                continue
            shots = "its own" if benchmark.n_shots is None else benchmark.n_shots
            say(f"{benchmark.label}: {shots} shots, {benchmark.metric.split(',')[0] or 'its own metrics'}")
            model = model or _open(self, ref)
            found = _measure(library, model, self, benchmark)
            if all(score.reason is None for score in found):
                replace_text(path, json.dumps([asdict(score) for score in found], indent=1))
            scores += found
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
            rest = {
                "n": score.n_questions,
                "of": "questions",
                "part": score.label,
                "unit": "percent" if score.unit == "%" else "as reported",
            }
            figures.append(evaluation.figure(score.metric, score.value, **score.interval, **rest))
        yield Tables(evaluation, figures)


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
    if asked := [task for task in nlp.task if task not in BY_TASK]:
        from lm_eval.tasks import TaskManager

        known = TaskManager(include_path=str(nlp.include) if nlp.include else None).all_tasks
        for task in (task for task in asked if task not in known):
            near = difflib.get_close_matches(task, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them."
            raise UsageError(
                f"--task {task!r}: lm-eval {metadata.version('lm-eval')} has no such task; {hint} --include DIR adds tasks "
                "of your own"
            )
    elif nlp.metric:
        raise UsageError(
            f"--metric {nlp.metric[0]}: the paper's nine have one metric each; name another task with --task"
        )


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


def _measure(library: Any, model: Any, nlp: Nlp, benchmark: Benchmark) -> list[NlpScore]:
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
        return list(scores_of(results, benchmark, nlp.metric, version))
    except _FAILURES as error:  # one failing benchmark does not stop the others
        metric = benchmark.metric.split(",")[0]
        no_value = (None, None, None, _reason(error), version)
        return [NlpScore(benchmark.label, benchmark.task, metric, benchmark.n_shots, *no_value)]


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
        # The nine's own keys stay as they are.
        **({} if benchmark.metric else {"metrics": list(nlp.metric)}),
        "lm_eval": metadata.version("lm-eval"),
    }
    return digest(parts)[:12]
