"""How long an OpenMP thread spins for the others before it sleeps (GOMP_SPINCOUNT; docs/experiments.md).

Spinning saves wake-ups on an idle machine; on a busy one it burns the core that the thread is waiting for. The variable
is read once, when torch is imported; child processes inherit it. GOMP_SPINCOUNT or OMP_WAIT_POLICY set by the user
take precedence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

# About 5 ms; libgomp's default is 16 ms.
COMMAND = "100000"
# 0.1 ms: an optimizer step has ten thousand such waits, and if another program occupies a thread's core, the others spin
# for the full time in each. On two cores at a load of 10, a step took 77 s with libgomp's default and 10 s with this.
TRAINING = "2000"


def spin_at_most(count: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the count, unless the user has set it."""
    # libgomp ignores OMP_WAIT_POLICY when GOMP_SPINCOUNT is set, so setting ours would override the user's choice.
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", count)


def as_the_user_set(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the command's own value, for a training process, which sets another one."""
    return {
        name: value for name, value in environment.items() if (name, value) != ("GOMP_SPINCOUNT", COMMAND)
    }
