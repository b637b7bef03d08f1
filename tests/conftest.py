"""Fixtures every test file may use: the shared public data, the embedded model, quiet progress bars, the counts of the fault tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tried import COUNTS

os.environ.setdefault("SELFREWARD_QUIET", "1")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data beside the project; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many faults were tried, by kind: what `make test-faults` is run for."""
    if COUNTS:
        terminalreporter.section("faults tried, each survived or refused as promised")
        for kind, n in COUNTS.items():
            terminalreporter.write_line(f"{n:>9,}  {kind}")
