"""What changed between two versions of a dataset: rows added, removed, and changed by column, with examples.

    print(format_diff(diff(Run("runs/demo"), "iter1/pairs", "previous", "current")))

Rows are matched by the table's key and compared in DuckDB, NULL equal to NULL. The same between two runs (`other_run`).
Every row of both versions is counted once, as same, changed, added or removed. A row under another id is not
recognized: if ids are made from what changed (the judge, say), rows count as removed and added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from selfreward.errors import InputError, UsageError
from selfreward.sql.queries import connect, quoted
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version
from selfreward.tables import DatasetName
from selfreward.text import one_line, printable, shorten

_EXAMPLES = 3
_SHOWN = 60


@dataclass(frozen=True)
class ChangedRow:
    """One row under the same key: column -> (before, after) for the columns that differ."""

    key: tuple[Any, ...]
    values: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Diff:
    """`a` is before, `b` after; both are `name@version`. `n_*` are rows."""

    a: str
    b: str
    key: tuple[str, ...]
    n_a: int
    n_b: int
    n_same: int
    n_changed: int
    n_added: int
    n_removed: int
    changed_by_column: dict[str, int]
    columns_added: list[str]
    columns_removed: list[str]
    added: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    changed: list[ChangedRow] = field(default_factory=list)
    """Examples, first by key."""

    @property
    def same(self) -> bool:
        """Whether both have the same rows and columns."""
        return not (
            self.n_changed or self.n_added or self.n_removed or self.columns_added or self.columns_removed
        )

    def __str__(self) -> str:
        return format_diff(self)


def diff(
    run: Run,
    name: str,
    a: str = "previous",
    b: str = "current",
    other_run: Run | None = None,
    n_examples: int = _EXAMPLES,
) -> Diff:
    """Compare version `a` of a dataset with version `b` (of `other_run`, if given).

    A version is `current`, `previous` or the first digits of its name. Raises UsageError for a model or an unknown
    version, InputError if a key occurs twice.
    """
    if is_model(name):
        raise UsageError(f"{name}: is a model; `diff` compares datasets such as iter1/pairs")
    import duckdb

    before, after = run.version(name, a), (other_run or run).version(name, b)
    try:
        return _compare(run, other_run or run, before, after, _key(name, before), n_examples)
    # A type that DuckDB cannot compare or Python cannot represent.
    except (duckdb.Error, ArithmeticError, ValueError) as error:
        raise InputError(
            f"{name}: versions {before.version} and {after.version} cannot be compared: {one_line(error)}"
        ) from error


def _compare(
    run: Run, other_run: Run, before: Version, after: Version, key: tuple[str, ...], n_examples: int
) -> Diff:
    connection = _connect(before, after, key)
    columns = {side: _columns(connection, side) for side in ("a", "b")}
    common = [c for c in columns["a"] if c in columns["b"] and c not in key]
    counts = _counts(connection, key, common)
    return Diff(
        a=_label(before, run),
        b=_label(after, other_run),
        key=key,
        n_a=before.n_rows,
        n_b=after.n_rows,
        n_same=counts.both - counts.changed,
        n_changed=counts.changed,
        n_added=counts.added,
        n_removed=counts.removed,
        changed_by_column={c: n for c, n in counts.by_column.items() if n},
        columns_added=[c for c in columns["b"] if c not in columns["a"]],
        columns_removed=[c for c in columns["a"] if c not in columns["b"]],
        added=_only_in(connection, "b", "a", key, n_examples),
        removed=_only_in(connection, "a", "b", key, n_examples),
        changed=_changed_rows(connection, key, common, n_examples),
    )


def format_diff(diff: Diff) -> str:
    """The comparison for a terminal."""
    head = [f"{diff.a}  {diff.n_a:,} rows", f"{diff.b}  {diff.n_b:,} rows", ""]
    if diff.same:
        return "\n".join([*head, "the same rows"])
    lines = [
        f"same {diff.n_same:,}, changed {diff.n_changed:,}, added {diff.n_added:,}, removed {diff.n_removed:,}"
        f" (matched by {', '.join(diff.key)})"
    ]
    lines += [f"columns added: {', '.join(diff.columns_added)}"] if diff.columns_added else []
    lines += [f"columns removed: {', '.join(diff.columns_removed)}"] if diff.columns_removed else []
    if diff.changed_by_column:
        counts = sorted(diff.changed_by_column.items(), key=lambda entry: -entry[1])
        lines += ["", "changed by column"] + [f"  {column:<24}{n:>9,}" for column, n in counts]
    for row in diff.changed:
        lines += ["", f"~ {_name(row.key)}"]
        for column, (old, new) in row.values.items():
            shown_old, shown_new = _around_difference(str(old), str(new))
            lines += [f"    {column}: {shown_old}", f"    {' ' * len(column)}→ {shown_new}"]
    for sign, rows in (("+", diff.added), ("-", diff.removed)):
        lines += [""] if rows else []
        lines += [
            f"{sign} {_name([row[c] for c in diff.key])}  {shorten(_longest(row, diff.key), _SHOWN)}"
            for row in rows
        ]
    return printable("\n".join(head + lines))


def _key(name: str, version: Version) -> tuple[str, ...]:
    dataset = DatasetName.parse(name).dataset
    if dataset is not None and dataset.key:
        return dataset.key
    # A user's own dataset: by convention, its first id column is the key.
    ids = [column for column in version.manifest["schema"] if column.endswith("_id")]
    if not ids:
        raise UsageError(f"{name}: has no known key and no column that ends in _id; rows cannot be matched")
    return (ids[0],)


def _label(version: Version, run: Run) -> str:
    return f"{run.path.name}:{version.name}@{version.version}"


def _connect(before: Version, after: Version, key: Sequence[str]) -> Any:
    connection = connect()
    for side, version in (("a", before), ("b", after)):
        connection.register(side, version.table())
        columns = ", ".join(quoted(column) for column in key)
        # A repeated key would match its rows crosswise and count them several times.
        repeated = connection.execute(
            f"SELECT {columns}, count(*) FROM {quoted(side)} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
        ).fetchall()
        if repeated:
            *values, n = repeated[0]
            raise InputError(
                f"{version.name}@{version.version}: the key {_name(values)} belongs to {n} rows, so rows cannot be "
                "matched; expected one row per key"
            )
    return connection


def _columns(connection: Any, side: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(f"DESCRIBE {quoted(side)}").fetchall()]


def _joined(key: Sequence[str], how: str) -> str:
    return f"a {how} b ON " + " AND ".join(_is("a", c, "b") for c in key)


def _differ(columns: Sequence[str]) -> str:
    return " OR ".join(f"NOT ({_is('a', c, 'b')})" for c in columns) or "false"


def _is(side: str, column: str, other: str) -> str:
    """Equal, NULL to NULL."""
    return f"{quoted(side, column)} IS NOT DISTINCT FROM {quoted(other, column)}"


@dataclass(frozen=True)
class _Counts:
    both: int
    changed: int
    added: int
    removed: int
    by_column: dict[str, int]


def _counts(connection: Any, key: Sequence[str], columns: Sequence[str]) -> _Counts:
    per_column = "".join(f", count(*) FILTER ({_differ([c])})" for c in columns)
    query = f"SELECT count(*), count(*) FILTER ({_differ(columns)}){per_column} FROM {_joined(key, 'JOIN')}"
    ((both, changed, *by_column),) = connection.execute(query).fetchall()
    only = []
    for side, other in (("b", "a"), ("a", "b")):
        query = f"SELECT count(*) FROM {quoted(side)} WHERE NOT EXISTS ({_match(key, side, other)})"
        only.append(int(connection.execute(query).fetchall()[0][0]))
    return _Counts(both, changed, only[0], only[1], dict(zip(columns, by_column, strict=True)))


def _match(key: Sequence[str], side: str, other: str) -> str:
    # For NOT EXISTS, since NOT IN finds nothing once a key is NULL.
    equal = " AND ".join(_is(other, c, side) for c in key)
    return f"SELECT 1 FROM {quoted(other)} WHERE {equal}"


def _only_in(connection: Any, side: str, other: str, key: Sequence[str], n: int) -> list[dict[str, Any]]:
    order = ", ".join(map(quoted, key))
    relation = connection.sql(
        f"SELECT * FROM {quoted(side)} WHERE NOT EXISTS ({_match(key, side, other)}) ORDER BY {order} LIMIT {int(n)}"
    )
    rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
    return rows


def _changed_rows(connection: Any, key: Sequence[str], columns: Sequence[str], n: int) -> list[ChangedRow]:
    keys = ", ".join(quoted("a", c) for c in key)
    values = "".join(f", {quoted(side, c)}" for side in ("a", "b") for c in columns)
    query = f"SELECT {keys}{values} FROM {_joined(key, 'JOIN')} WHERE {_differ(columns)} ORDER BY {keys} LIMIT {int(n)}"
    result = []
    for row in connection.execute(query).fetchall():
        sides = row[len(key) : len(key) + len(columns)], row[len(key) + len(columns) :]
        values_of = zip(columns, *sides, strict=True)
        differing = {c: (old, new) for c, old, new in values_of if old != new}
        result.append(ChangedRow(tuple(row[: len(key)]), differing))
    return result


def _name(key: Sequence[Any]) -> str:
    return " / ".join(str(value) for value in key)


def _longest(row: dict[str, Any], key: Sequence[str]) -> str:
    """The longest text of a row, by which it is easiest to recognize."""
    texts = [str(value) for column, value in row.items() if column not in key and value is not None]
    return max(texts, key=len, default="")


def _around_difference(old: str, new: str) -> tuple[str, str]:
    """Both texts, cut to the context of their first difference."""
    same = next(
        (i for i, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), min(len(old), len(new))
    )
    start = max(0, same - _SHOWN // 3)

    def cut(text: str) -> str:
        part = text[start : start + _SHOWN].replace("\n", "↵")
        return ("…" if start else "") + part + ("…" if start + _SHOWN < len(text) else "")

    return cut(old), cut(new)
