"""Fixtures every test file may use: the shared public data, the embedded model, quiet progress bars, the counts of the fault tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tried import COUNTS, FIGURES

os.environ.setdefault("SELFREWARD_QUIET", "1")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data beside the project; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED


@pytest.fixture(scope="session")
def hf() -> Iterator[Any]:
    """What `vllm:` and `openai:` are compared with, in float32 as they are."""
    from selfreward.engines import open_engine
    from selfreward.engines.base import EngineOptions

    with open_engine("hf:smollm2-135m-instruct", EngineOptions(dtype="float32")) as engine:
        yield engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many faults were tried, by kind: what `make test-faults` is run for; and figures, those of `make test-vllm`."""
    if FIGURES:
        terminalreporter.section("figures")
        for figure in FIGURES:
            terminalreporter.write_line(figure)
    if COUNTS:
        terminalreporter.section("faults tried, each survived or refused as promised")
        for kind, n in COUNTS.items():
            terminalreporter.write_line(f"{n:>9,}  {kind}")


# Under pytest-xdist the tests run in processes of their own; what these have counted is handed to the one that prints.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = dict(COUNTS), FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    output = getattr(node, "workeroutput", {})  # nothing from a worker that crashed
    counts, figures = output.get("tried", ({}, []))
    COUNTS.update(counts)
    FIGURES.extend(figures)
