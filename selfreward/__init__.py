"""Self-Rewarding Language Models as datasets you can see, question and publish (arXiv 2401.10020).

import selfreward
run = selfreward.open_run("runs/demo")
run.sql("SELECT score, count(*) FROM scores GROUP BY ALL").df()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreward.sql.views import open_run

__all__ = ["open_run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "open_run":  # late: importing the package costs nothing
        from selfreward.sql.views import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
