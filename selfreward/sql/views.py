"""SQL over a run: every current dataset of every iteration as a DuckDB view, read-only.

    run = open_run("runs/demo")
    run.sql("SELECT iteration, count(*) FROM pairs GROUP BY ALL").show()

Views: `ift`, `eft`, `prompts`, `candidates`, `judgements`, `scores`, `pairs`, … over all iterations, each with an
`iteration` column; `iter1.pairs` for one iteration; `score_versions`, every stored version of the scores with the
columns `version` and `is_current`, to compare judges; `prompts_without_pair`, with the reasons; `dataset_versions` and `model_versions` (what is current and where
it came from) and `lineage_edges(child_id, parent_id, relation)`, links that `lineage('pair-…')` follows.

Guarantees: the run is not changed; a dataset is hashed and compared with its manifest before DuckDB sees it; only the
datasets a query names are read; rows are memory-mapped Arrow, not copied. Files, the network and Python variables
cannot be reached from a query. `connection` is a plain in-memory database: callers may create objects in it, which
cannot change anything on disk.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError, UsageError
from selfreward.sql.lineage_queries import EDGES, LINEAGE, child_datasets, lineage_statements
from selfreward.sql.pair_outcomes import WITHOUT_PAIR, explainable, explained_pairs, without_pair_view
from selfreward.sql.queries import check_reads, quoted, tree_text
from selfreward.sql.queries import connect as connect
from selfreward.sql.queries import read_stream as read_stream
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version
from selfreward.tables import DatasetName, kind_of
from selfreward.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

Read = Callable[[Version], "pa.Table"]
VERSIONS = "dataset_versions"
MODELS = "model_versions"
SCORES = "score_versions"

_NAME = re.compile(r'(?:"?\b(iter\d+)"?\s*\.\s*)?"?\b(\w+)"?')
# Queries of the catalog: they may see any view, so all must exist.
_LISTS_ALL = re.compile(r"\b(show|information_schema|duckdb_\w+|pragma_\w+|sqlite_\w+|pg_\w+)\b")


class OpenRun:
    """A run as an in-memory DuckDB database of views. Close it, or use it in a `with` statement."""

    def __init__(
        self,
        path: Path | str,
        threads: int | None = None,
        memory_limit: str | None = None,
        read: Read = Version.table,
        versions: Mapping[str, Version] | None = None,
    ) -> None:
        """`versions` instead of all current ones: a report of what was chosen, or of what is undamaged."""
        self.run = Run(path)
        self._read = read
        self._versions = versions
        self._names = self.run.names() if versions is None else list(versions)
        self._datasets = [name for name in self._names if not is_model(name)]
        settings: dict[str, Any] = {"threads": threads} if threads else {}
        settings |= {"memory_limit": memory_limit} if memory_limit else {}
        self._connection = connect(settings)
        self._loaded: set[str] = set()
        self._sources: dict[str, str] = {}
        """Dataset -> the view of its rows, numbered, so that our own queries contain no name from the run."""
        self._older: dict[str, str] = {}
        """Folder of a version, perhaps no longer current -> the view of its rows."""
        self._tables: dict[str, pa.Table] = {}
        self.other_iterations: dict[str, int] = {}
        """Dataset (of those read so far) -> number of its rows with another iteration."""

    def __enter__(self) -> OpenRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the memory maps."""
        self._connection.close()

    @property
    def connection(self) -> Any:
        """The DuckDB connection with every view in it (all current datasets are verified now)."""
        self.load(self.views())
        return self._connection

    @property
    def bare_connection(self) -> Any:
        """The DuckDB connection with the views loaded so far; see `load`."""
        return self._connection

    def views(self) -> list[str]:
        """Names that a query may use: `pairs`, `iter1.pairs`, …"""
        kinds = {kind_of(name) for name in self._datasets}
        single = {name.replace("/", ".") for name in self._datasets if "/" in name}
        scores = [SCORES] if "scores" in kinds else []
        without = [WITHOUT_PAIR] if explainable(self._datasets) else []
        return sorted(kinds) + sorted(single) + [*scores, *without, VERSIONS, MODELS, EDGES]

    def datasets(self, view: str) -> list[str]:
        """The datasets behind a view; none for an unknown one."""
        return [name for name in self._datasets if view in (kind_of(name), name.replace("/", "."))]

    def names(self) -> list[str]:
        """The datasets themselves: `ift`, `iter1/pairs`, …"""
        return list(self._datasets)

    def keep_only(self, wanted: Callable[[str], bool]) -> None:
        """Leave other datasets out of every view (before any is loaded)."""
        self._datasets = [name for name in self._datasets if wanted(name)]

    def _version(self, name: str) -> Version:
        return self.run.current(name) if self._versions is None else self._versions[name]

    def table(self, name: str) -> pa.Table:
        """The rows of a dataset, verified once; the column `iteration` is that of the name, if it has one."""
        import pyarrow as pa

        if name not in self._tables:
            table = self._read(self._version(name))
            iteration = DatasetName.parse(name).iteration
            if iteration is not None:
                numbers = pa.chunked_array([pa.repeat(pa.scalar(iteration, pa.int64()), table.num_rows)])
                if "iteration" not in table.column_names:
                    table = table.append_column("iteration", numbers)
                # Imported rows may disagree: the run relies on the name, and `values_in_range` reports them.
                elif n_other := _n_other(table["iteration"], iteration):
                    self.other_iterations[name] = n_other
                    table = table.set_column(table.column_names.index("iteration"), "iteration", numbers)
            self._tables[name] = table
        return self._tables[name]

    def versions_table(self) -> pa.Table:
        """The rows of the view `dataset_versions`."""
        return _versions_table(map(self._version, self._datasets))

    def models_table(self) -> pa.Table:
        """The rows of the view `model_versions`: the models that the run trained."""
        models = map(self._version, filter(is_model, self._names))
        table = _versions_table(models).drop_columns(["iteration"])
        return table.rename_columns({"dataset": "model"})

    def score_versions_table(self) -> pa.Table:
        """The rows of the view `score_versions`: one judging setup per version, all in one table."""
        import pyarrow as pa

        parts = []
        for name in self.datasets("scores"):
            current = self._version(name).version
            for version in self.run.versions(name):
                table = self._read(version)
                for column, value in (
                    ("version", version.version),
                    ("is_current", version.version == current),
                ):
                    table = table.append_column(column, pa.repeat(pa.scalar(value), table.num_rows))
                parts.append(table)
        return pa.concat_tables(parts, promote_options="default")

    def _source(self, version: Version) -> str:
        """A registered table with the rows of this version."""
        source = f"_version_{len(self._older)}"
        if str(version.folder) not in self._older:
            self._connection.register(source, version.table())
        return self._older.setdefault(str(version.folder), source)

    def load(self, views: Iterable[str]) -> None:
        """Verify the datasets behind these views and make the views; loaded ones are skipped.

        Raises InputError if rows (imported ones, say) lack the columns of their kind, or have conflicting types.
        """
        import duckdb

        try:
            self._load(views)
        except duckdb.Error as error:
            raise InputError(f"{self.run.path}: its datasets have invalid rows: {one_line(error)}") from error

    def _load(self, views: Iterable[str]) -> None:
        wanted = set(views) - self._loaded
        if EDGES in wanted:
            wanted |= child_datasets() - self._loaded
        names = [name for view in wanted for name in self.datasets(view)]
        for name in sorted(set(names) - self._sources.keys()):
            self._register(name)
        for kind in sorted({kind_of(name) for name in names}):
            self._make_union(kind)
        if VERSIONS in wanted:
            self._connection.register(VERSIONS, self.versions_table())
        if MODELS in wanted:
            self._connection.register(MODELS, self.models_table())
        if SCORES in wanted:
            self._connection.register(SCORES, self.score_versions_table())
        if WITHOUT_PAIR in wanted:
            self._connection.execute(
                without_pair_view(explained_pairs(self.run, self._datasets), self._source)
            )
        if EDGES in wanted:
            for statement in lineage_statements(map(kind_of, self._datasets)):
                self._connection.execute(statement)
        self._loaded |= wanted

    def sql(self, query: str) -> Any:
        """A DuckDB relation over the views; nothing is computed before rows are asked for.

        Raises UsageError for a query that writes, is invalid, or names an unknown view or column.
        """
        import duckdb

        statement = self.check_reads(query)
        self.load(self._views_in(statement))
        try:
            return self._connection.sql(statement)
        except duckdb.Error as error:
            raise UsageError(self._explain(statement, error)) from error

    # -- what a query is -------------------------------------------------------------------------------------

    def check_reads(self, query: str) -> str:
        """The text of the statement in `query`. Raises UsageError unless it is exactly one read-only statement."""
        try:
            return check_reads(self._connection, query)
        except UsageError as error:
            raise UsageError(f"{error}{self._slash_hint(query)}") from error

    def _views_in(self, query: str) -> set[str]:
        """Every view whose name occurs as a word; at worst, too many are verified."""
        if _LISTS_ALL.search(query.lower()):
            return set(self.views())
        known = set(self.views())
        found = set()
        # Words, not a parse tree: a view too many costs one hash, one too few fails the query.
        for iteration, word in _NAME.findall(query.lower()):
            qualified = f"{iteration}.{word}"
            found.add(qualified if iteration and qualified in known else EDGES if word == LINEAGE else word)
        return found & known

    # -- what went wrong -------------------------------------------------------------------------------------

    def _explain(self, query: str, error: Exception) -> str:
        """DuckDB's message in one line, with the nearest names first if a name is unknown."""
        # DuckDB suggests names of its own catalog, which lacks the views not loaded yet.
        tree = json.loads(tree_text(self._connection, query))
        tables = {str(node["table_name"]).lower(): _dotted(node) for node in _nodes(tree, "BASE_TABLE")}
        defined = {str(entry["key"]).lower() for entry in _entries(tree, "map") if "key" in entry}
        for table, dotted in tables.items():
            if dotted not in self.views() and table not in defined:
                return f"query: there is no dataset {dotted!r}; {_nearest(dotted, self.views())}"
        columns = {c for dotted in tables.values() if dotted in self.views() for c in self._columns(dotted)}
        aliases = {str(node["alias"]).lower() for node in _dicts(tree) if node.get("alias")}
        for node in _nodes(tree, "COLUMN_REF"):
            column = str(node["column_names"][-1])
            if columns and column.lower() not in columns | aliases | set(tables) | defined:
                shown = ", ".join(d for d in tables.values() if d in self.views())
                return f"query: {shown} has no column {column!r}; {_nearest(column, sorted(columns))}"
        return f"query: {one_line(error)}"

    def _slash_hint(self, query: str) -> str:
        """A hint on names: other commands say iter1/pairs, SQL says iter1.pairs."""
        found = next((name for name in self._datasets if "/" in name and name in query), None)
        return f"; in SQL {found} is {found.replace('/', '.')}" if found else ""

    def _columns(self, view: str) -> list[str]:
        rows = self._connection.execute(f"DESCRIBE {quoted(*view.split('.'))}").fetchall()
        return [str(row[0]).lower() for row in rows]

    # -- views -----------------------------------------------------------------------------------------------

    def _register(self, name: str) -> None:
        dataset, source = DatasetName.parse(name), f"_rows_{len(self._sources)}"
        self._connection.register(source, self.table(name))
        self._sources[name] = source
        if dataset.iteration is not None:
            schema = f"iter{dataset.iteration}"
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            self._make_view(quoted(schema, dataset.kind), [source])

    def _make_union(self, kind: str) -> None:
        names = [name for name in self._datasets if kind_of(name) == kind]
        # Never over some of the iterations: the query would be silently wrong.
        if set(names) <= self._sources.keys():
            self._make_view(quoted(kind), [self._sources[name] for name in names])

    def _make_view(self, view: str, sources: list[str]) -> None:
        self._connection.execute(f"CREATE OR REPLACE VIEW {view} AS {union_query(map(quoted, sources))}")


