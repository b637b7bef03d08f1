"""Every operation of the store, killed and failed at each of its calls (the fast part: some faults at each call)."""

from __future__ import annotations

import pytest
from driver import (
    DISK_FULL_IN_A_WRITE,
    ERRORS,
    FAULTS,
    KILL,
    LASTING_ERRORS,
    TORN_KILL,
    sweep,
)
from operations import STORE_OPERATIONS

each_operation = pytest.mark.parametrize("operation", STORE_OPERATIONS, ids=lambda operation: operation.name)


@each_operation
def test_killed_at_any_call_readers_see_old_or_new_and_the_rerun_completes(operation, sweep_folder):
    print(sweep(operation, KILL, sweep_folder))


@each_operation
def test_any_error_at_any_third_call_is_explained_and_the_rerun_completes(operation, sweep_folder):
    """The four errors, once and lasting, each begin at another call, so that together they reach most of them."""
    for first, fault in enumerate([TORN_KILL, *ERRORS, DISK_FULL_IN_A_WRITE, *LASTING_ERRORS], 1):
        print(sweep(operation, fault, sweep_folder / str(first), stride=12, first=first))


@pytest.mark.faults
@each_operation
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_at_every_call(operation, fault, sweep_folder):
    print(sweep(operation, fault, sweep_folder))
