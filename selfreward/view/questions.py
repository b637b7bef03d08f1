"""SQL and comparisons: a query as a table, as a picture or as a file, and what differs between two versions.

Queries go through the run's read-only connection: no file, no network, nothing that writes. One that takes longer than
a minute is stopped.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from selfreward.errors import SelfrewardError, UsageError
from selfreward.page.svg import Chart, Series
from selfreward.sql.diff import Diff, diff
from selfreward.sql.output import write_file
from selfreward.sql.views import OpenRun
from selfreward.store.run import Run
from selfreward.tables import kind_of
from selfreward.text import one_line, shorten
from selfreward.view.rendering import Answering
from selfreward.view.shelf import Shelf

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN = 200
LIMIT_S = 60.0
PICTURES = ("table", "bars", "line", "dots")
_MAX_POINTS = 2000
EXAMPLES = 20


@dataclass(frozen=True)
class QueryResult:
    """The first rows of a query; `more` if there are others."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


def columns_of(shelf: Shelf) -> dict[str, list[str]]:
    """The views that a query may name, with their columns, from the manifests."""
    found: dict[str, list[str]] = {}
    for name in shelf.names():
        schema = list(shelf.run.current(name).manifest["schema"])
        for view in dict.fromkeys((kind_of(name), name.replace("/", "."))):
            known = found.setdefault(view, [])
            known += [column for column in schema if column not in known]
    return dict(sorted(found.items()))


def ask(shelf: Shelf, query: str, at_most: int = SHOWN) -> QueryResult:
    """The first rows. Raises UsageError, in one sentence, for a query that is wrong, writes, or takes too long."""
    with shelf.opened() as run, _limited(run):
        relation = run.sql(query)
        if relation is None:
            return QueryResult([], [], False)
        columns = [str(column) for column in relation.columns]
        rows = [tuple(map(_plain, row)) for row in relation.limit(at_most + 1).fetchall()]
    return QueryResult(columns, rows[:at_most], len(rows) > at_most)


def save(shelf: Shelf, query: str, path: Path, spreadsheet: bool) -> None:
    """All rows of a query as a file, .csv or .parquet."""
    with shelf.opened() as run, _limited(run):
        write_file(run, query, path, spreadsheet)


@contextmanager
def _limited(run: OpenRun) -> Iterator[None]:
    import duckdb

    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        run.bare_connection.interrupt()

    timer = threading.Timer(LIMIT_S, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (duckdb.Error, UsageError, ArithmeticError, ValueError) as error:
        if stopped.is_set():
            raise UsageError(
                f"query: stopped after {LIMIT_S:g} seconds; narrow it down, or use `selfreward sql`, which waits"
            ) from error
        raise UsageError(
            str(error) if isinstance(error, UsageError) else f"query: {one_line(error)}"
        ) from error
    finally:
        timer.cancel()


def picture(answer: QueryResult, kind: str, x: str, y: str) -> Markup:
    """The rows as bars, a line or dots. Raises UsageError unless `y` holds numbers."""
    for column in (x, y):
        if column not in answer.columns:
            raise UsageError(f"chart: there is no column {column!r}; there are {', '.join(answer.columns)}")
    if kind not in PICTURES:
        raise UsageError(f"chart: {kind!r} is unknown; expected one of {', '.join(PICTURES)}")
    at, of = answer.columns.index(x), answer.columns.index(y)
    rows = [(row[at], row[of]) for row in answer.rows if row[at] is not None and row[of] is not None]
    if not rows or not all(_is_number(value) for _, value in rows):
        raise UsageError(
            f"chart: {y} holds {'nothing but NULL' if not rows else 'other values than numbers'}; choose a column of numbers"
        )
    # A continuous axis for numbers, except under bars, which need one place each.
    if all(_is_number(place) for place, _ in rows) and kind != "bars":
        points = sorted((float(place), float(value)) for place, value in rows)
        return Chart(x, y, [Series(y, points, "line" if kind == "line" else "dots")]).inline()
    names = [shorten(place, 14) for place, _ in rows]
    points = [(float(n), float(value)) for n, (_, value) in enumerate(rows)]
    shown = (
        names
        if len(names) <= 12
        else [name if n % (len(names) // 8) == 0 else "" for n, name in enumerate(names)]
    )
    return Chart(
        x,
        y,
        [Series(y, points, "bars" if kind == "bars" else "line" if kind == "line" else "dots")],
        names=shown,
    ).inline()


def compare(shelf: Shelf, name: str, a: str, b: str, other: str) -> Diff:
    """Two versions of a dataset, the second of another run if one is given."""
    return diff(
        shelf.run,
        name,
        a or "previous",
        b or "current",
        Run(Path(other).expanduser()) if other else None,
        EXAMPLES,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """A value of DuckDB's as a cell: lists and structs as JSON, decimals as numbers."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


class Questions(Answering):
    """The pages that ask."""

    async def sql(self, request: Request) -> Response:
        given = dict(request.query_params)

        def make() -> Response:
            self.shelf.refresh()
            query, problem, answer, drawn = given.get("query", "").strip(), "", None, None
            kind = given.get("picture", "table")
            if query:
                try:
                    answer = ask(self.shelf, query)
                    if kind != "table":
                        x, y = given.get("x") or answer.columns[0], given.get("y") or answer.columns[-1]
                        drawn = picture(answer, kind, x, y)
                except SelfrewardError as error:
                    problem = str(error)
            return self.page(
                request,
                "sql",
                query=query,
                answer=answer,
                problem=problem,
                drawn=drawn,
                kind=kind,
                given=given,
                pictures=PICTURES,
                views=columns_of(self.shelf),
                files=urlencode({"query": query}),
            )

        return await self.answer(request, make)

    async def download(self, request: Request) -> Response:
        ending, query = request.path_params["ending"], request.query_params.get("query", "")
        spreadsheet = request.query_params.get("spreadsheet") == "1"

        def make() -> Response:
            if ending not in ("csv", "parquet"):
                raise UsageError(f"rows.{ending}: expected rows.csv or rows.parquet")
            folder = tempfile.TemporaryDirectory(prefix="selfreward-rows-")
            path = Path(folder.name, f"rows.{ending}")
            try:
                save(self.shelf, query, path, spreadsheet and ending == "csv")
            except BaseException:
                folder.cleanup()
                raise
            kind = "text/csv; charset=utf-8" if ending == "csv" else "application/vnd.apache.parquet"
            return FileResponse(
                path, media_type=kind, filename=path.name, background=BackgroundTask(folder.cleanup)
            )

        return await self.answer(request, make)

    async def compare(self, request: Request) -> Response:
        given = dict(request.query_params)

        def make() -> Response:
            found, problem = None, ""
            names = self.shelf.names()
            if given.get("name"):
                try:
                    a, b, other = given.get("a", ""), given.get("b", ""), given.get("other", "").strip()
                    found = compare(self.shelf, given["name"], a, b, other)
                except SelfrewardError as error:
                    problem = str(error)
            versions = {name: [v.version for v in self.shelf.run.versions(name)] for name in names}
            return self.page(request, "compare", given=given, diff=found, problem=problem, versions=versions)

        return await self.answer(request, make)
