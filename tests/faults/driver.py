"""Fault injection: an operation is stopped at its call 1, 2, 3, … of `selfreward.durable` until it finishes untouched.

    report = sweep(Operation("publish", prepare, act), KILL, tmp_path)

For every n the prepared folder is copied, a forked child acts on the copy with a fault at its n-th call, and then:

- readers see, name by name, what was there before or what an undisturbed run makes, whole;
- an operating-system error ends in a StoreError that names a path and the free space, never in a traceback;
- the same operation again, undisturbed, completes, and what it makes equals the undisturbed run's, file by file;
- `gc` then finds every leftover, and nothing hidden is left behind.

Children are forked from this warm process, so that one case costs tens of milliseconds.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from selfreward import durable
from selfreward.errors import SelfrewardError, StoreError
from selfreward.gc import collect
from selfreward.owner import is_temporary
from selfreward.store import Run

DONE, REFUSED, CRASHED = 0, 10, 11


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call. `forever`: from then on; `torn`: half of what it was writing is written."""

    name: str
    error: int | None = None
    """The errno that is raised; None kills the process."""
    forever: bool = False
    torn: bool = False


KILL = Fault("kill -9")
TORN_KILL = Fault("kill -9 in the middle of a write", torn=True)
DISK_FULL = Fault("ENOSPC", errno.ENOSPC)
DISK_FULL_IN_A_WRITE = Fault("ENOSPC in the middle of a write", errno.ENOSPC, torn=True)
ERRORS = [Fault(errno.errorcode[code], code) for code in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)]
LASTING_ERRORS = [Fault(f"{fault.name} from then on", fault.error, forever=True) for fault in ERRORS]
FAULTS = [KILL, TORN_KILL, *ERRORS, DISK_FULL_IN_A_WRITE, *LASTING_ERRORS]


def readers_view(folder: Path) -> dict[str, Any]:
    """What a reader gets: for every current name the verified content. Raises where anything is damaged."""
    if not (folder / "run.json").exists():
        return {}
    run = Run(folder)
    view: dict[str, Any] = {}
    for name in run.names():
        version = run.current(name)
        version.verify()
        if version.manifest["schema"]:
            assert version.table().num_rows == version.n_rows
        view[name] = version.content_sha256
    return view


@dataclass(frozen=True)
class Operation:
    """`act` on a folder that `prepare` made; `look` gives name -> what a reader sees there."""

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    look: Callable[[Path], dict[str, Any]] = readers_view
    check: Callable[[Path], object] = lambda folder: None
    """Called after the rerun."""


@dataclass(frozen=True)
class Swept:
    """The counts of a sweep."""

    operation: str
    fault: str
    cases: int
    """Calls of the undisturbed operation; for random kills, how many were tried."""
    stopped: int
    """Cases in which the fault struck; at random times, the others were done before."""

    def __str__(self) -> str:
        return f"{self.operation}: {self.fault}: struck {self.stopped} of {self.cases} times, all recovered"


def sweep(operation: Operation, fault: Fault, folder: Path, stride: int = 1, first: int = 1) -> Swept:
    """Strike at call `first`, `first + stride`, … until the operation finishes untouched."""
    folder.mkdir(exist_ok=True)
    before, after = folder / "before", folder / "after"
    operation.prepare(before)
    shutil.copytree(before, after, symlinks=True)
    calls = _undisturbed(operation, after)
    old, new = operation.look(before), operation.look(after)
    number, struck = first, 0
    while number <= calls:
        where = f"{operation.name}, {fault.name} at call {number}"
        case = folder / "case"
        shutil.copytree(before, case, symlinks=True)
        outcome = in_child(lambda case=case: operation.act(case), fault, number, folder)
        _check_stop(outcome, fault, case, where)
        struck += outcome.code != DONE
        _check_view(operation.look(case), old, new, where)
        _check_rerun(operation, case, after, new, where)
        shutil.rmtree(case)
        number += stride
    return Swept(operation.name, fault.name, calls, struck)


