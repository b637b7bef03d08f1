"""How long threads spin: what the command and its training process find in their environments."""

from __future__ import annotations

import pytest

from selfreward.openmp import COMMAND, TRAINING, as_the_user_set, spin_at_most


@pytest.mark.parametrize(
    ("user", "command", "training"),
    [
        ({}, {"GOMP_SPINCOUNT": "100000"}, {"GOMP_SPINCOUNT": "2000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}),
    ],
    ids=["nothing said", "a count", "a policy, which libgomp ignores beside a count"],
)
def test_each_process_has_its_own_count_unless_the_user_has_chosen(user, command, training):
    environment = dict(user)
    spin_at_most(COMMAND, environment)
    assert environment == command
    child = as_the_user_set(environment)
    spin_at_most(TRAINING, child)
    assert child == training
