"""Small messages between two processes over a socket: four bytes of length, then one JSON object.

Promises: a message arrives whole or not at all; several threads may send; the end of the other process is the end
of the stream (`None`), also in the middle of a message. JSON rather than pickle: a process that can write to the
socket can send values, but not run code.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

# Bytes. A longer length means that something else wrote to the socket; allocating it could exhaust the memory.
LONGEST = 1 << 28

Message = dict[str, Any]


class Channel:
    """One end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises OSError if the other end is gone."""
        content = json.dumps(message, separators=(",", ":")).encode()
        with self._sending:
            self._socket.sendall(struct.pack(">I", len(content)) + content)

    def receive(self) -> Message | None:
        """Wait for the next message; None at the end of the stream. Raises ValueError for an invalid message."""
        head = self._read(4)
        if head is None:
            return None
        (length,) = struct.unpack(">I", head)
        if length > LONGEST:
            raise ValueError(f"found a message of {length} bytes, expected at most {LONGEST}")
        content = self._read(length)
        if content is None:
            return None
        message = json.loads(content)
        if not isinstance(message, dict):
            raise ValueError(f"expected a JSON object, got {type(message).__name__}")
        return message

    def close(self) -> None:
        """Also ends a `receive` that waits in another thread."""
        with contextlib.suppress(OSError):  # the other end may already be gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, n_bytes: int) -> bytes | None:
        parts = []
        while n_bytes:
            try:
                part = self._socket.recv(min(n_bytes, 1 << 20))
            except OSError:
                return None
            if not part:
                return None
            parts.append(part)
            n_bytes -= len(part)
        return b"".join(parts)
