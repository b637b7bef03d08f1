"""The parts of a page: figures with the SQL behind them, real rows, and the run they are read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import SelfrewardError
from selfreward.page.svg import Chart
from selfreward.secrets import mask, mask_values
from selfreward.tables import kind_of
from selfreward.text import formatted, one_line, printable

if TYPE_CHECKING:
    from selfreward.sql.views import OpenRun
    from selfreward.summary.facts import Summary
    from selfreward.summary.settings import Settings

MAX_CHARS = 4000
"""Of one text on the page; what is cut says how long it is."""
# Characters read beyond the cut, so that a secret across it is masked whole.
_LONGEST_SECRET = 4096


class Percent(float):
    """A percentage of a table that is drawn as a bar, too."""


@dataclass(frozen=True)
class Panel:
    """A picture, a table, or both; `note` says how to read it."""

    id: str
    """Of the place on the page, and of the picture's file."""
    title: str
    queries: Sequence[str] = ()
    """Each works in `selfreward sql RUN`."""
    chart: Chart | None = None
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    note: str = ""
    outdated: str = ""
    """Why what is shown is not current."""
    changed: str = ""
    """The last model beside the first, in one sentence."""


@dataclass(frozen=True)
class RealRow:
    """One real row: its texts, rows shown beside each other below them, and rows behind a fold."""

    title: str
    facts: Sequence[tuple[str, Any]] = ()
    texts: Sequence[tuple[str, str | None]] = ()
    """Label, text."""
    beside: Sequence[RealRow] = ()
    folds: Sequence[Fold] = ()


@dataclass(frozen=True)
class Fold:
    """Rows that are shown when asked for."""

    said: str
    rows: Sequence[RealRow]
    opened: bool = False


@dataclass(frozen=True)
class RealRows:
    """Some real rows of a section, and the queries that give them; without rows, `note` says why."""

    id: str
    title: str
    rows: Sequence[RealRow] = ()
    queries: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Part:
    """One section of the page."""

    id: str
    title: str
    said: str = ""
    figures: Sequence[Panel] = ()
    rows: Sequence[RealRows] = ()


@dataclass(frozen=True)
class Told:
    """What the page says about where it lies: in a run folder of this machine, or beside a published card."""

    name: str
    path: str
    """The run folder in the commands on the page."""
    settings: Settings
    config_text: str
    next: Sequence[str]
    unread: str = ""
    """Why the settings could not be read."""
    folder: Path | None = None
    """None for a published copy: it holds nothing that is not in the published versions."""


@dataclass(frozen=True)
class Source:
    """Where figures come from: a run's figures, the run opened for questions, and what the page may say."""

    summary: Summary
    opened: OpenRun
    told: Told
    seconds: dict[str, float] = field(default_factory=dict)
    """Step -> seconds, of steps that were built just now."""

    def has(self, *datasets: str) -> bool:
        """Whether the run has all of these."""
        return all(name in self.summary.versions for name in datasets)

    def last(self, kind: str) -> str | None:
        """The dataset of this kind in the last iteration that has rows of it."""
        # Parsed, so that the name can stand in a query: a stranger's run may have a dataset of any name.
        names = [n for n, v in self.summary.versions.items() if kind_of(n) == kind and v.n_rows]
        return names[-1] if names else None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query. Raises SelfrewardError, in one sentence, if the rows are bad."""
        import duckdb

        try:
            found: list[tuple[Any, ...]] = self.opened.sql(query).fetchall()
        except duckdb.Error as error:
            raise SelfrewardError(one_line(error)) from error
        return found

    def outdated(self, *datasets: str) -> str:
        """Which of these are outdated and why, in one line; empty if none is outdated."""
        found = self.summary.outdated
        return "; ".join(f"{name}: {found[name]}" for name in datasets if name in found)

    def figure(self, id: str, title: str, make: Callable[[], Panel]) -> Panel:
        """The figure, or a panel with the reason for its absence."""
        try:
            return make()
        # Imported rows may lack a column: the figure says so in its place, and the others stay.
        except (SelfrewardError, ValueError, TypeError, KeyError, ArithmeticError) as error:
            return Panel(id, title, note=f"Cannot be shown: {one_line(error)}")

    def shown_rows(self, id: str, title: str, make: Callable[[], RealRows]) -> RealRows:
        """Real rows, or the reason for their absence."""
        try:
            return make()
        # As for figures: imported rows may lack columns or hold odd values.
        except (SelfrewardError, ValueError, TypeError, KeyError, IndexError) as error:
            return RealRows(id, title, note=f"Cannot be shown: {one_line(error)}")


def shown(value: Any) -> str:
    """A value as text of the page: secrets masked, control and bidirectional characters written out, cut if long."""
    text = formatted(value)
    if len(text) <= MAX_CHARS:
        return printable(mask(mask_values(text)))
    # Masked before it is cut, or a secret at the cut would show its first part
    whole = mask(mask_values(text[: MAX_CHARS + _LONGEST_SECRET]))
    return f"{printable(whole[:MAX_CHARS])}… (cut here; {len(text):,} characters in all)"


def literal(text: str) -> str:
    """A text for a query, whatever is in it.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"
