"""A snapshot of the AlpacaEval leaderboard: the rows, their source, date and hash.

Entries change (Gemini Pro was 16.85 and is 18.18), so a figure means little without its snapshot.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from selfreward.errors import InputError, UsageError
from selfreward.evaluation.alpaca.harness import alpaca_eval_folder
from selfreward.evaluation.alpaca.result import AlpacaResult
from selfreward.reading.opening import read_text
from selfreward.text import format_table

PUBLISHED_ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
PUBLISHED_REFERENCE = "gpt4_1106_preview"
SHIPPED = Path("leaderboards", "data_AlpacaEval_2", f"{PUBLISHED_ANNOTATOR}_leaderboard.csv")
KNOWN_DATES = {"fe32bf85c2f7429038faa4c9a884d1d131726454ff84a4b810a91c1c7a2aa0e9": "2024-12-27"}
"""Release date of the alpaca-eval that shipped the table with this hash (0.6.6)."""

Value = float | str | None


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Rows by model name; numbers are floats, an empty cell is None."""

    rows: dict[str, dict[str, Value]]
    source: str
    date: str
    sha256: str
    """Of the table's bytes (unpacked)."""

    def sorted_by(self, column: str = "length_controlled_winrate") -> list[tuple[str, dict[str, Value]]]:
        """Highest first (names: alphabetically); rows without a value last. Unknown column: `UsageError`."""
        columns = ["model", *next(iter(self.rows.values()))]
        if column not in columns:
            raise UsageError(f"the leaderboard has no column {column!r}; it has {', '.join(columns)}")

        def rank(item: tuple[str, dict[str, Value]]) -> tuple[int, float, str]:
            value = item[0] if column == "model" else item[1].get(column)
            if isinstance(value, float):
                return 0, -value, ""
            return (2, 0.0, "") if value is None else (1, 0.0, value)

        return sorted(self.rows.items(), key=rank)


def leaderboard(path: Path | None = None) -> Leaderboard:
    """The table in `path` (CSV, plain or gzip), or the one shipped with the installed alpaca-eval."""
    shipped = path is None
    # read here, not by `alpaca_eval.evaluate`, which overwrites a table that it is given as a path
    path = path or alpaca_eval_folder() / SHIPPED
    text = read_text(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    source = f"alpaca-eval {version('alpaca-eval')}" if shipped else path.name
    date = KNOWN_DATES.get(digest) or f"file of {datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}"
    return Leaderboard(_rows(text, path), source, date, digest)


def format_leaderboard(
    board: Leaderboard,
    by: str = "length_controlled_winrate",
    limit: int | None = None,
    mine: Mapping[str, Mapping[str, Value]] | None = None,
) -> str:
    """The table for a terminal, sorted, `limit` rows of it; `mine` (name to figures) is merged in and marked."""
    marked = {f"> {name}": dict(row) for name, row in (mine or {}).items()}
    merged = Leaderboard({**board.rows, **marked}, board.source, board.date, board.sha256)
    ranked = merged.sorted_by(by)
    shown = [item for n, item in enumerate(ranked) if limit is None or n < limit or item[0] in marked]
    rows = [
        (
            name,
            *(_cell(row.get(key), "6.2f") for key in ("win_rate", "length_controlled_winrate")),
            *(_cell(row.get(key), "5.0f") for key in ("avg_length", "n_total")),
        )
        for name, row in shown
    ]
    table = format_table(("model", "win rate", "LC", "length", "n"), rows)
    return f"{table}\n{board.source}, {board.date}, {len(board.rows)} models, sha256 {board.sha256[:12]}"


def format_beside(result: AlpacaResult, path: Path | None, by: str) -> str:
    """A result among the rows of the leaderboard, or a note if the two are not comparable."""
    if path is None and (result.annotator, result.reference) != (PUBLISHED_ANNOTATOR, PUBLISHED_REFERENCE):
        return (
            f"No leaderboard beside it: that is judged by {PUBLISHED_ANNOTATOR} against {PUBLISHED_REFERENCE}, this "
            f"by {result.annotator or 'an unnamed judge'} against {result.reference or 'an unnamed reference'}. Show one "
            "with --leaderboard FILE."
        )
    board = leaderboard(path)
    columns = {column for row in board.rows.values() for column in row}
    mine = {column: value for column, value in result.to_dict().items() if column in columns}
    mine["n_total"] = result.n_annotated  # the leaderboard counts only what was annotated
    return format_leaderboard(board, by, 20, {result.model: mine})


def _rows(text: str, path: Path) -> dict[str, dict[str, Value]]:
    """The rows by model name."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = list(reader.fieldnames or [])
    if "win_rate" not in columns:
        raise InputError(
            f"{path.name}: not a leaderboard; expected a CSV with the model's name first and win_rate"
        )
    # by position: alpaca-eval leaves the head of the first column empty
    name, *values = columns
    rows = {row[name]: {column: _value(row[column]) for column in values} for row in reader}
    if not rows:
        raise InputError(f"{path.name}: the leaderboard has no rows")
    return rows


def _value(cell: str | None) -> Value:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return cell


def _cell(value: Value, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else (value or "")
