"""Self-Rewarding Language Models as datasets you can see, question and publish (arXiv 2401.10020).

    import selfreward
    run = selfreward.open_run("runs/demo")
    run["iter1/pairs"]                                             # a datasets.Dataset
    run.sql("SELECT score, count(*) FROM scores GROUP BY ALL").df()

What is named in `__all__` is the Python interface (docs/python.md). It is looked up when it is used: importing the
package costs nothing, and the spine imports no stage package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreward.api import OpenedRun, agreement, judge, open_run, run
    from selfreward.judging.parsing.scores import parse_score

__all__ = ["OpenedRun", "agreement", "judge", "open_run", "parse_score", "run"]
__version__ = "0.1.0"

_ELSEWHERE = {"parse_score": "selfreward.judging.parsing.scores"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "selfreward.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
