"""An append-only, checksummed journal of finished units of work, so that a restart repeats as little as possible.

One line is one unit (for generation: one batch of completions, journalled whole): 16 hex digits of the SHA-256
of the rest, a space, JSON. A line becomes durable with one write and one fsync. After a crash:

- a torn last line is cut off, and its unit is done once more;
- a line in the middle that does not match its checksum is skipped and counted (`n_damaged`), and its unit is done
  once more, never guessed at;
- a unit written twice comes back twice: the caller keys units and keeps the first.

The journal of a step lives in the run's hidden work folder, under the key of the version being built, so a changed
parameter never finds the journal of other work.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from selfreward.store import durable

_CHECKSUM_DIGITS = 16


class Journal:
    """`with Journal(path) as journal:` repairs the tail, then `units()` reads and `append(unit)` adds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_damaged = 0
        self._descriptor = -1
        self._tail_may_be_torn = False

    def __enter__(self) -> Journal:
        durable.make_folder(self.path.parent)
        with durable.call("open", self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._cut_torn_tail()
            durable.sync_folder(self.path.parent)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def append(self, unit: Any) -> None:
        """Add one finished unit (anything JSON can hold); durable when this returns."""
        text = json.dumps(unit, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        # An earlier append failed half-way and the caller continued: two units would become one damaged line.
        if self._tail_may_be_torn:
            self._cut_torn_tail()
        self._tail_may_be_torn = True
        durable.append(self._descriptor, self.path, _checksum(text) + b" " + text + b"\n")
        self._tail_may_be_torn = False

    def units(self) -> Iterator[Any]:
        """Every whole unit, oldest first; damaged lines are counted in `n_damaged`."""
        self.n_damaged = 0
        with durable.explained("read", self.path), self.path.open("rb") as lines:
            for line in lines:
                text = line.rstrip(b"\n")[_CHECKSUM_DIGITS + 1 :]
                if line.endswith(b"\n") and line[: _CHECKSUM_DIGITS + 1] == _checksum(text) + b" ":
                    yield json.loads(text)
                else:
                    self.n_damaged += 1

    def _cut_torn_tail(self) -> None:
        """Cut the file behind its last newline, searched for backwards in blocks: a journal can be large."""
        size = os.fstat(self._descriptor).st_size
        end, block_bytes = size, 1 << 16
        while end > 0:
            start = max(0, end - block_bytes)
            newline = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            durable.truncate(self._descriptor, self.path, end)


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_CHECKSUM_DIGITS].encode()
