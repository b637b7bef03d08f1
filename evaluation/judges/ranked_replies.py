"""Human-ranked replies in common formats, as rows to measure a judge on.

    {"prompt_id": "e0cf…", "response_id": "4d72…", "prompt": "What is …", "response": "…", "human_rank": 0}

- Open Assistant exports, message-per-line or tree-per-line (first-turn replies, as in paper section 3.1.1);
- PandaLM's test set: the majority of its three annotators, a split verdict as a tie;
- any table (jsonl, json, csv, parquet; .gz) or dataset folder with `prompt`, `response` and `human_rank` (0 best) or
  `human_score` (higher is better), `prompt_id` and `response_id` if it has them;
- chosen / rejected tables, also as a dataset of the Hub (`OWNER/NAME`);
- the EFT eval split of a run.

A reply without a rank, or the only one to its prompt, cannot be compared with anything: it is dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.judging.agreement.human import (
    AnnotatorAgreement,
    annotator_agreement,
    pair_rows,
    preference_rows,
    read_pandalm,
)
from selfreward.judging.agreement.rating_tables import check_ratings
from selfreward.reading.files import read_rows
from selfreward.reading.hub import hub_rows
from selfreward.reading.oasst import (
    SeedReading,
    looks_like_messages,
    looks_like_trees,
    number_of,
    read_messages,
    read_trees,
)
from selfreward.reading.opening import kind_of
from selfreward.statistics import drawn
from selfreward.tables import row_id

if TYPE_CHECKING:
    import pandas as pd

    from selfreward.store.run import Run

ReplyRow = dict[str, Any]
_NEEDED = ("prompt", "response")
_HUMAN = ("human_rank", "human_score")


@dataclass(frozen=True, slots=True)
class RankedReplies:
    """Rows with `prompt_id`, `response_id`, `prompt`, `response` and a human rank or score; counts of excluded rows."""

    source: str
    rows: tuple[ReplyRow, ...]
    dropped: dict[str, int]

    @property
    def n_prompts(self) -> int:
        """Prompts with two replies or more."""
        return len({row["prompt_id"] for row in self.rows})

    @property
    def sentence(self) -> str:
        """The measured rows, and the excluded ones."""
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items())
        kept = f"{self.source}: {len(self.rows):,} replies to {self.n_prompts:,} prompts"
        return f"{kept}; left out: {dropped}" if dropped else kept

    @property
    def annotators(self) -> AnnotatorAgreement | None:
        """Agreement between annotators, if each pair has the verdicts of several."""
        verdicts = {row["prompt_id"]: row["verdicts"] for row in self.rows if "verdicts" in row}
        return annotator_agreement(list(verdicts.values())) if verdicts else None


def read_ranked(
    data: str, lang: str = "en", split: str = "train", n_prompts: int | None = None
) -> RankedReplies:
    """Read a file, a dataset folder or a Hub dataset; at most `n_prompts` whole prompts, drawn by a hash of their ids."""
    path = Path(data)
    if path.is_dir():
        rows, dropped = _table_rows(_folder_rows(path), path.name), Counter[str]()
    elif path.is_file():
        rows, dropped = _file_rows(path, lang)
    elif data.count("/") == 1 and not path.suffix:
        rows, dropped = (
            _table_rows([row for _, row in hub_rows(data, split, None, "--data")], data),
            Counter[str](),
        )
    else:
        raise InputError(f"{data}: no such file, and not the name of a Hub dataset (OWNER/NAME)")
    # a reply without a rank, or the only one to its prompt, cannot be compared: dropped, and counted
    rows = _ranked_only(rows, dropped)
    rows = _several_replies_only(rows, dropped)
    if not rows:
        raise InputError(
            f"{path.name}: no prompt has two ranked replies, so there is no order to agree with ({_words(dropped)})"
        )
    rows = _draw(rows, n_prompts, dropped)
    _refuse_repeated_ids(rows, path.name)
    return RankedReplies(path.name, tuple(rows), dict(dropped))


def run_replies(run: Run, n_prompts: int | None = None) -> RankedReplies:
    """The EFT eval split of a run."""
    columns = ["split", "prompt_id", "response_id", "prompt", "response", "human_rank"]
    rows = [row for row in run.current("eft").table(columns).to_pylist() if row.pop("split") == "eval"]
    dropped: Counter[str] = Counter()
    kept = _draw(_several_replies_only(rows, dropped), n_prompts, dropped)
    if not kept:
        raise InputError(f"{run.path}: its EFT eval split has no prompt with two ranked replies")
    return RankedReplies("eft eval split", tuple(kept), dict(dropped))


def check_ranks(replies: RankedReplies) -> None:
    """Check the human ranks before the first request, as the measures do afterwards."""
    columns = {name: [row.get(name) for row in replies.rows] for name in replies.rows[0]}
    check_ratings(columns | {"score": [None] * len(replies.rows)}, where=replies.source)


def by_prompt(rows: Iterable[ReplyRow]) -> list[list[ReplyRow]]:
    """The replies of each prompt."""
    groups: dict[str, list[ReplyRow]] = {}
    for row in rows:
        groups.setdefault(row["prompt_id"], []).append(row)
    return list(groups.values())


def human_verdict(one: ReplyRow, other: ReplyRow) -> int:
    """The reply that humans prefer (lower rank or higher score): 1 or 2, or 0 for a tie."""
    better = [
        -row["human_rank"] if row.get("human_rank") is not None else row["human_score"]
        for row in (one, other)
    ]
    return 0 if better[0] == better[1] else 1 if better[0] > better[1] else 2


def _file_rows(path: Path, lang: str) -> tuple[list[ReplyRow], Counter[str]]:
    name = path.name
    lines = list(read_rows(path, name))
    if not lines:
        raise InputError(f"{name}: holds no rows")
    first = lines[0][1]
    # by the shape of the first row, not by the file's name: exports are renamed
    if looks_like_trees(first):
        return _of_seeds(read_trees(lines, name, lang, name))
    if looks_like_messages(first):
        return _of_seeds(read_messages(lines, name, lang, name))
    if "cmp_key" in first:
        return _records(pair_rows(read_pandalm(path))), Counter()
    if kind_of(path) == "csv":  # a CSV has only texts, no numbers
        lines = [
            (
                n,
                {
                    key: number_of(cell, f"{name}, row {n}", key) if key in _HUMAN else cell
                    for key, cell in row.items()
                },
            )
            for n, row in lines
        ]
    return _table_rows([record for _, record in lines], name), Counter()


def _of_seeds(reading: SeedReading) -> tuple[list[ReplyRow], Counter[str]]:
    rows = [
        {
            "prompt_id": seed.prompt_id,
            "response_id": seed.seed_id,
            "prompt": seed.prompt,
            "response": seed.response,
            "human_rank": seed.human_rank,
        }
        for seed in reading.rows
    ]
    return rows, Counter(reading.dropped)


def _table_rows(records: list[ReplyRow], name: str) -> list[ReplyRow]:
    """Rows of a table; missing ids are generated. Chosen / rejected tables become two rows each."""
    if not records:
        raise InputError(f"{name}: holds no rows")
    columns = records[0].keys()
    if {"chosen", "rejected"} <= columns:
        import pandas as pd

        return _records(preference_rows(pd.DataFrame(records)))
    human = next((column for column in _HUMAN if column in columns), None)
    lacking = [column for column in _NEEDED if column not in columns]
    if lacking or human is None:
        raise InputError(
            f"{name}: has no column {lacking[0] if lacking else 'human_rank or human_score'}; its columns are "
            f"{', '.join(sorted(map(str, columns)))}"
        )
    rows = []
    for number, record in enumerate(records, start=1):
        for column in _NEEDED:
            if not isinstance(record.get(column), str):
                found = f"{record.get(column)!r:.60}"
                raise InputError(f"{name}, row {number}: column {column} holds {found}, expected a text")
        rating = record.get(human)
        # bool is an int in Python
        if rating is not None and (isinstance(rating, bool) or not isinstance(rating, int | float)):
            raise InputError(f"{name}, row {number}: column {human} holds {rating!r:.60}, expected a number")
        prompt_id = str(record.get("prompt_id") or row_id("q", record["prompt"]))
        rows.append(
            {
                "prompt_id": prompt_id,
                "response_id": str(record.get("response_id") or f"{prompt_id}-{number}"),
                "prompt": record["prompt"],
                "response": record["response"],
                human: record.get(human),
            }
        )
    return rows


def _ranked_only(rows: list[ReplyRow], dropped: Counter[str]) -> list[ReplyRow]:
    # unequal to itself: NaN, which pandas leaves for an empty cell
    kept = [row for row in rows if any(row.get(column) == row.get(column) is not None for column in _HUMAN)]
    _count(dropped, "no_human_rank", len(rows) - len(kept))
    return kept


def _several_replies_only(rows: list[ReplyRow], dropped: Counter[str]) -> list[ReplyRow]:
    sizes = Counter(row["prompt_id"] for row in rows)
    kept = [row for row in rows if sizes[row["prompt_id"]] > 1]
    _count(dropped, "only_ranked_reply", len(rows) - len(kept))
    return kept


def _draw(rows: list[ReplyRow], n_prompts: int | None, dropped: Counter[str]) -> list[ReplyRow]:
    if n_prompts is None:
        return rows
    chosen = drawn((str(row["prompt_id"]) for row in rows), n_prompts)
    kept = [row for row in rows if str(row["prompt_id"]) in chosen]
    _count(dropped, "beyond_n_prompts", len(rows) - len(kept))
    return kept


def _refuse_repeated_ids(rows: list[ReplyRow], name: str) -> None:
    seen = Counter((row["prompt_id"], row["response_id"]) for row in rows)
    repeated = [key for key, n in seen.items() if n > 1]
    if repeated:
        raise InputError(
            f"{name}: {len(repeated)} replies occur more than once, the first is response_id {repeated[0][1]!r} of "
            f"prompt_id {repeated[0][0]!r}"
        )


def _count(dropped: Counter[str], reason: str, n: int) -> None:
    if n:
        dropped[reason] += n


def _words(dropped: Counter[str]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "nothing was dropped"


def _records(frame: pd.DataFrame) -> list[ReplyRow]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _folder_rows(path: Path) -> list[ReplyRow]:
    from selfreward.store.run import load_rows

    return [dict(row) for row in load_rows(path)]
