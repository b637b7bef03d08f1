"""A run shown by `selfreward view`, in a thread of the test, and a plain client for it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import uvicorn

from selfreward.view.app import make_app
from selfreward.view.server import _listening
from selfreward.view.shelf import Shelf

TOKEN = "a-token-of-the-tests"


@dataclass
class Shown:
    """A server with its run."""

    port: int
    shelf: Shelf

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers; with the cookie, unless other headers are given."""
        given = headers or {"cookie": f"selfreward-{self.port}={TOKEN}"}
        return self._ask("GET", path, None, given)

    def post(self, path: str, form: dict[str, str], **headers: str) -> tuple[int, str, dict[str, str]]:
        given = {"cookie": f"selfreward-{self.port}={TOKEN}", **headers}
        given["content-type"] = "application/x-www-form-urlencoded"
        return self._ask("POST", path, urlencode(form), given)

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, str, dict[str, str]]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request(method, path, body, headers)
            answer = client.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            client.close()


@contextmanager
def shown_run(run: Path, reviewer: str = "ann") -> Iterator[Shown]:
    """The page of a run until the block ends."""
    shelf = Shelf(run)
    with _listening(0) as listener:
        port = listener.getsockname()[1]
        app = make_app(shelf, reviewer, TOKEN, port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", ws="none",
                                               timeout_graceful_shutdown=1))  # fmt: skip
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield Shown(port, shelf)
        finally:
            server.should_exit = True
            thread.join(30)
            shelf.close()