def _n_other(said: Any, iteration: int) -> int:
    """How many values of a column differ from this iteration."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if said.type != pa.int64():
        return len(said)
    return len(said) - (pc.sum(pc.equal(said, iteration)).as_py() or 0)


def open_run(path: Path | str) -> OpenRun:
    """Open a run for queries; see the module's docstring."""
    return OpenRun(path)


def union_query(quoted_tables: Iterable[str]) -> str:
    """All iterations of one kind of dataset as one SELECT, columns matched by name."""
    return " UNION ALL BY NAME ".join(f"SELECT * FROM {table}" for table in quoted_tables)


def _versions_table(versions: Iterable[Version]) -> pa.Table:
    """One row per version, from its manifest."""
    import pyarrow as pa

    columns = ("dataset", "iteration", "version", "n_rows", "content_sha256", "created", "builder")
    texts = ("params", "inputs", "counts")
    rows = []
    for version in versions:
        name, manifest = version.name, version.manifest
        dataset = None if is_model(name) else DatasetName.parse(name)
        plain = {
            "dataset": dataset.kind if dataset else name,
            "iteration": dataset.iteration if dataset else None,
            "version": manifest["key"][:16],
            "n_rows": manifest["counts"]["out"],
        }
        plain |= {column: manifest[column] for column in columns[4:]}
        rows.append(plain | {column: json.dumps(manifest[column], sort_keys=True) for column in texts})
    numbers = ("iteration", "n_rows")
    kinds = {c: pa.int64() if c in numbers else pa.string() for c in (*columns, *texts)}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))


def _dotted(table: dict[str, Any]) -> str:
    schema = str(table.get("schema_name") or "").lower()
    name = str(table["table_name"]).lower()
    return f"{schema}.{name}" if schema and schema != "main" else name


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else f"there are {', '.join(known) or 'none'}"


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _dicts(part)


def _nodes(tree: Any, kind: str) -> Iterator[dict[str, Any]]:
    return (node for node in _dicts(tree) if node.get("type") == kind)


def _entries(tree: Any, name: str) -> Iterator[dict[str, Any]]:
    for node in _dicts(tree):
        yield from (entry for entry in node.get(name, []) if isinstance(entry, dict) and name in node)
