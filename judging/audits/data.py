"""A run under audit: its views, its configuration, and the tables that audits need, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.sql.queries import quoted
from selfreward.sql.views import VERSIONS, OpenRun
from selfreward.tables import BY_KIND, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreward.config.run import RunConfig

SAMPLE_ROWS = 20_000


class Unavailable(Exception):
    """A table cannot be made for this run; the message is the reason for which audits are skipped."""


@dataclass
class AuditData:
    """A run under audit: its views, the configuration it was made with, and the tables made so far."""

    run: OpenRun
    provided: Mapping[str, Provided]
    """The tables that can be made."""
    iteration: int | None = None
    """None looks at everything; k at the datasets up to iteration k."""
    against: tuple[Path, ...] = ()
    """Evaluation files beside the configured ones."""
    sample_rows: int = SAMPLE_ROWS
    notes: list[str] = field(default_factory=list)
    """Notes on checks that looked at a sample."""
    kept: dict[str, Any] = field(default_factory=dict)
    """Objects that several tables share, such as a tokenizer that is slow to load."""
    _made: set[str] = field(default_factory=set)
    _refused: dict[str, Exception] = field(default_factory=dict)

    @property
    def connection(self) -> Any:
        """DuckDB, with the tables that `need` made."""
        return self.run.bare_connection

    @cached_property
    def config(self) -> RunConfig:
        """The run's configuration; the defaults if it has none (imported data)."""
        from selfreward.config.files import load_config
        from selfreward.config.run import RunConfig

        path = self.run.run.path / "config.yaml"
        return load_config(path) if path.is_file() else RunConfig()

    def has(self, name: str) -> bool:
        """Whether the run has rows of a dataset (or a table can be made)."""
        return name in self.provided or name == VERSIONS or bool(self.run.datasets(name))

    def need(self, names: Iterable[str]) -> None:
        """Make views and tables; datasets that the run lacks are empty. Unavailable says why one cannot be made."""
        for name in names:
            if name in self._made:
                continue
            if name in self._refused:
                raise self._refused[name]
            if name in self.provided:
                made = self._make(name)
                if made is not None:
                    self.connection.register(name, made)
            elif self.run.datasets(name) or name == VERSIONS:
                self.run.load([name])
            # `uses` names datasets that may be absent; SQL still needs their columns.
            elif name in BY_KIND:
                self.connection.register(name, arrow_schema(BY_KIND[name].row).empty_table())
            else:
                raise Unavailable(f"the run has no {name}")
            self._made.add(name)

    def _make(self, name: str) -> pa.Table | None:
        """A provided table."""
        try:
            self.need(self.provided[name].uses)
            return self.provided[name].make(self)
        except Exception as error:
            # Remembered: the next audit that needs the table must not wait for the same failure.
            self._refused[name] = error
            raise

    def create(self, name: str, query: str, as_view: bool = False) -> None:
        """A temporary table (rows are copied) or view from SQL."""
        kind = "VIEW" if as_view else "TABLE"
        self.connection.execute(f"CREATE OR REPLACE TEMP {kind} {quoted(name)} AS {query}")

    def count(self, query: str) -> int:
        """How many rows a query has."""
        ((n,),) = self.connection.execute(f"SELECT count(*) FROM ({query})").fetchall()
        return int(n)


@dataclass(frozen=True)
class Provided:
    """A table that can be made: from which datasets and tables, and how (returning it, or creating it in SQL)."""

    uses: tuple[str, ...]
    make: Callable[[AuditData], pa.Table | None]
