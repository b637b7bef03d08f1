"""Who may ask: the browser that was given the address, and no page of anybody else in it.

| against | |
|---|---|
| other users and programs of the machine | a random token in the address, then in a cookie of this port alone |
| a page elsewhere whose name resolves to this machine | the Host header must be a name of the loopback |
| a page elsewhere that sends a form here | SameSite=Strict, the Origin header, and a second token in every form |
| text of models that reaches the page | a Content-Security-Policy that allows one script, by nonce, and no other host |
"""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: with it, browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Guard:
    """The application behind its checks."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token
        # Cookies are shared by all ports of a host.
        self._cookie = f"selfreward-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused:
            await PlainTextResponse(f"{refused}\n", 403, dict(_HEADERS))(scope, receive, send)
            return
        scope["nonce"] = nonce = secrets.token_urlsafe(16)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._with_headers(message["headers"], nonce)
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> str:
        """Why a request is not answered; empty if it is."""
        host = urlsplit(f"//{headers.get('host', '')}").hostname
        if host not in LOOPBACK:
            return "This page is only for this machine: the Host header names another."
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin and urlsplit(origin).hostname not in LOOPBACK:
            return "A form of another site is not accepted."
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0] or self._from_cookie(
            headers
        )
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return "The address needs its token: use the one that `selfreward view` printed."
        return ""

    def _from_cookie(self, headers: dict[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _with_headers(self, headers: list[tuple[bytes, bytes]], nonce: str) -> list[tuple[bytes, bytes]]:
        added: dict[str, Any] = {
            "content-security-policy": _POLICY.format(nonce=nonce),
            "set-cookie": f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/",
            **_HEADERS,
        }
        present = {name for name, _ in headers}
        return headers + [(n.encode(), v.encode()) for n, v in added.items() if n.encode() not in present]
