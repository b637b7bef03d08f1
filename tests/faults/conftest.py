"""A folder for sweeps: in memory where there is such a disk, because a sweep calls fsync thousands of times."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """Import once what every forked child would import again."""
    import datasets

    assert datasets.Features


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="selfreward-sweep-", dir=memory))
    yield folder
    shutil.rmtree(folder)
