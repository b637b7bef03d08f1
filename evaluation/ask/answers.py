"""Who is compared, and on what: prompts from a file or a run, answers from a file or a model.

    models = Models(run_folder)                               # None: no run
    prompts = read_prompts(Path("prompts.jsonl"), n_max=256)
    answers = answers_of("M2", prompts, models, out, Terms()) # "hf:…", "openai:…", or a file of answers

A prompt is its text: answers are joined to it by it, as alpaca-eval's are. Repeated prompts, and answers of a file
that are to other prompts, are refused with the count and the first offender.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selfreward.config.run import RunConfig, load_config
from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.references import ModelRef, foreign, resolve
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.files import (
    Answers,
    Offenders,
    answers_from_rows,
    read_answers,
    read_rows,
    text_of,
)
from selfreward.evaluation.ask.requests import Terms, asking, failed
from selfreward.steps.trust import require_trust
from selfreward.store.run import Run, is_model
from selfreward.store.sealed import digest
from selfreward.tables import Message, row_id

COLUMNS = ("instruction", "prompt", "question")
FILE_ENDINGS = tuple(f".{kind}{gz}" for kind in ("json", "jsonl", "csv", "parquet") for gz in ("", ".gz"))
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=1024)


@dataclass(frozen=True, slots=True)
class Prompts:
    """Evaluation prompts in file order; `n_in_source` says how many there were before `n_max`."""

    source: str
    texts: tuple[str, ...]
    n_in_source: int

    @property
    def sha256(self) -> str:
        """Of the prompts as a set."""
        return digest(sorted(self.texts))


class Models:
    """From what a user calls a model to the model: a model string, or `M1`, `SFT`, … of a run."""

    def __init__(self, run_folder: Path | None = None) -> None:
        self.run = None if run_folder is None else Run(run_folder)
        self._config: RunConfig | None = None

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        if self.run is None:
            raise UsageError("there is no run to take the configuration from: add --run RUN")
        if self._config is None:
            path = self.run.path / "config.yaml"
            if not path.is_file():
                raise UsageError(f"{self.run.path}: holds no config.yaml, so it is not known what M0 is")
            self._config = load_config(path)
            require_trust(path, self._config)
        return self._config

    def ref(self, name: str) -> ModelRef:
        """UsageError for a run's model without a run, or one that the run does not have."""
        if not is_model(name):
            return foreign(name)
        if self.run is None:
            raise UsageError(f"model {name!r} is a model of a run: add --run RUN")
        return resolve(name, self.run, self.config.model, self.config.train)

    def terms_for(self, name: str, terms: Terms) -> Terms:
        """A run's model is asked with the run's engine options, unless others are given."""
        if self.run is None or not is_model(name) or terms.options != EngineOptions():
            return terms
        return replace(terms, options=EngineOptions(**self.config.engine.model_dump()))

    def shown(self, name: str) -> str:
        """What the model is called in rows: `M1` of a run keeps its short name, with its hash behind it."""
        return self.ref(name).name


def read_prompts(path: Path, n_max: int | None = None) -> Prompts:
    """A file of any usual form with a column `instruction`, `prompt` or `question`."""
    texts: dict[str, None] = {}
    repeated = Offenders()
    for number, row in enumerate(read_rows(path), start=1):
        column = next((name for name in COLUMNS if name in row), None)
        text = text_of(row, column, path.name, number) if column else None
        if text is None:
            raise InputError(f"{path.name}, row {number}: has none of the columns {', '.join(COLUMNS)}")
        if text in texts:
            repeated.add(number, text)
        texts[text] = None
    repeated.refuse(path.name, "repeating a prompt; keep each once")
    return _prompts(path.name, list(texts), n_max)


def run_prompts(run: Run, n_max: int | None = None) -> Prompts:
    """The prompts of the EFT eval split: nothing in the run was trained on them."""
    rows = run.current("eft").table(["split", "prompt"]).to_pylist()
    texts = list(dict.fromkeys(row["prompt"] for row in rows if row["split"] == "eval"))
    return _prompts("eft eval split", texts, n_max)


