"""Cards, exported files and the DuckDB file, killed and failed at their calls, and killed at random while DuckDB writes."""

from __future__ import annotations

import random

import pytest
from driver import DISK_FULL, FAULTS, KILL, kill_at_random, sweep
from outputs import output_operations


def test_what_a_run_gives_out_is_replaced_whole_or_not_at_all(sweep_folder):
    for number, operation in enumerate(output_operations(sweep_folder)):
        fault = (KILL, DISK_FULL)[number % 2]
        print(sweep(operation, fault, sweep_folder / f"sweep-{number}", stride=7, first=1 + number))


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_a_run_gives_out_survives_the_fault_at_every_call(fault, sweep_folder):
    for number, operation in enumerate(output_operations(sweep_folder)):
        print(sweep(operation, fault, sweep_folder / f"sweep-{number}"))


@pytest.mark.faults
def test_duckdb_killed_at_random_times_leaves_the_old_file_or_the_new(sweep_folder):
    operation = output_operations(sweep_folder)[-1]
    print(kill_at_random(operation, sweep_folder / "sweep", 100, random.Random(9)))
