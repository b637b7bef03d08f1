"""Reading human-ranked seed replies from the forms people have them in, into `Seed` rows and a funnel.

- Open Assistant message-per-line exports (`parent_id`, `rank`), and the Hub's `OpenAssistant/oasst1`, which has
  the same columns;
- Open Assistant tree-per-line exports (`prompt.replies[]`), also the embedded set's form;
- any ranked table (jsonl, csv, parquet) through a column mapping.

Plain or .gz. Only first-turn replies become rows (paper section 3.1.1). A line that cannot be read stops with file and
line number; nothing is skipped without a count.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.errors import InputError
from selfreward.tables import Seed

EMBEDDED = Path(__file__).parents[1] / "builders" / "seeds"


@dataclass
class SeedReading:
    """The rows, and what was left out: `n_in` replies were seen, `dropped` counts the rest by reason."""

    rows: list[Seed] = field(default_factory=list)
    n_in: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def take(self, seed: Seed, reason: str | None) -> None:
        """Count one first-turn reply, kept unless there is a reason."""
        self.n_in += 1
        if reason is None:
            self.rows.append(seed)
        else:
            self.dropped[reason] += 1


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a jsonl file; InputError names the file and the first broken line."""
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise InputError(
                            f"{path}:{number}: expected a JSON object, found {type(value).__name__}"
                        )
                    yield number, value
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{number}: is not valid JSON ({error.msg} at column {error.colno})"
        ) from error
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise InputError(f"{path}:{number + 1}: cannot be read as UTF-8 text: {error}") from error


def looks_like_trees(record: dict[str, Any]) -> bool:
    """Whether a record is a tree rather than a message."""
    return isinstance(record.get("prompt"), dict)


def read_trees(
    lines: Iterable[tuple[int, dict[str, Any]]], source: str, lang: str, where: str
) -> SeedReading:
    """First-turn replies of tree-per-line records."""
    reading = SeedReading()
    for number, tree in lines:
        prompt = tree.get("prompt")
        if not isinstance(prompt, dict) or "replies" not in prompt:
            raise InputError(
                f"{where}:{number}: expected a tree with prompt.replies, found keys {sorted(tree)[:8]}"
            )
        for reply in prompt["replies"]:
            _take_message(reading, prompt, reply, source, lang, f"{where}:{number}")
    _require_ranks(reading, where)
    return reading


def read_messages(
    lines: Iterable[tuple[int, dict[str, Any]]], source: str, lang: str, where: str
) -> SeedReading:
    """First-turn replies of message-per-line records (a reply's parent may stand before or after it)."""
    prompts: dict[str, dict[str, Any]] = {}
    replies: list[tuple[int, dict[str, Any]]] = []
    n_deeper = 0
    for number, message in lines:
        if "message_id" not in message or "role" not in message or "text" not in message:
            raise InputError(
                f"{where}:{number}: expected a message with message_id, parent_id, role and text, found keys "
                f"{sorted(message)[:8]}"
            )
        if message.get("parent_id") is None:
            prompts[message["message_id"]] = message
        elif message["role"] == "assistant":
            replies.append((number, message))
    reading = SeedReading()
    for number, reply in replies:
        prompt = prompts.get(reply["parent_id"])
        if prompt is None:
            n_deeper += 1
        else:
            _take_message(reading, prompt, reply, source, lang, f"{where}:{number}")
    reading.n_in += n_deeper
    if n_deeper:
        reading.dropped["not_first_turn"] = n_deeper
    _require_ranks(reading, where)
    return reading


