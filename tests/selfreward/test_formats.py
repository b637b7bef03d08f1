"""A run folder of the first format, kept as it was written: this program and later ones read it, older ones refuse newer.

`data/run-format-1` was written by selfreward 0.1 (without its hidden files): `ift` with six rows and an earlier
version that was collected, and a model M1 of 64 bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import pytest
from stored import publish, recipe, rows

from selfreward.errors import FormatError
from selfreward.store import run as store
from selfreward.store import sealed, state
from selfreward.store.run import Run
from selfreward.store.verify import verify_run

IFT = "44c3ca4a49d07df96d489b4dfbc4ffd819c1a88943a4dcd1375e11d4e5d1025f"


@pytest.fixture
def old(tmp_path) -> Path:
    shutil.copytree(Path(__file__).parents[1] / "data" / "run-format-1", tmp_path / "old", symlinks=True)
    return tmp_path / "old"


@pytest.fixture
def next_format():
    """The program as it will be when the format has changed once."""
    with (
        mock.patch.object(sealed, "FORMAT", 2),
        mock.patch.object(state, "FORMAT", 2),
        mock.patch.object(store, "FORMAT", 2),
    ):
        yield  # fmt: skip


def reads_as_it_was_written(path: Path) -> None:
    run = Run(path)
    assert [check.problem for check in verify_run(path)] == [None, None]
    version = run.current("ift")
    assert version.table().equals(rows(100))
    assert version.content_sha256 == IFT
    assert run.find(recipe("ift", 1)) == version
    assert (run.path / "models" / "M1" / "adapter" / "weights").read_bytes() == bytes(range(64))


def test_a_run_of_the_first_format_is_read_verified_reused_and_built_on(old):
    reads_as_it_was_written(old)
    assert publish(Run(old), "ift", 2).table().equals(rows(200))
    assert (
        Run(old).state().current["ift"].previous == (recipe("ift", 1).version, recipe("ift", 2).version)[:1]
    )


@pytest.mark.usefixtures("next_format")
def test_a_program_of_the_next_format_reads_the_run_of_the_first(old):
    reads_as_it_was_written(old)
    assert publish(Run(old), "ift", 3).manifest["format"] == 2


def test_a_run_that_the_next_format_wrote_is_refused_with_both_formats_named(old):
    with mock.patch.object(sealed, "FORMAT", 2), mock.patch.object(state, "FORMAT", 2):
        publish(Run(old), "ift", 3)
    state._parse.cache_clear()  # the reader is another process
    with pytest.raises(
        FormatError, match=r"has format 2, this selfreward reads formats 1 to 1; install a newer"
    ):
        Run(old)
