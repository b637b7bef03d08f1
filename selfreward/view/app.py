"""The addresses of `selfreward view`. Every page is made here on the server; links and forms do all that a reader can do.

Nothing of a row is ever markup: the templates escape, control characters are written out, and the only script that the
page's policy allows is ours. Who may ask is decided in `guard`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from selfreward.errors import UsageError
from selfreward.summary import PAGE
from selfreward.tables import BY_KIND, kind_of
from selfreward.view import pages, questions
from selfreward.view.filters import OPERATIONS, selection
from selfreward.view.guard import Guard
from selfreward.view.rendering import Answering, Rendering
from selfreward.view.reviews import Reviews
from selfreward.view.shelf import Shelf, closed_columns

if TYPE_CHECKING:
    from selfreward.view.orders import RowOrders

PAGE_ROWS = 50
# A report may come from a stranger, as part of a pulled run: without an origin of its own it can ask nothing of this server.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


def make_app(shelf: Shelf, reviewer: str, token: str, port: int) -> Guard:
    """The whole application, guarded."""
    rendering = Rendering(shelf.run.path, questions.EXAMPLES)
    views, asked = _Views(shelf, Reviews(shelf, reviewer), rendering), questions.Questions(shelf, rendering)
    routes = [
        Route("/", views.home),
        Route("/table/{name:path}", views.table),
        Route("/row/{name:path}", views.row),
        Route("/id/{id:path}", views.by_id),
        Route("/sql", asked.sql),
        Route("/sql/rows.{ending}", asked.download),
        Route("/compare", asked.compare),
        Route("/report", views.report),
        Route("/state", views.state),
        Route("/review", views.review, methods=["POST"]),
        Route("/view.{ending}", views.asset),
    ]
    return Guard(Starlette(routes=routes, exception_handlers={404: views.not_found}), token, port)


class _Views(Answering):
    def __init__(self, shelf: Shelf, reviews: Reviews, rendering: Rendering) -> None:
        super().__init__(shelf, rendering)
        self._reviews = reviews

    # -- the run ---------------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        def make() -> Response:
            self.shelf.refresh()
            entries = self.shelf.entries()
            at_work, report = self.shelf.at_work(), (self.shelf.run.path / PAGE).is_file()
            said = {kind: dataset.each_row for kind, dataset in BY_KIND.items()}
            return self.page(
                request,
                "home",
                entries=entries,
                at_work=at_work,
                has_report=report,
                each_row=said,
                kind_of=kind_of,
            )

        return await self.answer(request, make)

    async def state(self, request: Request) -> Response:
        def make() -> Response:
            return JSONResponse(
                {"generation": self.shelf.run.state().generation, "at_work": self.shelf.at_work()}
            )

        return await self.answer(request, make)

    async def report(self, request: Request) -> Response:
        path = self.shelf.run.path / PAGE
        if not path.is_file() or path.is_symlink():
            return self.page(
                request,
                "message",
                404,
                message=f"There is no {PAGE} yet: selfreward report {self.shelf.run.path}",
                again=False,
            )
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})

    # -- tables and rows -------------------------------------------------------------------------------------

    async def table(self, request: Request) -> Response:
        name, values = request.path_params["name"], request.query_params.multi_items()

        def make() -> Response:
            self.shelf.refresh()
            wanted, orders = selection(values), self.shelf.orders(name)
            numbers = orders.rows(wanted)
            n_pages = max(1, -(-len(numbers) // PAGE_ROWS))
            page = min(max(1, _whole(dict(values).get("page"), 1)), n_pages)
            start = (page - 1) * PAGE_ROWS
            rows = orders.fetch(numbers[start : start + PAGE_ROWS].tolist())
            return self.page(
                request,
                "table",
                name=name,
                wanted=wanted,
                columns=_columns(name, orders),
                rows=list(enumerate(rows, start)),
                n=len(numbers),
                n_all=orders.table.num_rows,
                page=page,
                n_pages=n_pages,
                operations=OPERATIONS,
                closed=closed_columns(name),
                each_row=BY_KIND[kind_of(name)].each_row if kind_of(name) in BY_KIND else "",
            )

        return await self.answer(request, make)

    async def row(self, request: Request) -> Response:
        name, values = request.path_params["name"], request.query_params.multi_items()

        def make() -> Response:
            self.shelf.refresh()
            wanted, orders = selection(values), self.shelf.orders(name)
            numbers = orders.rows(wanted)
            at = _whole(dict(values).get("at"), 0)
            if not 0 <= at < len(numbers):
                raise UsageError(f"{name}: there is no row {at + 1:,}; these filters leave {len(numbers):,}")
            row = orders.fetch([int(numbers[at])])[0]
            place = {"wanted": wanted, "at": at, "n": len(numbers), "page": at // PAGE_ROWS + 1}
            return self._row(request, name, row, f"/row/{quote(name)}{wanted.query(at=at)}", **place)

        return await self.answer(request, make)

    async def by_id(self, request: Request) -> Response:
        id = request.path_params["id"]

        def make() -> Response:
            self.shelf.refresh()
            found = self.shelf.place(id)
            if found is None:
                raise UsageError(f"no current row has the id {id!r}")
            return self._row(request, *found, f"/id/{quote(id)}", wanted=None, at=None, n=None, page=None)

        return await self.answer(request, make)

    def _row(self, request: Request, name: str, row: dict[str, Any], here: str, **place: Any) -> Response:
        page = pages.row_page(self.shelf, name, row)
        full = request.query_params.get("full") == "1"
        reviews = self._reviews.of(page.id) if page.id else []
        own = next((one for one in reviews if one["reviewer"] == self._reviews.reviewer), None)
        return self.page(
            request,
            "row",
            row=page,
            reviews=reviews,
            own=own,
            reviewer=self._reviews.reviewer,
            full=full,
            back=here,
            **place,
        )

    async def review(self, request: Request) -> Response:
        given = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))

        def make() -> Response:
            if given.get("form") != self.rendering.form_token:
                raise UsageError("this form is not from this page; load the page again")
            name, id = given.get("dataset", ""), given.get("id", "")
            dataset = BY_KIND.get(kind_of(name))
            rows = self.shelf.find(name, dataset.key[0], id) if dataset and dataset.prefix else []
            if not rows:
                raise UsageError(f"{name or 'no dataset'}: has no row {id!r}")
            score = given.get("human_score", "").strip()
            verdict = given.get("verdict", "")
            self._reviews.save(
                name, rows[0], verdict, given.get("note", "").strip(), _number(score) if score else None
            )
            # Only a place on this server: an address in the form must not lead elsewhere.
            back = given.get("back", "/")
            return RedirectResponse(
                back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/", 303
            )

        return await self.answer(request, make)

    # -- the rest --------------------------------------------------------------------------------------------

    async def asset(self, request: Request) -> Response:
        found = self.rendering.asset(request.path_params["ending"])
        return (
            PlainTextResponse("not found", 404) if found is None else Response(found[0], media_type=found[1])
        )

    async def not_found(self, request: Request, error: Exception) -> Response:
        return self.page(
            request, "message", 404, message=f"{request.url.path}: there is no such page", again=False
        )


def _columns(name: str, orders: RowOrders) -> list[tuple[str, bool, bool]]:
    """Name, whether it can be sorted, whether by the length of its texts; the id and its facts first."""
    dataset = BY_KIND.get(kind_of(name))
    first = (*dataset.key, *dataset.facts) if dataset else ()
    names = sorted(
        orders.table.column_names, key=lambda column: first.index(column) if column in first else len(first)
    )
    return [(column, orders.sortable(column), orders.by_length(column)) for column in names]


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 15 else default


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"your score {text[:40]!r}: expected a number") from error
    if not -1e9 < value < 1e9:
        raise UsageError(f"your score {text[:40]!r}: expected a number such as 3.5")
    return value
