"""Values that `selfreward import` fills in for missing columns, so that partial tables can be imported.

    prompts: `prompt` is enough.   candidates: `response` and `prompt` or `prompt_id`.   pairs: `chosen`, `rejected`, `prompt`

Each rule fills one column from the row (columns filled before it included) and describes itself, for
`selfreward import RUN DATASET --columns` and docs/own-data.md. Ids are made from texts: the same file gives the same ids,
and separately imported prompts, candidates and pairs still join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from selfreward.errors import InputError
from selfreward.store.contenthash import schema_names
from selfreward.tables import Dataset, arrow_schema, required_columns, row_id

Row = dict[str, Any]
# The placeholder for the model, judge, rule or source of imported rows.
MODEL = "import"


@dataclass
class FillState:
    """The rules' state besides the row; they process the rows of a file in order."""

    where: str
    iteration: int | None
    prompt_ids: Mapping[str, str]
    """Prompts of the run by their text: the ids that candidates and pairs refer to. If empty, ids are made from texts."""
    seen: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def next_sample(self, of: str) -> int:
        """How many rows there were of the same prompt, or of the same candidate."""
        self.seen[of] += 1
        return self.seen[of] - 1

    def prompt_id(self, text: str, must_exist: bool = False) -> str:
        """The id of the run's prompt with this text, or one made from it."""
        # A mistyped prompt would otherwise get an id of its own that no prompt has.
        if must_exist and self.prompt_ids and text not in self.prompt_ids:
            raise InputError(
                f"{self.where}: row {self.number}: column 'prompt' holds {text!r:.60}, which is not among the "
                f"{len(self.prompt_ids)} prompts of iter{self.iteration}/prompts; import those first, or give a prompt_id"
            )
        return self.prompt_ids.get(text) or row_id("p", text)


@dataclass(frozen=True, slots=True)
class FillRule:
    """How one column is filled, as text and as code; `needs` are the columns of the file that it reads."""

    column: str
    says: str
    make: Callable[[Row, FillState], Any]
    needs: tuple[str, ...] = ()


def _constants(**values: Any) -> tuple[FillRule, ...]:
    """Columns that are the same in every row."""
    return tuple(_constant(column, value) for column, value in values.items())


def _constant(column: str, value: Any) -> FillRule:
    return FillRule(column, str(value) if value != [] else "an empty list", lambda row, rows: value)


def _id(column: str, prefix: str, *of: str) -> FillRule:
    """An id made from other columns."""

    def make(row: Row, rows: FillState) -> str:
        return row_id(prefix, *(row[name] for name in of))

    return FillRule(column, f"made from {' and '.join(of)}", make, of)


def _pair_prompt_id(row: Row, rows: FillState) -> str:
    # Only a single turn can be the text of a prompt of the run.
    if len(row["prompt"]) == 1:
        return rows.prompt_id(row["prompt"][0]["content"])
    return row_id("p", [[turn["role"], turn["content"]] for turn in row["prompt"]])


def _chat_id(row: Row, rows: FillState) -> str:
    # As for pairs, so that both files join.
    turns = row.get("messages") or []
    return row_id("p", [[t["role"], t["content"]] for t in turns] if len(turns) > 1 else row["prompt"])


def _answer_id(side: str) -> FillRule:
    def make(row: Row, rows: FillState) -> str:
        return row_id("c", row["prompt_id"], [turn["content"] for turn in row[side]])

    return FillRule(f"{side}_id", f"made from prompt_id and {side}", make)


def _turns(row: Row, rows: FillState) -> list[Row]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]


def _numbered(of: str) -> FillRule:
    return FillRule(
        "sample", f"0, 1, 2, … in the rows of a {of}", lambda row, rows: rows.next_sample(row[f"{of}_id"])
    )


_BY_TEXT = "the id of the run's prompt with the text of prompt, or made from it"
_ITERATION = FillRule("iteration", "that of the dataset's name", lambda row, rows: rows.iteration)
_JUDGED = _constants(judge=MODEL, template=MODEL, judge_mode="sampled", injection_suspected=False)

