"""Prompts from a file or a run, and answers to them, from a file or from a model that is asked now.

    prompts = read_prompts(Path("prompts.jsonl"), n_max=256)
    ask = ModelAccess(out, Models(run_folder))
    answers = ask.answers("M2", prompts)    # "hf:…", "openai:…", or a file of answers

A prompt is its text: answers are joined to it by it, as alpaca-eval's are. Repeated prompts, and answers of a file
that are to other prompts, are refused with the count and the first offender.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.engines.base import Request, Sampling
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.files import (
    Answers,
    Offenders,
    answers_from_rows,
    read_answers,
    read_rows,
    text_of,
)
from selfreward.evaluation.ask.models import Models
from selfreward.evaluation.ask.requests import CachedGeneration, EngineSettings, failed, open_model
from selfreward.statistics import drawn
from selfreward.store import durable
from selfreward.store.run import Run
from selfreward.store.sealed import digest
from selfreward.tables import Message, row_id

COLUMNS = ("instruction", "prompt", "question")
FILE_ENDINGS = tuple(f".{kind}{gz}" for kind in ("json", "jsonl", "csv", "parquet") for gz in ("", ".gz"))
EFT_EVAL_SPLIT = "eft eval split"


@dataclass(frozen=True, slots=True)
class Prompts:
    """Evaluation prompts in file order; `n_in_source` says how many there were before `n_max`."""

    source: str
    texts: tuple[str, ...]
    n_in_source: int


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """What a measure asks through: its folder, the models behind their names, and the engines' settings."""

    out: Path
    """Files go here, answers asked for into `.work` in it."""
    models: Models = field(default_factory=Models)
    answering: EngineSettings = field(default_factory=EngineSettings)
    judging: EngineSettings = field(default_factory=EngineSettings)
    claim: Callable[[], None] = lambda: None
    """Makes and locks the folder, once; called before anything is asked or written."""

    def prompts(self, file: Path | None, n_max: int | None) -> Prompts:
        """The prompts of a file, or those of the run that nothing was trained on."""
        if file is not None:
            return read_prompts(file, n_max)
        if self.models.run is None:
            raise UsageError("expected --prompts FILE, or --run RUN for the prompts of its EFT eval split")
        return run_prompts(self.models.run, n_max)

    def open(
        self, model: str, journal: str, settings: EngineSettings
    ) -> AbstractContextManager[CachedGeneration]:
        """Open a model's engine, with its journal in the folder."""
        self.claim()
        settings = self.models.settings_for(model, settings)
        return open_model(self.models.ref(model), self.out / ".work", journal, settings)

    def judge(self, model: str, journal: str = "verdicts") -> AbstractContextManager[CachedGeneration]:
        """Open the judge."""
        return self.open(model, journal, self.judging)

    def answers(
        self,
        source: str,
        prompts: Prompts,
        sampling: Sampling | None = None,
        name: str | None = None,
        datasets: Mapping[str, str | None] | None = None,
    ) -> Answers:
        """One answer to each prompt: of a file of answers, or asked of the model now, greedily by default.

        A failed answer is None. Prompts that a file does not answer are None too; what it answers beyond them is
        left aside where `prompts` is a part of its source, and refused where it is not.
        """
        if source.endswith(FILE_ENDINGS) and Path(source).is_file():
            return _from_file(Path(source), prompts, name)
        generator = name or self.models.ref(source).name
        requests = answer_requests(prompts.texts, sampling or greedy(1024))
        with self.open(source, "answers", self.answering) as generation:
            completions = generation.complete(requests, f"by {self.models.ref(source).name}")
        rows = []
        for text, request in zip(prompts.texts, requests, strict=True):
            completion = completions[request.id, 0]
            output = None if failed(completion) else completion.text
            dataset = (datasets or {}).get(text)
            rows.append({"instruction": text, "dataset": dataset, "output": output, "generator": generator})
        return answers_from_rows(rows, generator)

    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write a file of the folder whole, replacing an old one: `.jsonl` a row a line, `.json` an array."""
        self.claim()
        if name.endswith(".jsonl"):
            text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        else:
            text = json.dumps(list(rows), indent=1, ensure_ascii=False, allow_nan=False)
        return replace_text(self.out / name, text)


def replace_text(path: Path, text: str) -> Path:
    """Write a file whole, in a folder that is made if need be."""
    durable.make_folder(path.parent)
    durable.replace_file(path, text.encode())
    return path


def greedy(max_tokens: int, temperature: float = 0.0) -> Sampling:
    """How answers are asked for unless a temperature is given."""
    return Sampling(temperature=temperature, top_p=1.0, max_tokens=max_tokens)


def answer_requests(texts: Iterable[str], sampling: Sampling, seed: int = 0) -> list[Request]:
    """One for each prompt; its id is the output's."""
    return [Request(row_id("out", text), (Message("user", text),), sampling, 1, seed) for text in texts]


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
    return _prompts(EFT_EVAL_SPLIT, texts, n_max)


def _prompts(source: str, texts: Sequence[str], n_max: int | None) -> Prompts:
    """A file's first prompts are often of one kind (AlpacaEval is sorted by source), so they are drawn, in order."""
    if not texts:
        raise InputError(f"{source}: holds no prompts; expected at least one")
    kept = drawn(texts, n_max)
    return Prompts(source, tuple(text for text in texts if text in kept), len(texts))


def prompts_sha256(texts: Iterable[str]) -> str:
    """Of prompts as a set."""
    return digest(sorted(texts))


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
