"""Labels of evaluation prompts by a model: category, complexity and expected length.

    {"instruction": "How did US states get their names?", "category": "facts", "complexity": 3,
     "expected_length": "one or two paragraphs", "status": "ok", "judge": "openai:gpt-4.1"}

The paper breaks AlpacaEval down by these three, labeled by GPT-4; its labels are not published. In a run the labels are
the table `prompt_labels`, to be joined with the annotations (see docs/evaluation.md). A label missing from a reply is
NULL with a status, and counted. Your own labels need no model: a jsonl file with these columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from selfreward.engines.base import Completion, Request, Sampling
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.answers import ModelAccess, prompts_sha256
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import File, Folder, ModelName, NMax, Result, WithJudge
from selfreward.judging.parsing.scores import own_words
from selfreward.judging.prompts.markers import fill
from selfreward.reading.files import read_rows
from selfreward.tables import Message, row_id
from selfreward.text import format_table

TABLE = "prompt_labels"
# ours: the paper's categories are not published
CATEGORIES = (
    *("writing", "editing", "summary", "ideas", "facts", "explanation", "advice", "instructions"),
    *("planning", "maths", "logic", "code", "data", "translation", "roleplay", "other"),
)
LENGTHS = ("a sentence", "a few sentences", "one or two paragraphs", "several paragraphs", "a page or more")
SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=60)
_QUESTION = """Below is a request that someone sent to an assistant. Do not answer it; describe it.

<request>
{request}
</request>

Reply with exactly these three lines:
Category: one of {categories}
Complexity: a whole number from 1 (anyone can answer at once) to 10 (an expert needs hours)
Length: how long a good answer is, one of {lengths}"""


@plain_dataclass(frozen=True, slots=True)
class PromptLabel:
    """One prompt's labels; row of the table `prompt_labels`."""

    evaluation_id: str
    instruction: str
    category: str | None
    complexity: int | None
    """1 to 10."""
    expected_length: str | None
    status: str
    """`ok`, or why some of the three are NULL: `no_label`, `truncated`, `empty`, `engine_error`."""
    judge: str | None


@plain_dataclass(frozen=True, slots=True)
class PromptLabels(Result):
    """The labels, and where the prompts are from."""

    source: str
    rows: tuple[PromptLabel, ...]

    def to_dict(self) -> list[dict[str, Any]]:
        """For `--json`: the rows themselves."""
        return [asdict(label) for label in self.rows]

    def text(self) -> str:
        """How many prompts of each kind."""
        rows = []
        for name in ("category", "complexity", "expected_length", "status"):
            counts = Counter(getattr(label, name) for label in self.rows)
            rows += [(name, "-" if key is None else key, n) for key, n in counts.most_common()]
        return format_table(("label", "", "prompts"), rows)


@dataclass(frozen=True, kw_only=True)
class LabelPrompts(WithJudge[PromptLabels, PromptLabels]):
    """Category, complexity and expected length of prompts, for breakdowns."""

    name = "label-prompts"
    prompts: File | None = None
    """json or jsonl with instruction or prompt."""
    judge: ModelName | None = None
    """The model that labels the prompts: hf:NAME_OR_PATH, openai:URL#MODEL, …"""
    out: Folder | None = None
    """Folder for labels.jsonl and the journal."""
    labels: File | None = None
    """Or labels that exist (jsonl), to put into --run."""
    n_max: NMax | None = None

    def __post_init__(self) -> None:
        if self.labels is None and None in (self.prompts, self.judge, self.out):
            raise UsageError(
                "label-prompts: expected --prompts FILE --judge MODEL --out DIR, or --labels FILE"
            )

    def rows(self, ask: ModelAccess) -> PromptLabels:
        """Ask for the labels of every prompt; OUT gets `labels.jsonl` and the journal."""
        if self.labels is not None:
            return PromptLabels(self.labels.name, tuple(read_labels(self.labels)))
        prompts, judge = ask.prompts(self.prompts, self.n_max), str(self.judge)
        ids = {text: row_id("label", text) for text in prompts.texts}
        requests = [Request(i, (Message("user", _question(text)),), SAMPLING) for text, i in ids.items()]
        with ask.judge(judge, "labels") as generation:
            found = generation.complete(requests, f"of {prompts.source}")
        name = ask.models.ref(judge).name
        labels = tuple(read_label(text, found[i, 0], name) for text, i in ids.items())
        written = map(asdict, labels)
        ask.write("labels.jsonl", ({k: v for k, v in row.items() if k != "evaluation_id"} for row in written))
        return PromptLabels(prompts.source, labels)

    def tables(self, result: PromptLabels) -> Iterable[Tables]:
        """`prompt_labels`, a row for each prompt."""
        settings = {"prompts": prompts_sha256(label.instruction for label in result.rows)}
        evaluation = Evaluation(
            "labels", "prompts", None, result.rows[0].judge, result.source, len(result.rows), settings
        )
        yield Tables(evaluation, (), {TABLE: result.rows})