def draw(texts: Sequence[str], n_max: int | None) -> list[str]:
    """At most `n_max` of them, the same ones whatever order they come in; kept in their order.

    A file's first prompts are often of one kind (AlpacaEval is sorted by source), so the first ones are no sample.
    """
    if n_max is None or n_max >= len(texts):
        return list(texts)
    chosen = set(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())[:n_max])
    return [text for text in texts if text in chosen]


def _prompts(source: str, texts: Sequence[str], n_max: int | None) -> Prompts:
    kept = draw(texts, n_max)
    if not kept:
        raise InputError(f"{source}: holds no prompts; expected at least one")
    return Prompts(source, tuple(kept), len(texts))


def is_answers_file(source: str) -> bool:
    """Whether this names a file of answers rather than a model."""
    return source.endswith(FILE_ENDINGS) and Path(source).is_file()


def name_of(source: str, models: Models) -> str:
    """What to call the one behind a file or a model string, before any answer is made."""
    if is_answers_file(source):
        return read_answers(Path(source)).generator or Path(source).name.split(".")[0]
    return models.shown(source)


def answers_of(
    source: str,
    prompts: Prompts,
    models: Models,
    out: Path,
    terms: Terms,
    sampling: Sampling = GREEDY,
    name: str | None = None,
    datasets: dict[str, str | None] | None = None,
) -> Answers:
    """One answer to each prompt: from a file of answers, or asked of the model now (journalled under `out`).

    A failed answer is None. Prompts that a file does not answer are None too; what it answers beyond them is left
    aside where `prompts` is a part of its source, and refused where it is not.
    """
    if is_answers_file(source):
        return _from_file(Path(source), prompts, name)
    ref = models.ref(source)
    requests = [
        Request(row_id("out", text), (Message("user", text),), sampling, 1, 0) for text in prompts.texts
    ]
    with asking(ref, out / ".work", "answers", models.terms_for(source, terms)) as asked:
        completions = asked.complete(requests, f"by {ref.name}")
    rows = [
        {
            "instruction": text,
            "dataset": (datasets or {}).get(text),
            "output": None if failed(completion) else completion.text,
            "generator": name or ref.name,
        }
        for text, completion in (
            (text, completions[request.id, 0]) for text, request in zip(prompts.texts, requests, strict=True)
        )
    ]
    return answers_from_rows(rows, name or ref.name)


def _from_file(path: Path, prompts: Prompts, name: str | None) -> Answers:
    answers = read_answers(path)
    wanted = set(prompts.texts)
    if not wanted & answers.outputs.keys():
        raise InputError(f"{path.name}: answers none of the {len(wanted)} prompts of {prompts.source}")
    if len(wanted) == prompts.n_in_source:
        foreign_rows = Offenders()
        for number, instruction in enumerate(answers.outputs, start=1):
            if instruction not in wanted:
                foreign_rows.add(number, instruction)
        foreign_rows.refuse(path.name, f"for a prompt that {prompts.source} does not have")
    return restrict(answers, prompts.texts, name)


def restrict(answers: Answers, texts: Iterable[str], name: str | None = None) -> Answers:
    """The answers to these prompts, in their order; None where there is none."""
    kept = list(texts)
    return Answers(
        answers.source,
        name or answers.generator,
        {text: answers.outputs.get(text) for text in kept},
        {text: answers.datasets.get(text) for text in kept},
    )


def output_rows(answers: Answers) -> list[dict[str, Any]]:
    """Rows of alpaca-eval's `model_outputs.json`."""
    return [
        {
            "dataset": answers.datasets.get(instruction),
            "instruction": instruction,
            "output": output,
            "generator": answers.generator,
        }
        for instruction, output in answers.outputs.items()
    ]
