"""A run's costs on paid servers, over all its steps and restarts, in `.work/costs.jsonl`.

Engines with a `usage` (openai:) start from the earlier total and refuse to exceed `max_cost`; after every finished group
the new total is appended durably, so that a crash forgets no cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.store.journal import Journal


def spent(work: Path) -> float:
    """The total so far; `work` is the run's `.work` folder."""
    path = work / "costs.jsonl"
    if not path.is_file():
        return 0.0
    # The largest total: after a crash, lines of two processes may be out of order.
    return max((float(line["spent"]) for line in Journal(path).units()), default=0.0)


class Ledger:
    """Records an engine's total after each group; does nothing for engines without a cost limit."""

    def __init__(self, work: Path, name: str, engine: Any) -> None:
        usage = getattr(engine, "usage", None)
        self._usage = usage if usage is not None and usage.max_cost is not None else None
        self._path = work / "costs.jsonl"
        self._name = name

    def note(self) -> None:
        """Append the engine's total, if it has a cost limit."""
        if self._usage is not None:
            with Journal(self._path) as journal:
                journal.append({"stage": self._name, "spent": self._usage.spent})
