"""Hypothesis drives the store in random order: publish, kill, resume, second writer, gc, damage, verify, quarantine.

After every step each name reads as exactly the rows that were published under its current key, or is refused because
this test damaged it; nothing else is ever seen.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from driver import DONE, KILL, in_child
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from operations import publish, recipe, rows
from tried import tried

from selfreward.errors import DamagedError
from selfreward.store.gc import collect
from selfreward.store.owner import is_temporary
from selfreward.store.run import Run
from selfreward.store.version import Version

NAMES = st.sampled_from(["ift", "iter1/pairs"])
SETTINGS = st.integers(1, 3)


class StoreMachine(RuleBasedStateMachine):
    """`expected` is what each name must read as; `damaged` are the versions whose bits this test flipped.

    Which of two writers comes last is chance, so no rule's choices depend on what is expected.
    """

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(
            tempfile.mkdtemp(prefix="selfreward-machine-", dir=memory if memory.is_dir() else None)
        )
        self.run = Run.create(self.folder / "run")
        self.expected: dict[str, int] = {}
        self.damaged: set[Path] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def folder_of(self, name: str, setting: int) -> Path:
        return self.run.path / "datasets" / name / recipe(name, setting).version

    @rule(name=NAMES, setting=SETTINGS)
    def publish(self, name: str, setting: int) -> None:
        self._unless_damaged(name, setting, lambda: publish(self.run.path, name, setting))

    @rule(name=NAMES, setting=SETTINGS, call=st.integers(1, 30))
    def kill_a_publish(self, name: str, setting: int, call: int) -> None:
        outcome = in_child(lambda: publish(self.run.path, name, setting), KILL, call, self.folder)
        assert outcome.code in (DONE, -signal.SIGKILL) or self.folder_of(name, setting) in self.damaged, (
            outcome
        )
        self._look_which(name, {self.expected.get(name), setting})

    @rule(names=st.lists(st.tuples(NAMES, SETTINGS), min_size=2, max_size=3))
    def several_writers(self, names: list[tuple[str, int]]) -> None:
        children = [_start(self.run.path, name, setting) for name, setting in names]
        for child, (name, setting) in zip(children, names, strict=True):
            assert child() == 0 or self.folder_of(name, setting) in self.damaged
        for name in {name for name, _ in names}:
            self._look_which(name, {self.expected.get(name), *(s for n, s in names if n == name)})

    @rule(dry_run=st.booleans())
    def gc(self, dry_run: bool) -> None:
        try:
            collect(self.run, dry_run)
        except DamagedError:
            assert self.damaged
            return
        if not dry_run:
            left = {path for path in self.run.path.rglob("*") if is_temporary(path.name)}
            assert not left
            self.damaged = {folder for folder in self.damaged if folder.is_dir()}

    @rule(name=NAMES, which=st.integers(0, 3), seed=st.integers(0, 999))
    def damage(self, name: str, which: int, seed: int) -> None:
        if name not in self.expected:
            return
        folder = self.folder_of(name, self.expected[name])
        path = sorted(folder.iterdir())[which]
        rng = random.Random(seed)
        content = bytearray(path.read_bytes())
        number = rng.randrange(8 * len(content))
        content[number // 8] ^= 1 << number % 8
        if folder not in self.damaged:  # twice the same bit would be no damage
            path.write_bytes(content)
            self.damaged.add(folder)

    @rule()
    def quarantine(self) -> None:
        for folder in self.damaged:
            name = self._name_of(folder)
            self.run.quarantine(Version(name, folder))
            if name in self.expected and self.folder_of(name, self.expected[name]) == folder:
                del self.expected[name]
        self.damaged.clear()

    @rule()
    def verify(self) -> None:
        names = self.run.names()
        if any(self._name_of(folder) in names for folder in self.damaged):
            with pytest.raises(DamagedError):
                list(self.run.verify(names))
        else:
            list(self.run.verify(names))

    @invariant()
    def every_name_reads_as_published_or_is_refused(self) -> None:
        run = Run(self.run.path)
        assert set(run.names()) == set(self.expected)
        for name, setting in self.expected.items():
            if self.folder_of(name, setting) in self.damaged:
                with pytest.raises(DamagedError):
                    run.current(name).table()
            else:
                assert run.current(name).table().equals(rows(setting * 100))

    def _name_of(self, folder: Path) -> str:
        return folder.parent.relative_to(self.run.path / "datasets").as_posix()

    def _unless_damaged(self, name: str, setting: int, act) -> None:
        try:
            act()
        except DamagedError:
            assert self.folder_of(name, setting) in self.damaged
            self._look_which(name, {self.expected.get(name)})
        else:
            self.expected[name] = setting

    def _look_which(self, name: str, allowed: set[int | None]) -> None:
        """After a kill or a race, the current version is one of those it may be; from now on it is expected."""
        entry = self.run.state().current.get(name)
        found = next((s for s in (1, 2, 3) if entry and recipe(name, s).version == entry.version), None)
        assert found in allowed
        if found is not None:
            self.expected[name] = found


def _start(folder: Path, name: str, setting: int):

    pid = os.fork()
    if pid == 0:
        try:
            publish(folder, name, setting)
            os._exit(0)
        except BaseException:
            os._exit(1)
    return lambda: os.waitpid(pid, 0)[1]


def _drive(n_examples: int, n_steps: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(max_examples=n_examples, stateful_step_count=n_steps, deadline=None, suppress_health_check=quiet),
    )  # fmt: skip


def test_no_order_of_events_shows_a_reader_anything_else():
    _drive(12, 12)


@pytest.mark.faults
def test_no_long_order_of_events_does_either():
    _drive(300, 40)
    tried("random sequences of up to 40 events", 300)
