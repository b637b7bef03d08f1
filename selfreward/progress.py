"""Progress on stderr, in one style for the whole project: a tqdm bar with rate and estimate, and single lines.

Progress never goes to stdout, so that pipes work. If stderr is not a terminal, a bar is one line per minute.
`SELFREWARD_QUIET=1` turns bars off (tests), `SELFREWARD_QUIET=all` (`selfreward -q`) lines as well;
`SELFREWARD_LOG_FILE` (`selfreward --log-file`) names a file to which the lines are appended with their times.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from selfreward.secrets import mask
from selfreward.text import printable

# Seconds before a bar appears: shorter work needs none.
DELAY = 1.0
# Seconds between two lines of a bar if stderr is a file or a pipe.
LOG_INTERVAL = 60.0


def bar(total: int | None, description: str, unit: str, **options: Any) -> Any:
    """A tqdm bar; `unit` is singular (`row`, `token`, `B` with `unit_scale=True`)."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}" if not unit.startswith(" ") else unit,
        dynamic_ncols=terminal,
        ncols=None if terminal else 100,
        file=sys.stderr if terminal else _Lines(),
        disable=bool(os.environ.get("SELFREWARD_QUIET")),
        delay=DELAY,
        mininterval=0.5 if terminal else LOG_INTERVAL,
        maxinterval=10 if terminal else LOG_INTERVAL,
        **options,
    )


def say(message: str) -> None:
    """One line on stderr, without secrets; a running bar is redrawn below it."""
    message = printable(mask(message))
    if name := os.environ.get("SELFREWARD_LOG_FILE"):
        with open(name, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {message}\n")
    if os.environ.get("SELFREWARD_QUIET") == "all":
        return
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


class _Lines:
    """Stderr for a bar that is not on a terminal: a line per minute, and its last state."""

    def __init__(self) -> None:
        self._pending, self._shown, self._at = "", "", time.monotonic()

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._pending = line
        # a bar is also drawn anew for a new loss, or when it closes, which alone ends a line
        due = time.monotonic() - self._at >= LOG_INTERVAL if line else text.endswith("\n")
        if due and self._pending not in ("", self._shown):
            self._shown, self._at = self._pending, time.monotonic()
            sys.stderr.write(f"{self._shown}\n")

    def flush(self) -> None:
        sys.stderr.flush()
