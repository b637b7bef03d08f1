"""Open Assistant exports as `Seed` rows and a funnel.

- message-per-line exports (`parent_id`, `rank`), and the Hub's `OpenAssistant/oasst1`, which has the same columns, as
  JSON lines, CSV or Parquet;
- tree-per-line exports (`prompt.replies[]`), also the embedded set's form.

Only first-turn replies become rows (paper section 3.1.1). A cell of the wrong type is an error with file, row and
column; every skipped reply is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.errors import InputError
from selfreward.reading.files import read_rows
from selfreward.tables import Seed

EMBEDDED = Path(__file__).parents[1] / "builders" / "seeds"
"""The seed set shipped with this package, tree-per-line."""


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


def looks_like_trees(record: dict[str, Any]) -> bool:
    """Whether a record is a tree rather than a message."""
    return isinstance(record.get("prompt"), dict)


def looks_like_messages(record: dict[str, Any]) -> bool:
    """Whether a record is a message of an Open Assistant export."""
    return {"message_id", "role", "text"} <= record.keys()


def read_trees(
    lines: Iterable[tuple[int, dict[str, Any]]], source: str, lang: str, where: str
) -> SeedReading:
    """First-turn replies of tree-per-line records."""
    reading = SeedReading()
    for number, tree in lines:
        prompt = tree.get("prompt")
        if not isinstance(prompt, dict) or not isinstance(prompt.get("replies"), list):
            raise InputError(
                f"{where}:{number}: expected a tree with prompt.replies, found keys {sorted(tree)[:8]}"
            )
        for reply in prompt["replies"]:
            _take_message(reading, prompt, reply, source, lang, f"{where}:{number}")
    require_ranks(reading, where)
    return reading


def read_messages(
    lines: Iterable[tuple[int, dict[str, Any]]], source: str, lang: str, where: str
) -> SeedReading:
    """First-turn replies of message-per-line records in any order."""
    prompts: dict[str, dict[str, Any]] = {}
    replies: list[tuple[int, dict[str, Any]]] = []
    n_deeper = 0
    for number, message in lines:
        if not looks_like_messages(message):
            raise InputError(
                f"{where}:{number}: expected a message with message_id, parent_id, role and text, found keys "
                f"{sorted(message)[:8]}"
            )
        if _is_missing(message.get("parent_id")):
            prompts[message["message_id"]] = message
        elif message["role"] == "assistant":
            # Joined after the loop, since a parent may come after its reply.
            replies.append((number, message))
    reading = SeedReading()
    for number, reply in replies:
        prompt = prompts.get(reply["parent_id"])
        # The parent is itself a reply: a later turn of the conversation.
        if prompt is None:
            n_deeper += 1
        else:
            _take_message(reading, prompt, reply, source, lang, f"{where}:{number}")
    reading.n_in += n_deeper
    if n_deeper:
        reading.dropped["not_first_turn"] = n_deeper
    require_ranks(reading, where)
    return reading


def require_ranks(reading: SeedReading, where: str) -> None:
    """Raise InputError if there are replies but none has a rank."""
    if reading.rows and all(seed.human_rank is None for seed in reading.rows):
        raise InputError(
            f"{where}: none of its {len(reading.rows)} replies has a rank; IFT needs the best reply of a prompt and EFT "
            "an order, so bring an export with `rank`, or a table with seeds.columns.rank or .score"
        )


def number_of(value: Any, where: str, column: str) -> float | None:
    """A rank, score or quality: a number, or a numeric text (from CSV); None and NaN are missing values."""
    if _is_missing(value):
        return None
    try:
        number = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
        )
    except ValueError:
        number = None
    if number is None or math.isinf(number):
        raise InputError(f"{where}: column {column!r} holds {value!r:.60}, expected a number")
    return None if math.isnan(number) else number


def text_of(value: Any, where: str, column: str) -> str:
    """A text; a missing one is empty, and is counted as empty."""
    if _is_missing(value):
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: column {column!r} holds {value!r:.60}, expected a text")
    return value


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _take_message(
    reading: SeedReading, prompt: dict[str, Any], reply: dict[str, Any], source: str, lang: str, where: str
) -> None:
    try:
        seed = Seed(
            seed_id=reply["message_id"],
            prompt_id=prompt["message_id"],
            prompt=text_of(prompt["text"], where, "text"),
            response=text_of(reply["text"], where, "text"),
            human_rank=_rank(reply.get("rank"), where),
            quality=_quality(reply.get("labels"), where),
            lang=reply.get("lang") or lang,
            judgement=reply.get("judgement"),
            source=source,
        )
    except KeyError as error:
        raise InputError(f"{where}: a message has no {error.args[0]!r}") from error
    reading.take(seed, reason_to_leave_out(seed, prompt, reply, lang))


def _rank(value: Any, where: str) -> int | None:
    number = number_of(value, where, "rank")
    if number is not None and number != int(number):
        raise InputError(
            f"{where}: column 'rank' holds {value!r:.60}, expected a whole number (0 is the best)"
        )
    return None if number is None else int(number)


def reason_to_leave_out(seed: Seed, prompt: dict[str, Any], reply: dict[str, Any], lang: str) -> str | None:
    """Why a reply is left out, None if it stays; the first reason counts."""
    if seed.lang != lang or (prompt.get("lang") or lang) != lang:
        return "other_language"
    if _says(prompt.get("deleted"), True) or _says(reply.get("deleted"), True):
        return "deleted"
    if _says(prompt.get("review_result"), False) or _says(reply.get("review_result"), False):
        return "failed_review"
    if not seed.prompt.strip() or not seed.response.strip():
        return "empty"
    return None


def _says(flag: Any, wanted: bool) -> bool:
    """A boolean from JSON or Parquet, or its spelling in a CSV."""
    return flag is wanted or (isinstance(flag, str) and flag.lower() == str(wanted).lower())


def _quality(labels: Any, where: str) -> float | None:
    """Exports write labels as {"quality": {"value": …}} or as {"name": […], "value": […]}."""
    if not isinstance(labels, dict):
        return None
    if isinstance(labels.get("name"), list):
        found = dict(zip(labels["name"], labels["value"], strict=True)).get("quality")
    else:
        found = (labels.get("quality") or {}).get("value")
    return number_of(found, where, "labels.quality")


def embedded_seeds() -> SeedReading:
    """The seeds shipped with this package."""
    lines = [line for path in sorted(EMBEDDED.glob("*.jsonl")) for line in read_rows(path)]
    return read_trees(lines, "embedded", "en", "builders/seeds")
