"""Every stage of a run, killed and failed at its calls; generation repeats at most one group of answers."""

from __future__ import annotations

import pytest
from driver import DISK_FULL, DISK_FULL_IN_A_WRITE, ERRORS, KILL, LASTING_ERRORS, TORN_KILL, sweep
from stages import stage_operations

_FAST = [KILL, DISK_FULL, TORN_KILL, DISK_FULL_IN_A_WRITE]


def test_each_stage_survives_a_fault_here_and_there(sweep_folder):
    for number, operation in enumerate(stage_operations(sweep_folder)):
        fault = _FAST[number % len(_FAST)]
        print(sweep(operation, fault, sweep_folder / f"sweep-{number}", stride=17, first=1 + number))


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault", [KILL, TORN_KILL, *ERRORS, DISK_FULL_IN_A_WRITE], ids=lambda fault: fault.name
)
def test_each_stage_survives_the_fault_at_every_call(fault, sweep_folder):
    for number, operation in enumerate(stage_operations(sweep_folder)):
        print(sweep(operation, fault, sweep_folder / f"sweep-{number}"))


@pytest.mark.faults
@pytest.mark.parametrize("first", range(len(LASTING_ERRORS)), ids=lambda first: LASTING_ERRORS[first].name)
def test_each_stage_survives_errors_that_last(first, sweep_folder):
    """From every call on there is one of the four: each begins at every fourth call."""
    for number, operation in enumerate(stage_operations(sweep_folder)):
        folder = sweep_folder / f"sweep-{number}"
        print(sweep(operation, LASTING_ERRORS[first], folder, stride=len(LASTING_ERRORS), first=1 + first))