# In this order: a rule may read what earlier ones have filled in.
_RULES: dict[str, tuple[FillRule, ...]] = {
    "seeds": (
        _id("prompt_id", "q", "prompt"),
        _id("seed_id", "s", "prompt_id", "response"),
        *_constants(lang="en", source=MODEL),
    ),
    "ift": (
        _id("source_id", "s", "prompt", "response"),
        _id("ift_id", "ift", "source_id"),
        FillRule("messages", "prompt as the user's turn, response as the assistant's", _turns),
        *_constants(lang="en", source=MODEL),
    ),
    "eft": (
        _id("prompt_id", "q", "prompt"),
        _id("response_id", "s", "prompt_id", "response"),
        FillRule("source_id", "response_id", lambda row, rows: row["response_id"]),
        _id("eft_id", "eft", "source_id"),
        FillRule("accepted", "whether there is a target", lambda row, rows: row["target"] is not None),
        *_constants(source=MODEL),
    ),
    "prompts": (
        FillRule("prompt_id", "made from prompt, or from all turns of messages", _chat_id, ("prompt",)),
        *_constants(demonstration_ids=[], generator=MODEL, kept=True, round=0, seed=0),
    ),
    "candidates": (
        FillRule(
            "prompt_id",
            _BY_TEXT,
            lambda row, rows: rows.prompt_id(row["prompt"], must_exist=True),
            ("prompt",),
        ),
        _numbered("prompt"),
        _id("candidate_id", "c", "prompt_id", "sample"),
        FillRule("n_chars", "the length of response", lambda row, rows: len(row["response"])),
        *_constants(finish_reason="stop", n_tokens=0, model=MODEL, seed=0),
    ),
    "judgements": (
        *_JUDGED,
        _numbered("candidate"),
        _id("judgement_id", "j", "candidate_id", "sample"),
        FillRule(
            "status",
            "ok with a score, else no_score",
            lambda row, rows: "no_score" if row["score"] is None else "ok",
        ),
        *_constants(finish_reason="stop", n_tokens=0, attempts=1, seed=0),
    ),
    "scores": (
        *_JUDGED,
        *_constants(n_judgements=1),
        FillRule("n_scored", "1 with a score, else 0", lambda row, rows: int(row["score"] is not None)),
    ),
    "pairs": (
        FillRule("prompt_id", _BY_TEXT, _pair_prompt_id),
        _answer_id("chosen"),
        _answer_id("rejected"),
        _id("pair_id", "pair", "chosen_id", "rejected_id"),
        # A human preference has no scores; 1 and 0 keep the margin positive.
        *_constants(chosen_score=1.0, rejected_score=0.0),
        FillRule(
            "margin",
            "chosen_score - rejected_score",
            lambda row, rows: row["chosen_score"] - row["rejected_score"],
        ),
        *_constants(rule=MODEL),
    ),
}


def rules_of(dataset: Dataset) -> tuple[FillRule, ...]:
    """How the columns of a dataset are filled, in this order."""
    return (*((_ITERATION,) if dataset.per_iteration else ()), *_RULES.get(dataset.kind, ()))


def describe_columns(dataset: Dataset) -> list[tuple[str, str, str]]:
    """Column, type, and whether it is needed, filled in (and how) or may be left out."""
    rules = {rule.column: rule for rule in rules_of(dataset)}
    required = required_columns(dataset.row)
    needed = {column for rule in rules.values() for column in rule.needs} - required
    described = [(column, "text", "needed where there is no prompt_id") for column in sorted(needed)]
    if dataset.kind == "prompts":
        described.append(("messages", "list of messages", "optional: a chat; prompt is then its last turn"))
    for name, shown in schema_names(arrow_schema(dataset.row)).items():
        absent = "needed" if name in required else "optional"
        described.append((name, shown, f"if absent: {rules[name].says}" if name in rules else absent))
    return described
