"""Every stage of a run, killed and failed at its calls; generation repeats at most one group of answers."""

from __future__ import annotations

import pytest
from driver import DISK_FULL, DISK_FULL_IN_A_WRITE, FAULTS, KILL, TORN_KILL, sweep
from stages import stage_operations

_FAST = [KILL, DISK_FULL, TORN_KILL, DISK_FULL_IN_A_WRITE]


def test_each_stage_survives_a_fault_here_and_there(sweep_folder):
    for number, operation in enumerate(stage_operations(sweep_folder)):
        fault = _FAST[number % len(_FAST)]
        print(sweep(operation, fault, sweep_folder / f"sweep-{number}", stride=17, first=1 + number))


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_stage_survives_the_fault_at_every_call(fault, sweep_folder):
    cases = 0
    for number, operation in enumerate(stage_operations(sweep_folder)):
        swept = sweep(operation, fault, sweep_folder / f"sweep-{number}")
        cases += swept.stopped
        print(swept)
    print(f"{fault.name}: {cases} cases over all stages, 0 damaged, mixed or short datasets")
