"""What `selfreward import` fills in where a file has no such column, so that people can bring what they have.

    prompts: `prompt` is enough.   candidates: `response` and `prompt` or `prompt_id`.   pairs: `chosen`, `rejected`, `prompt`

Each rule fills one column from the row (columns filled before it included) and says so in words, for
`selfreward import RUN DATASET --columns` and docs/own-data.md. Ids are made from texts: the same file gives the same ids,
and prompts, candidates and pairs that were imported apart still join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from selfreward.errors import InputError
from selfreward.store.contenthash import schema_names
from selfreward.tables import arrow_schema, required_columns, row_id

Row = dict[str, Any]
MODEL = "import"
"""What stands where rows name the model, judge, rule or source they come from."""


@dataclass
class Rows:
    """What the rules know beside the row itself; they go over the rows of a file in order."""

    where: str
    iteration: int | None
    prompt_ids: Mapping[str, str]
    """Prompts of the run by their text: the ids that candidates and pairs refer to. Empty: ids are made from texts."""
    seen: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def next_sample(self, of: str) -> int:
        """How many rows there were of the same prompt, or of the same candidate."""
        self.seen[of] += 1
        return self.seen[of] - 1

    def prompt_id(self, text: str, must_exist: bool = False) -> str:
        """The id of the run's prompt with this text, or one made from it."""
        if must_exist and self.prompt_ids and text not in self.prompt_ids:
            raise InputError(
                f"{self.where}: row {self.number}: column 'prompt' holds {text!r:.60}, which is none of the "
                f"{len(self.prompt_ids)} prompts of iter{self.iteration}/prompts; import those first, or give a prompt_id"
            )
        return self.prompt_ids.get(text) or row_id("p", text)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one column is filled, in words and in code; `needs` are the columns of the file that it reads."""

    column: str
    says: str
    make: Callable[[Row, Rows], Any]
    needs: tuple[str, ...] = ()


def _constant(column: str, value: Any) -> Rule:
    return Rule(
        column, repr(value).replace("'", "") if value != [] else "an empty list", lambda row, rows: value
    )


def _pair_prompt_id(row: Row, rows: Rows) -> str:
    if len(row["prompt"]) == 1:
        return rows.prompt_id(row["prompt"][0]["content"])
    return row_id("p", [[turn["role"], turn["content"]] for turn in row["prompt"]])


_ITERATION = Rule("iteration", "that of the dataset's name", lambda row, rows: rows.iteration)
_SOURCE = _constant("source", MODEL)
_ENGLISH = _constant("lang", "en")
_SEED_PROMPT_ID = Rule(
    "prompt_id", "made from prompt", lambda row, rows: row_id("q", row["prompt"]), ("prompt",)
)
_JUDGED = (
    _constant("judge", MODEL),
    _constant("template", MODEL),
    _constant("judge_mode", "sampled"),
)

RULES: dict[str, tuple[Rule, ...]] = {
    "seeds": (
        _SEED_PROMPT_ID,
        Rule(
            "seed_id",
            "made from prompt_id and response",
            lambda row, rows: row_id("s", row["prompt_id"], row["response"]),
            ("response",),
        ),
        _ENGLISH,
        _SOURCE,
    ),
    "ift": (
        Rule(
            "source_id",
            "made from prompt and response",
            lambda row, rows: row_id("s", row["prompt"], row["response"]),
            ("prompt", "response"),
        ),
        Rule("ift_id", "made from source_id", lambda row, rows: row_id("ift", row["source_id"])),
        Rule(
            "messages",
            "prompt as the user's turn, response as the assistant's",
            lambda row, rows: [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["response"]},
            ],
            ("prompt", "response"),
        ),
        _ENGLISH,
        _SOURCE,
    ),
    "eft": (
        _SEED_PROMPT_ID,
        Rule(
            "response_id",
            "made from prompt_id and response",
            lambda row, rows: row_id("s", row["prompt_id"], row["response"]),
            ("response",),
        ),
        Rule("source_id", "response_id", lambda row, rows: row["response_id"]),
        Rule("eft_id", "made from source_id", lambda row, rows: row_id("eft", row["source_id"])),
        Rule("accepted", "whether there is a target", lambda row, rows: row["target"] is not None),
        _SOURCE,
    ),
    "prompts": (
        _ITERATION,
        Rule("prompt_id", "made from prompt", lambda row, rows: row_id("p", row["prompt"]), ("prompt",)),
        _constant("demonstration_ids", []),
        _constant("generator", MODEL),
        _constant("kept", True),
        _constant("round", 0),
        _constant("seed", 0),
    ),
    "candidates": (
        _ITERATION,
        Rule(
            "prompt_id",
            "the id of the run's prompt with the text of prompt, or made from it",
            lambda row, rows: rows.prompt_id(row["prompt"], must_exist=True),
            ("prompt",),
        ),
        Rule("sample", "0, 1, 2, … in a prompt's rows", lambda row, rows: rows.next_sample(row["prompt_id"])),
        Rule(
            "candidate_id",
            "made from prompt_id and sample",
            lambda row, rows: row_id("c", row["prompt_id"], row["sample"]),
        ),
        _constant("finish_reason", "stop"),
        _constant("n_tokens", 0),
        Rule("n_chars", "the length of response", lambda row, rows: len(row["response"]), ("response",)),
        _constant("model", MODEL),
        _constant("seed", 0),
    ),
    "judgements": (
        _ITERATION,
        *_JUDGED,
        Rule(
            "sample",
            "0, 1, 2, … in a candidate's rows",
            lambda row, rows: rows.next_sample(row["candidate_id"]),
        ),
        Rule(
            "judgement_id",
            "made from candidate_id and sample",
            lambda row, rows: row_id("j", row["candidate_id"], row["sample"]),
        ),
        Rule(
            "status",
            "ok where there is a score, else no_score",
            lambda row, rows: "no_score" if row["score"] is None else "ok",
        ),
        _constant("finish_reason", "stop"),
        _constant("n_tokens", 0),
        _constant("attempts", 1),
        _constant("injection_suspected", False),
        _constant("seed", 0),
    ),
    "scores": (
        _ITERATION,
        *_JUDGED,
        _constant("n_judgements", 1),
        Rule("n_scored", "1 where there is a score, else 0", lambda row, rows: int(row["score"] is not None)),
        _constant("injection_suspected", False),
    ),
    "pairs": (
        _ITERATION,
        Rule(
            "prompt_id",
            "the id of the run's prompt with the text of prompt, or made from it",
            _pair_prompt_id,
            ("prompt",),
        ),
        Rule("chosen_id", "made from prompt_id and chosen", lambda row, rows: _answer_id(row, "chosen")),
        Rule(
            "rejected_id", "made from prompt_id and rejected", lambda row, rows: _answer_id(row, "rejected")
        ),
        Rule(
            "pair_id",
            "made from chosen_id and rejected_id",
            lambda row, rows: row_id("pair", row["chosen_id"], row["rejected_id"]),
        ),
        _constant("chosen_score", 1.0),
        _constant("rejected_score", 0.0),
        Rule(
            "margin",
            "chosen_score less rejected_score",
            lambda row, rows: row["chosen_score"] - row["rejected_score"],
        ),
        _constant("rule", MODEL),
    ),
    "judge_eval": (_ITERATION,),
    "model_outputs": (_ITERATION,),
    "annotations": (_ITERATION,),
}


def _answer_id(row: Row, side: str) -> str:
    return row_id("c", row["prompt_id"], [turn["content"] for turn in row[side]])


def describe_columns(kind: str, row_class: type) -> list[tuple[str, str, str]]:
    """Column, type, and whether it is needed, filled in (and how) or may be left out; for people."""
    rules = {rule.column: rule.says for rule in RULES[kind]}
    required = required_columns(row_class)
    needed = {column for rule in RULES[kind] for column in rule.needs} - required
    described = [(column, "text", "needed where there is no prompt_id") for column in sorted(needed)]
    for name, shown in schema_names(arrow_schema(row_class)).items():
        role = f"if absent: {rules[name]}" if name in rules else "needed" if name in required else "optional"
        described.append((name, shown, role))
    return described
