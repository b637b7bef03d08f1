"""A run as one DuckDB file: `selfreward sql RUN --out audit.duckdb`, for clients from DuckDB 1.0 on.

    iter1.pairs, iter2.pairs, ift, …   tables, rows as in the run
    pairs, candidates, …               views over all iterations, and lineage_edges
    dataset_versions, model_versions, score_versions, prompts_without_pair   tables
    lineage('pair-…')                  a macro: every row that this one is derived from
    result                             the rows of the query, if one was given

The file is renamed into place when complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.errors import StoreError
from selfreward.sql.lineage_queries import lineage_statements
from selfreward.sql.pair_outcomes import WITHOUT_PAIR
from selfreward.sql.queries import connect, quoted, read_stream
from selfreward.sql.views import MODELS, SCORES, VERSIONS, OpenRun, open_run, union_query
from selfreward.store import durable
from selfreward.tables import DatasetName
from selfreward.text import one_line

# By default DuckDB 2.0 writes a newer storage version, which clients before 1.2 cannot read.
STORAGE_VERSION = "v1.0.0"


def write_audit_file(run: OpenRun | Path, path: Path, query: str | None = None) -> int:
    """Write the file, replacing an old one; returns the rows of `query` (0 without one)."""
    if not isinstance(run, OpenRun):
        with open_run(run) as opened:
            return write_audit_file(opened, path, query)
    import duckdb

    with durable.new_file(path) as temporary:
        try:
            return _fill(run, temporary, query)
        except duckdb.Error as error:
            raise StoreError(
                f"--out {path}: cannot be written: {one_line(error)} ({durable.free_space(path)})"
            ) from error
        finally:
            # DuckDB leaves its write-ahead log next to a file that it could not complete.
            durable.remove_file(Path(f"{temporary}.wal"))


def _fill(run: OpenRun, path: Path, query: str | None) -> int:
    """Insert the datasets directly from Arrow."""
    n_rows = 0
    # A separate connection: the run's own, on which queries run, must never reach a file.
    with connect(files=True) as connection:
        connection.execute(
            f"ATTACH {_literal(str(path))} AS audit_file (STORAGE_VERSION '{STORAGE_VERSION}')"
        )
        connection.execute("USE audit_file")
        kinds: dict[str, list[str]] = {}
        for name in run.names():
            dataset = DatasetName.parse(name)
            alone = dataset.iteration is None and run.datasets(dataset.kind) == [name]
            table = [dataset.kind] if alone else [_schema(dataset), dataset.kind]
            _create_table(connection, table, run.table(name))
            kinds.setdefault(dataset.kind, []).extend([] if alone else [quoted(*table)])
        _create_table(connection, [VERSIONS], run.versions_table())
        _create_table(connection, [MODELS], run.models_table())
        for view in (SCORES, WITHOUT_PAIR):
            if view in run.views():
                _create_table(connection, [view], read_stream(run.sql(f"FROM {quoted(view)}")))
        for kind, tables in kinds.items():
            if tables:
                connection.execute(f"CREATE VIEW {quoted(kind)} AS {union_query(tables)}")
        for statement in lineage_statements(kinds):
            connection.execute(statement)
        if query is not None:
            n_rows = _create_table(connection, ["result"], read_stream(run.sql(query)))
        connection.execute("USE memory")
        connection.execute("DETACH audit_file")
    return n_rows


def _create_table(connection: Any, name: list[str], rows: Any) -> int:
    if len(name) > 1:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(name[0])}")
    connection.register("rows_to_write", rows)
    query = f"CREATE TABLE {quoted(*name)} AS SELECT * FROM rows_to_write"
    ((n_rows,),) = connection.execute(query).fetchall()
    connection.unregister("rows_to_write")
    return int(n_rows)


def _schema(dataset: DatasetName) -> str:
    """Rows without an iteration get their own schema if others of their kind have one."""
    return "no_iteration" if dataset.iteration is None else f"iter{dataset.iteration}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
