"""Progress on stderr, one look for the whole project: a tqdm bar with rate and estimate.

Results go to stdout, progress never does, so pipes work. `SELFREWARD_QUIET=1` turns bars off (tests).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from selfreward.secrets import mask
from selfreward.text import printable

DELAY = 1.0
"""Seconds before a bar appears: what is done by then needs none."""


def bar(total: int | None, description: str, unit: str, **options: Any) -> Any:
    """A tqdm bar; `unit` is singular (`row`, `token`, `B` with `unit_scale=True`)."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}" if not unit.startswith(" ") else unit,
        dynamic_ncols=True,
        file=sys.stderr,
        disable=bool(os.environ.get("SELFREWARD_QUIET")),
        delay=DELAY,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        **options,
    )


def say(message: str) -> None:
    """One line on stderr, without secrets, not torn by a bar."""
    from tqdm import tqdm

    tqdm.write(printable(mask(message)), file=sys.stderr)
    sys.stderr.flush()
