"""How long a thread of OpenMP spins for its neighbours before it sleeps (GOMP_SPINCOUNT; docs/experiments.md).

Spinning saves the waking where a program has the machine to itself, and burns the core that it waits for where it has
not. It is read once, when torch is imported; children inherit it. What the user says by GOMP_SPINCOUNT or
OMP_WAIT_POLICY stands; libgomp itself ignores the second where the first is set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

COMMAND = "100000"
"""About 5 ms in place of libgomp's 16."""
TRAINING = "2000"
"""0.1 ms: a step has ten thousand such waits, and if another program runs on the neighbour's core, each is spent in full: on
two cores at a load of 10, a step took 77 s with libgomp's default and 10 s with this."""


def spin_at_most(count: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the count, unless the user has chosen."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", count)


def as_the_user_set(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the command's own choice: for a training process, which makes another."""
    return {
        name: value for name, value in environment.items() if (name, value) != ("GOMP_SPINCOUNT", COMMAND)
    }