def read_table(
    records: Iterable[dict[str, Any]], columns: dict[str, str], source: str, lang: str
) -> SeedReading:
    """Rows of any table; `columns` maps our names to the table's. Equal prompts are one prompt."""
    names = {name: columns.get(name, name) for name in _TABLE_COLUMNS}
    records = list(records)
    if not records:
        raise InputError(f"{source}: has no rows")
    for required in ("prompt", "response"):
        if names[required] not in records[0]:
            raise InputError(
                f"{source}: has no column {names[required]!r} for {required}; its columns are {sorted(records[0])}. "
                f"Name it with seeds.columns.{required}"
            )
    if names["rank"] not in records[0] and names["score"] not in records[0]:
        raise InputError(
            f"{source}: has neither a column {names['rank']!r} nor {names['score']!r}; name the one that ranks the "
            "replies with seeds.columns.rank (0 best) or seeds.columns.score (higher is better)"
        )
    ranks = _ranks_of_table(records, names, source)
    reading = SeedReading()
    for number, record in enumerate(records):
        prompt, response = record[names["prompt"]], record[names["response"]]
        prompt_id = str(record.get(names["prompt_id"]) or _text_id(prompt))
        seed = Seed(
            seed_id=str(record.get(names["response_id"]) or f"{prompt_id}-{number}"),
            prompt_id=prompt_id,
            prompt=str(prompt or ""),
            response=str(response or ""),
            human_rank=ranks[number],
            quality=record.get(names["quality"]),
            lang=str(record.get(names["lang"]) or lang),
            judgement=record.get(names["judgement"]),
            source=source,
        )
        reading.take(seed, _reason(seed, {}, {}, lang))
    _require_ranks(reading, source)
    return reading


_TABLE_COLUMNS = (
    "prompt",
    "response",
    "rank",
    "score",
    "prompt_id",
    "response_id",
    "quality",
    "lang",
    "judgement",
)


def _ranks_of_table(records: list[dict[str, Any]], names: dict[str, str], source: str) -> list[int | None]:
    """Ranks as given, or from scores: 0 for a prompt's highest score, equal scores share a rank."""
    use_rank = names["rank"] in records[0]
    column = names["rank"] if use_rank else names["score"]
    by_prompt: dict[str, set[float]] = {}
    for number, record in enumerate(records, 1):
        value = record.get(column)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{source}: row {number}: column {column!r} holds {value!r}, expected a number")
        if value is not None:
            by_prompt.setdefault(str(record[names["prompt"]]), set()).add(float(value))
    order = {
        prompt: {value: rank for rank, value in enumerate(sorted(values, reverse=not use_rank))}
        for prompt, values in by_prompt.items()
    }
    return [
        None if record.get(column) is None else order[str(record[names["prompt"]])][float(record[column])]
        for record in records
    ]


def _take_message(
    reading: SeedReading, prompt: dict[str, Any], reply: dict[str, Any], source: str, lang: str, where: str
) -> None:
    try:
        seed = Seed(
            seed_id=reply["message_id"],
            prompt_id=prompt["message_id"],
            prompt=prompt["text"],
            response=reply["text"],
            human_rank=reply.get("rank"),
            quality=_quality(reply.get("labels")),
            lang=reply.get("lang") or lang,
            judgement=reply.get("judgement"),
            source=source,
        )
    except KeyError as error:
        raise InputError(f"{where}: a message has no {error.args[0]!r}") from error
    reading.take(seed, _reason(seed, prompt, reply, lang))


def _reason(seed: Seed, prompt: dict[str, Any], reply: dict[str, Any], lang: str) -> str | None:
    """Why a reply is left out, None if it stays; the first reason counts."""
    if seed.lang != lang or prompt.get("lang", lang) != lang:
        return "other_language"
    if prompt.get("deleted") or reply.get("deleted"):
        return "deleted"
    if prompt.get("review_result") is False or reply.get("review_result") is False:
        return "failed_review"
    if not seed.prompt.strip() or not seed.response.strip():
        return "empty"
    return None


def _quality(labels: Any) -> float | None:
    """Exports write labels as {"quality": {"value": …}} or as {"name": […], "value": […]}."""
    if not isinstance(labels, dict):
        return None
    if isinstance(labels.get("name"), list):
        found = dict(zip(labels["name"], labels["value"], strict=True)).get("quality")
    else:
        found = (labels.get("quality") or {}).get("value")
    return None if found is None else float(found)


def _require_ranks(reading: SeedReading, where: str) -> None:
    if reading.rows and all(seed.human_rank is None for seed in reading.rows):
        raise InputError(
            f"{where}: none of its {len(reading.rows)} replies has a rank; IFT needs the best reply of a prompt and EFT "
            "an order, so bring an export with `rank`, or a table with seeds.columns.rank or .score"
        )


def _text_id(text: Any) -> str:
    from selfreward.tables import row_id

    return row_id("q", str(text))