def kill_at_random(operation: Operation, folder: Path, n: int, rng: random.Random) -> Swept:
    """Kill the operation `n` times after a random time, between its start and its usual end."""
    folder.mkdir(exist_ok=True)
    before, after = folder / "before", folder / "after"
    operation.prepare(before)
    shutil.copytree(before, after, symlinks=True)
    started = time.monotonic()
    _undisturbed(operation, after)
    usual_s = time.monotonic() - started
    old, new = operation.look(before), operation.look(after)
    killed = 0
    for number in range(n):
        case = folder / "case"
        shutil.copytree(before, case, symlinks=True)
        after_s = rng.uniform(0, usual_s * 1.1)
        where = f"{operation.name}, kill {number} after {after_s * 1000:.0f} ms"
        stopped = in_child(lambda case=case: operation.act(case), None, 0, folder, kill_after_s=after_s)
        assert stopped.code in (DONE, -signal.SIGKILL), f"{where}: {stopped.text}"
        killed += stopped.code != DONE
        _check_view(operation.look(case), old, new, where)
        _check_rerun(operation, case, after, new, where)
        shutil.rmtree(case)
    return Swept(operation.name, "kill -9 at random times", n, killed)


def _undisturbed(operation: Operation, folder: Path) -> int:
    """Act in this process, which then has imported what its children need; how many calls that took."""
    counter = Striker(None, 0)
    with mock.patch.object(durable, "hook", counter):
        operation.act(folder)
    return counter.n


def _check_stop(outcome: Outcome, fault: Fault, case: Path, where: str) -> None:
    if fault.error is None:
        assert outcome.code == -signal.SIGKILL, f"{where}: {outcome.code} {outcome.text}"
        return
    assert outcome.code == REFUSED, f"{where}: exit {outcome.code}: {outcome.text}"
    assert str(case) in outcome.text, f"{where}: the message names no path: {outcome.text}"
    assert "free" in outcome.text, f"{where}: the message does not tell the free space: {outcome.text}"
    assert os.strerror(fault.error) in outcome.text, f"{where}: {outcome.text}"


def _check_view(seen: dict[str, Any], old: dict[str, Any], new: dict[str, Any], where: str) -> None:
    for name in old.keys() | new.keys() | seen.keys():
        assert seen.get(name) in (old.get(name), new.get(name)), f"{where}: {name} is neither old nor new"


def _check_rerun(operation: Operation, case: Path, after: Path, new: dict[str, Any], where: str) -> None:
    _undisturbed(operation, case)
    assert operation.look(case) == new, f"{where}: the rerun made something else"
    operation.check(case)
    assert visible(case) == visible(after), f"{where}: other files than an undisturbed run leaves"
    if (case / "run.json").exists():
        collect(Run(case))
    assert not [path for path in case.rglob("*") if is_temporary(path.name)], (
        f"{where}: gc left something behind"
    )


def visible(folder: Path) -> set[str]:
    """Every path a reader can come across: nothing hidden on the way."""
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    return {str(path) for path in paths if not any(part.startswith(".") for part in path.parts)}


@dataclass(frozen=True)
class Outcome:
    code: int
    """Exit status, or minus the signal that ended it."""
    text: str


def in_child(
    act: Callable[[], object],
    fault: Fault | None,
    number: int,
    folder: Path,
    kill_after_s: float | None = None,
) -> Outcome:
    """Run `act` in a forked child with a fault at its `number`-th call (or none)."""
    report = folder / "report.txt"
    report.write_text("")
    pid = os.fork()
    if pid == 0:
        _child(act, fault, number, report)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), report.read_text())


def _child(act: Callable[[], object], fault: Fault | None, number: int, report: Path) -> None:
    code, text = CRASHED, ""
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        durable.hook = Striker(fault, number)
        act()
        code = DONE
    except StoreError as error:
        code, text = REFUSED, str(error)
    except SelfrewardError as error:
        text = f"{type(error).__name__}: {error}"
    except BaseException:
        text = traceback.format_exc()
    finally:
        report.write_text(text)
        os._exit(code)


class Striker:
    """The hook: counts the calls, and strikes at the n-th."""

    def __init__(self, fault: Fault | None, number: int) -> None:
        self.n = 0
        self._fault = fault
        self._number = number

    def __call__(self, name: str, path: Path) -> None:
        self.n += 1
        if (
            self._fault is None
            or self.n < self._number
            or (self.n > self._number and not self._fault.forever)
        ):
            return
        if self._fault.torn and name in ("write", "append"):
            durable.write_all = self._write_half  # type: ignore[assignment]
        else:
            self._strike()

    def _write_half(self, descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[: len(content) // 2])
        self._strike()

    def _strike(self) -> None:
        assert self._fault is not None
        if self._fault.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        raise OSError(self._fault.error, os.strerror(self._fault.error))
