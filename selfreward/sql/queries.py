"""Opens DuckDB connections, and accepts only queries that read.

    with connect() as connection:
        connection.sql(check_reads(connection, query))

A connection reaches no file, no network and no extension, and no query can change that; a name from rows or run
folders enters a query as `quoted(name)`. tests/store/test_foreign_sql.py scans the sources for exceptions.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import UsageError
from selfreward.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

# DuckDB reports a PIVOT as MULTI, since it queries the values first.
_READING = {"SELECT", "EXPLAIN", "MULTI"}
# A WITH clause can hide a writing statement in what DuckDB reports as SELECT.
_WRITING_NODE = re.compile(r'"type":"(INSERT|UPDATE|DELETE|MERGE)\w*_NODE"')
_EXPLAIN = re.compile(r"\s*explain\b(\s+analyze\b|\s*\([^)]*\))?", re.IGNORECASE)


def connect(settings: dict[str, Any] | None = None, files: bool = False) -> Any:
    """Open DuckDB in memory, without network, extensions and, except for audit files, files."""
    import duckdb

    # Not the current folder, DuckDB's default, which may be read-only or someone's repository.
    spill = Path(tempfile.gettempdir()) / f"selfreward-sql-{secrets.token_hex(8)}"
    connection = duckdb.connect(config={"temp_directory": str(spill), **(settings or {})})
    # It would go to stdout, among the results.
    connection.execute("SET enable_progress_bar = false")
    if not files:
        connection.execute("SET enable_external_access = false")
        # Otherwise a query could change the settings back.
        connection.execute("SET lock_configuration = true")
    return connection


def quoted(*parts: str) -> str:
    """A quoted name for a query, safe for any content.

    >>> print(quoted("iter1", 'a"; DROP VIEW b'))
    "iter1"."a""; DROP VIEW b"
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def check_reads(connection: Any, query: str, what: str = "query") -> str:
    """The text of the statement in `query`. Raises UsageError unless it is exactly one read-only statement."""
    import duckdb

    try:
        statements = [(str(s.query), s.type.name) for s in connection.extract_statements(query)]
    except duckdb.Error as error:
        raise UsageError(f"{what}: {one_line(error)}") from error
    # An unnamed kind of statement (UPDATE EXTENSIONS), or invalid Unicode.
    except (ValueError, TypeError) as error:
        raise UsageError(f"{what}: not a query in valid Unicode; expected one SELECT") from error
    if len(statements) != 1:
        raise UsageError(f"{what}: found {len(statements)} statements, expected one")
    text, kind = _bare(statements[0][0]), statements[0][1]
    if kind == "EXPLAIN":
        check_reads(connection, _EXPLAIN.sub("", text, count=1), what)
    first = re.match(r"\W*(\w*)", text)
    tree = tree_text(connection, text) if kind == "SELECT" else ""
    # MULTI also covers CREATE, INSERT and COPY over a PIVOT; their first word reveals them.
    hidden = kind == "MULTI" and first is not None and first[1].upper() in ("CREATE", "INSERT", "COPY")
    if kind not in _READING or hidden or _WRITING_NODE.search(tree):
        written = kind if kind not in _READING else "CREATE" if hidden else "data-changing WITH"
        article = "an" if written[0] in "AEIOU" else "a"
        raise UsageError(
            f"{what}: a run is read-only, and this is {article} {written} statement; expected SELECT (to keep a result, "
            "write it with --out)"
        )
    return text


def read_stream(relation: Any) -> pa.RecordBatchReader:
    """The rows of a relation batch by batch, on every DuckDB from 1.1 on."""
    import pyarrow as pa

    return pa.RecordBatchReader.from_stream(relation)


def _bare(statement: str) -> str:
    """A statement without its semicolon and the rest, so that it can be nested in another."""
    import duckdb

    # By token, since `--` and `;` may also occur inside a text.
    tokens = [(place, kind.name) for place, kind in duckdb.tokenize(statement)]
    while tokens and tokens[-1][1] == "comment":
        statement = statement[: tokens.pop()[0]]
    return statement.strip().rstrip(";").rstrip()


def tree_text(connection: Any, query: str) -> str:
    """DuckDB's parse tree as JSON text; empty if it has none for this kind of query."""
    ((text,),) = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [query]).fetchall()
    return str(text)
