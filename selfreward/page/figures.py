"""The parts of a page: figures with the SQL behind them, read from a run in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfreward.errors import SelfrewardError
from selfreward.secrets import mask, mask_values
from selfreward.text import one_line, printable

if TYPE_CHECKING:
    from markupsafe import Markup

    from selfreward.sql.views import OpenRun
    from selfreward.summary.facts import Summary
    from selfreward.summary.report import Report

MAX_CHARS = 4000
"""Of one text on the page; what is cut says how long it is."""
# Characters read beyond the cut, so that a secret across it is masked whole.
_LONGEST_SECRET = 4096


@dataclass(frozen=True)
class Panel:
    """A picture, a table, or both; `note` says how to read it."""

    title: str
    queries: Sequence[str] = ()
    """Each works in `selfreward sql RUN`."""
    picture: Markup | None = None
    legend: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    note: str = ""
    outdated: str = ""
    """Why what is shown is not current."""


@dataclass(frozen=True)
class Part:
    """One part of the page with a place to link to."""

    id: str
    title: str
    figures: Sequence[Panel] = ()
    said: str = ""
    part: bool = False
    """Whether it belongs to the section before it."""


@dataclass(frozen=True)
class Source:
    """Where figures come from: the report of a run, and the run opened for questions."""

    report: Report
    opened: OpenRun

    @property
    def summary(self) -> Summary:
        """The run's figures, computed once."""
        return self.report.summary

    def has(self, *datasets: str) -> bool:
        """Whether the run has all of these."""
        return all(name in self.summary.versions for name in datasets)

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

    def figure(self, title: str, make: Callable[[], Panel]) -> Panel:
        """The figure, or a panel with the reason for its absence."""
        try:
            return make()
        # Imported rows may lack a column: the figure says so in its place, and the others stay.
        except (SelfrewardError, ValueError, TypeError, KeyError, ArithmeticError) as error:
            return Panel(title, note=f"Cannot be shown: {one_line(error)}")


def shown(value: Any) -> str:
    """A value as text of the page: secrets masked, control and bidirectional characters written out, cut if long."""
    if value is None:
        return "-"
    # Before int: True is an int in Python.
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    text = str(value)
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
