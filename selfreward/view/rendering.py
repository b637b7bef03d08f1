"""Pages from templates: everything of a row escaped, its control characters written out, its length bounded."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from selfreward.errors import SelfrewardError, UsageError
from selfreward.page.figures import MAX_CHARS, shown
from selfreward.secrets import mask, mask_values
from selfreward.text import printable, shorten
from selfreward.view.shelf import Shelf, StillReading

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "page"
_STYLES = (_PAGE / "page.css", _PAGE / "plots.css", _HERE / "view.css")
_CELL = 90
_LONG_WORD = re.compile(r"\S{200}(?=\S)")
_CHANGED = 400
_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


class Rendering:
    """The templates of one run."""

    def __init__(self, run: Path, n_examples: int) -> None:
        # Strict: a misspelled name in a template is an error, not an empty place.
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "shown": shown,
            "cell": cell,
            "whole": whole,
            "path": quote,
            "changed": partial(shorten, width=_CHANGED),
        }
        self._environment.globals |= {
            "run": run.resolve().name,
            "folder": str(run),
            "max_chars": MAX_CHARS,
            "n_examples": n_examples,
        }
        self.form_token = secrets.token_urlsafe(16)
        self._assets = {
            # The colors, charts and tables are those of the report.
            "css": "".join(path.read_text("utf-8") for path in _STYLES),
            "js": (_HERE / "view.js").read_text("utf-8"),
        }

    def html(self, template: str, **values: Any) -> str:
        """A page."""
        return self._environment.get_template(f"{template}.html.jinja").render(
            form_token=self.form_token, **values
        )

    def asset(self, ending: str) -> tuple[str, str] | None:
        """The style or the script, and its media type."""
        return (self._assets[ending], _KINDS[ending]) if ending in _KINDS else None


class Answering:
    """What all groups of pages share: the run, the templates, and what a reader sees of an error."""

    def __init__(self, shelf: Shelf, rendering: Rendering) -> None:
        self.shelf = shelf
        self.rendering = rendering

    async def answer(self, request: Request, make: Callable[[], Response]) -> Response:
        """What `make` makes in a thread of its own, or the page that says in one sentence why there is nothing."""
        try:
            return await run_in_threadpool(make)
        except StillReading as error:
            return self.page(request, "message", status=202, message=str(error), again=True)
        except UsageError as error:
            return self.page(request, "message", status=400, message=str(error), again=False)
        except SelfrewardError as error:
            return self.page(request, "message", status=409, message=str(error), again=False)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page from a template."""
        nonce = str(request.scope.get("nonce", ""))
        html = self.rendering.html(
            template, nonce=nonce, generation=self.shelf.generation, here=request.url.path, **values
        )
        # A lone surrogate in a row must not prevent the whole page.
        return HTMLResponse(html.encode("utf-8", "replace"), status)


def cell(value: Any) -> str:
    """A value in one line of a table."""
    if isinstance(value, list | dict):
        return shorten(_contents(value), _CELL)
    if isinstance(value, str):
        # A megabyte in a cell is not searched for secrets beyond what is shown.
        return shorten(value[: _CELL * 60], _CELL)
    return shorten(value.isoformat(), _CELL) if isinstance(value, date | datetime) else shown(value)


def whole(value: Any) -> Markup:
    """A text in full, masked, with its control characters written out, and places where a long word may break."""
    text = printable(mask(mask_values(value if isinstance(value, str) else _contents(value))))
    # Chromium takes minutes to lay out a word of a megabyte, and no time if it may break.
    ends = [match.end() for match in _LONG_WORD.finditer(text)]
    parts = [text[start:end] for start, end in pairwise([0, *ends, len(text)])]
    return Markup("<wbr>").join(parts)


def _contents(value: Any) -> str:
    """Messages by their contents, other lists as JSON."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(part, dict) and "content" in part for part in value)
    ):
        return "\n".join(str(part["content"]) for part in value)
    return json.dumps(value, ensure_ascii=False, default=str)
