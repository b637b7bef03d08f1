"""A small chat-completions server on loopback whose faults are scripted for each prompt.

    with FakeServer() as server:
        server.script["How are you?"] = [status(503), reset_mid_answer]     # first call, second call; then it answers

A normal answer to the prompt P is the text `re: P [i]` for choice i, with 10 prompt tokens, 5 new ones a choice.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", dict[str, Any]], None]


def prompt_of(body: dict[str, Any]) -> str:
    return next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")


def normal_answer(body: dict[str, Any]) -> dict[str, Any]:
    n = body.get("n", 1)
    choices = [
        {
            "index": index,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": f"re: {prompt_of(body)} [{index}]"},
        }
        for index in range(n)
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 5 * n}}


def status(code: int, headers: dict[str, str] | None = None, message: str = "scripted") -> Fault:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_json({"error": {"message": message}}, code, headers)

    return reply


def raw(content: bytes) -> Fault:
    """A 200 with these bytes as its body."""
    return lambda handler, body: handler.send(content, 200)


def changed(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """The normal answer after `change` has been at it in place."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        answer = normal_answer(body)
        change(answer)
        handler.send_json(answer)

    return reply


def slow(seconds: float) -> Fault:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        handler.send_json(normal_answer(body))

    return reply


def reset(handler: Handler, body: dict[str, Any]) -> None:
    handler.reset()


def reset_mid_answer(handler: Handler, body: dict[str, Any]) -> None:
    content = json.dumps(normal_answer(body)).encode()
    handler.send(content[: len(content) // 2], 200, {"Content-Length": str(len(content))})
    handler.reset()


def closed_mid_answer(handler: Handler, body: dict[str, Any]) -> None:
    content = json.dumps(normal_answer(body)).encode()
    handler.send(content[: len(content) // 2], 200, {"Content-Length": str(len(content))})
    handler.close_connection = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections.append(self.connection)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake = self.server.fake
        reply = fake.note(self.path, body, {k.lower(): v for k, v in self.headers.items()})
        try:
            reply(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            fake.leave()

    def send_json(self, value: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), code, {"Content-Type": "application/json", **(headers or {})})

    def send(self, content: bytes, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def reset(self) -> None:
        """RST instead of FIN, as a crashed server's machine sends."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        return

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):  # the socket was reset on purpose
            return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    fake: FakeServer

    def shutdown_request(self, request: Any) -> None:
        try:
            super().shutdown_request(request)
        except OSError:
            return

    def handle_error(self, request: Any, client_address: Any) -> None:
        return


class FakeServer:
    """The server; `bodies` and `headers` (lower-case names) are what it received, `most_at_once` the largest load."""

    def __init__(self, port: int = 0) -> None:
        self.script: dict[str, list[Fault]] = {}
        self.usual: Fault | None = None
        """What every call not scripted gets; None: the normal answer."""
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: list[socket.socket] = []
        self.calls: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def note(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Fault:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            prompt = prompt_of(body)
            place = self.calls[prompt]
            self.calls[prompt] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if path != "/v1/chat/completions":
            return status(404, message=f"no such path: {path}")
        faults = self.script.get(prompt, [])
        if place < len(faults):
            return faults[place]
        return self.usual or (lambda handler, body: handler.send_json(normal_answer(body)))

    def leave(self) -> None:
        with self._lock:
            self.at_once -= 1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self.connections:  # those kept alive too
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
