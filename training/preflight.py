"""Counts, before training, the rows that would be cut, dropped or malformed with this tokenizer and this length.

TRL silently cuts the end of a long row and drops a row whose prompt leaves no room. On an EFT row that end is the score,
so such a row is always refused; other cuts are refused above a threshold. The rows that pass are the rows trained on:
`selfreward.training.run` compares the trainer's own number of rows with this count.

    longest row 612 tokens, limit 8192; 330 rows, 330 kept, 0 cut

Not covered: whether a row makes sense. The audits check that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from selfreward.config.training import TrainingConfig
from selfreward.errors import TrainingError
from selfreward.models.tokenizer import chat_ids, is_doubled
from selfreward.progress import bar
from selfreward.training.data import Row


@dataclass(frozen=True)
class Tokens:
    """One prompt and one answer, as token ids; `prompt + answer` is what the model reads."""

    prompt: list[int]
    answer: list[int]
    altered: bool
    """The template renders the prompt differently when an answer follows, so its end counts as answer."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Checked:
    """A row to train on, and the token ids of each of its answers."""

    row: Row
    sides: list[Tokens]


@dataclass
class Preflight:
    """The counts, in rows unless noted; `rows = kept + sum(dropped)`."""

    rows: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    """By source; these rows are kept."""
    cut_judgements: int = 0
    """EFT rows and pairs of judgements too long for their score."""
    doubled_begin: int = 0
    doubled_end: int = 0
    without_end: int = 0
    """Answers without an end-of-turn token: the model would not learn to stop."""
    altered_prompts: int = 0
    limit: int | None = None
    longest: int = 0
    tokens: int = 0
    """Prompts and answers of the kept rows; a pair's prompt counts twice."""
    answer_tokens: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def tokenize(tokenizer: Any, row: Row, answers: Sequence[str]) -> list[Tokens]:
    """Token ids of each of a row's answers, with the prompt before it, split as TRL 1.16 splits them.

    The answer starts where the prompt alone and the prompt with an answer part; both answers of a pair at the same place.
    """
    alone = chat_ids(tokenizer, row["prompt"], answering=True)
    wholes = [chat_ids(tokenizer, row["prompt"] + row[a]) for a in answers]
    split = min(_common_prefix(alone, whole) for whole in wholes)
    return [Tokens(whole[:split], whole[split:], altered=split < len(alone)) for whole in wholes]


def check_rows(
    rows: Sequence[Row], answers: Sequence[str], tokenizer: Any, limit: int | None
) -> tuple[list[Checked], Preflight]:
    """The rows to train on, and the counts. `answers` names the columns: `completion`, or both of a pair."""
    report = Preflight(rows=len(rows), limit=limit)
    dropped: Counter[str] = Counter()
    truncated: Counter[str] = Counter()
    kept = []
    with bar(len(rows), "preflight", "row") as progress:
        for row in rows:
            progress.update()
            if reason := _empty(row, answers):
                dropped[reason] += 1
                continue
            sides = tokenize(tokenizer, row, answers)
            longest = max(map(len, sides))
            report.longest = max(report.longest, longest)
            is_cut = limit is not None and longest > limit
            report.cut_judgements += is_cut and row["source"] in ("eft", "judge_pairs")
            # TRL would drop it silently: no answer token is left.
            if limit is not None and len(sides[0].prompt) >= limit:
                dropped["prompt_fills_length"] += 1
                continue
            truncated[row["source"]] += is_cut
            _count(report, sides, tokenizer, limit)
            kept.append(Checked(row, sides))
    report.kept, report.dropped, report.truncated = len(kept), dict(dropped), dict(+truncated)
    return kept, report


def refuse(report: Preflight, config: TrainingConfig, unit: str) -> None:
    """TrainingError, with the counts, if the rows should not be trained on. `unit` is `row` or `pair`."""
    rows = max(report.rows, 1)
    if report.cut_judgements:
        raise TrainingError(
            f"{report.cut_judgements} of {report.rows} rows are judgements longer than {report.limit} tokens: cutting "
            f"them would lose the score at their end; the longest row has {report.longest} tokens, so raise max_length "
            "to that, or shorten the judge template or the responses"
        )
    truncated, dropped = sum(report.truncated.values()), sum(report.dropped.values())
    if truncated / rows > config.max_truncated_share:
        raise TrainingError(
            f"{truncated} of {report.rows} {unit}s are longer than {report.limit} tokens and would lose their end "
            f"(max_truncated_share is {config.max_truncated_share}); the longest has {report.longest}: raise "
            "max_length, or max_truncated_share if that is what you want"
        )
    if dropped / rows > config.max_dropped_share:
        raise TrainingError(
            f"{dropped} of {report.rows} {unit}s cannot be trained on: {_listed(report.dropped)} "
            f"(max_dropped_share is {config.max_dropped_share})"
        )
    malformed = report.doubled_begin + report.doubled_end
    if malformed / rows > config.max_dropped_share:
        raise TrainingError(
            f"of {report.rows} {unit}s, {report.doubled_begin} have a doubled begin token and {report.doubled_end} a "
            "doubled end token: the texts contain the template's own tokens; remove them from the rows, or raise "
            f"max_dropped_share ({config.max_dropped_share})"
        )
    if report.kept < config.min_rows:
        raise TrainingError(
            f"found {report.kept} {unit}s, too few to train on; expected at least {config.min_rows} (min_rows)"
        )


def _empty(row: Row, answers: Sequence[str]) -> str | None:
    """The reason why there is nothing to learn from a row, or None."""
    texts = {
        name: "".join(message["content"] for message in row[name]).strip() for name in ("prompt", *answers)
    }
    empty = next((f"empty_{name}" for name, text in texts.items() if not text), None)
    same = len(answers) == 2 and texts["chosen"] == texts["rejected"]
    return empty or ("identical_answers" if same else None)


def _count(report: Preflight, sides: list[Tokens], tokenizer: Any, limit: int | None) -> None:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    report.doubled_begin += any(is_doubled(side.prompt + side.answer, bos) for side in sides)
    report.doubled_end += any(is_doubled(side.answer, eos) for side in sides)
    report.without_end += any(eos not in side.answer for side in sides)
    report.altered_prompts += any(side.altered for side in sides)
    for side in sides:
        length = len(side) if limit is None else min(len(side), limit)
        report.tokens += length
        report.answer_tokens += max(length - len(side.prompt), 0)


def _common_prefix(first: list[int], second: list[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(counts.items()))