def read_label(instruction: str, completion: Completion, judge: str) -> PromptLabel:
    """The three labels of a reply, each NULL if it is not one of the choices.

    >>> reply = Completion("r", 0, "Category: facts\\nComplexity: 3\\nLength: a sentence", "stop", 9)
    >>> label = read_label("Who?", reply, "me")
    >>> label.category, label.complexity, label.expected_length, label.status
    ('facts', 3, 'a sentence', 'ok')
    """
    reply = own_words(completion.text)
    category = _one_of(CATEGORIES, _line(reply, "Category"))
    length = _one_of(LENGTHS, _line(reply, "Length"))
    # "7.5" is no whole number, and must not be read as 7
    number = re.match(r"(\d+)(?!\d|\.\d)", _line(reply, "Complexity"))
    complexity = int(number[1]) if number and 1 <= int(number[1]) <= 10 else None
    status = "ok"
    if None in (category, length, complexity):
        status = _why(completion)
    return PromptLabel("", instruction, category, complexity, length, status, judge)


def read_labels(path: Path) -> list[PromptLabel]:
    """Your own labels, or those that `label_prompts` wrote: jsonl. Raises InputError."""
    labels: dict[str, PromptLabel] = {}
    for number, row in read_rows(path):
        where = f"{path.name}, row {number}"
        instruction = row.get("instruction")
        if not isinstance(instruction, str):
            raise InputError(f"{where}: has no instruction")
        if instruction in labels:
            raise InputError(f"{where}: labels an instruction that has labels already")
        complexity = row.get("complexity")
        if complexity is not None and (isinstance(complexity, bool) or not isinstance(complexity, int)):
            raise InputError(f"{where}: complexity is {complexity!r:.40}, expected a whole number or null")
        category, length = row.get("category"), row.get("expected_length")
        known = None not in (category, complexity, length)
        status = str(row.get("status") or ("ok" if known else "no_label"))
        labels[instruction] = PromptLabel(
            "", instruction, category, complexity, length, status, row.get("judge")
        )
    if not labels:
        raise InputError(f"{path.name}: holds no labels")
    return list(labels.values())


def _question(request: str) -> str:
    values = {"request": request, "categories": ", ".join(CATEGORIES), "lengths": ", ".join(LENGTHS)}
    return fill(_QUESTION, r"\{(\w+)\}", values)


def _line(text: str, name: str) -> str:
    # models decorate the lines with bold, bullets or headings
    found = re.search(rf"^[\s*#-]*{name}[\s*]*:[\s*]*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return found[1].strip().lower() if found else ""


def _one_of(offered: Sequence[str], said: str) -> str | None:
    said = said.strip(" .*\"'`")
    return said if said in offered else None


def _why(completion: Completion) -> str:
    if completion.finish_reason == "error":
        return "engine_error"
    if not completion.text.strip():
        return "empty"
    return "truncated" if completion.finish_reason == "length" else "no_label"
