"""Fault injection: an operation is stopped at its call 1, 2, 3, … of `selfreward.store.durable` until it finishes untouched.

    report = sweep(Operation("publish", prepare, act), KILL, tmp_path)

For every n the prepared folder is copied, a forked child acts on the copy with a fault at its n-th call, and then:

- readers see, name by name, what was there before or what an undisturbed run makes, whole;
- an operating-system error ends in a StoreError that names a path and the free space, never in a traceback;
- the same operation again, undisturbed, completes, and what it makes equals the undisturbed run's, file by file;
- `gc` then finds every leftover, and nothing hidden is left behind.

Children are forked from this warm process, so that one case costs tens of milliseconds; as many forked workers as
there are cores take the cases in turn.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from tried import tried

from selfreward.errors import SelfrewardError, StoreError
from selfreward.store import durable
from selfreward.store.gc import collect
from selfreward.store.owner import is_temporary
from selfreward.store.run import Run

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
    survives: tuple[int, ...] = ()
    """Errors of the disk after which it may be done all the same."""


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
    trial = Trial(operation, folder)

    def strike(number: int, case: Path) -> int:
        where = f"{operation.name}, {fault.name} at call {number}"
        outcome = in_child(lambda: operation.act(case), fault, number, case.parent)
        if outcome.code != DONE or fault.error not in operation.survives:
            _check_stop(outcome, fault, case, where)
        trial.check(case, where)
        return outcome.code != DONE

    struck = trial.each(range(first, trial.calls + 1, stride), strike)
    tried(f"{fault.name}, at every call of an operation or at some", struck)
    return Swept(operation.name, fault.name, trial.calls, struck)


def kill_at_random(operation: Operation, folder: Path, n: int, rng: random.Random) -> Swept:
    """Kill the operation `n` times after a random time, between its start and its usual end."""
    trial = Trial(operation, folder)
    times_s = [rng.uniform(0, trial.usual_s * 1.1) for _ in range(n)]

    def kill(number: int, case: Path) -> int:
        where = f"{operation.name}, kill {number} after {times_s[number] * 1000:.0f} ms"
        stopped = in_child(lambda: operation.act(case), None, 0, case.parent, kill_after_s=times_s[number])
        assert stopped.code in (DONE, -signal.SIGKILL), f"{where}: {stopped.text}"
        trial.check(case, where)
        return stopped.code != DONE

    killed = trial.each(range(n), kill)
    tried(f"kill -9 at random times: {operation.name}", killed)
    return Swept(operation.name, "kill -9 at random times", n, killed)


class Trial:
    """What there was before an operation and what it makes undisturbed: what every case is compared with."""

    def __init__(self, operation: Operation, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._operation = operation
        self._folder = folder
        self._before, self._after = folder / "before", folder / "after"
        operation.prepare(self._before)
        shutil.copytree(self._before, self._after, symlinks=True)
        started = time.monotonic()
        self.calls = _undisturbed(operation, self._after)
        self.usual_s = time.monotonic() - started
        self._old, self._new = operation.look(self._before), operation.look(self._after)

    def each(self, numbers: range, do: Callable[[int, Path], int]) -> int:
        """Do every case on a copy of the prepared folder, and add up what `do` gives back."""
        n_workers = os.cpu_count() or 1
        shares = [numbers[worker::n_workers] for worker in range(min(n_workers, len(numbers)))]
        return sum(at_once([partial(self._share, share, do, worker) for worker, share in enumerate(shares)]))

    def _share(self, numbers: range, do: Callable[[int, Path], int], worker: int) -> int:
        case = self._folder / f"worker-{worker}" / "case"
        case.parent.mkdir()
        total = 0
        for number in numbers:
            shutil.copytree(self._before, case, symlinks=True)
            total += do(number, case)
            shutil.rmtree(case)
        return total

    def check(self, case: Path, where: str) -> None:
        """A reader sees old or new; the same operation again ends where an undisturbed one does."""
        _check_view(self._operation.look(case), self._old, self._new, where)
        _check_rerun(self._operation, case, self._after, self._new, where)


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Fork one child for each, let them go in the same instant, and give back what each returned."""
    start = time.monotonic() + 0.05 + 0.01 * len(works)
    pipes = [_fork(work, start) for work in works]
    answers, failures = [], []
    for pid, reader in pipes:
        with os.fdopen(reader) as answer:
            answers.append(json.loads(answer.read() or '"no answer"'))
        if os.waitpid(pid, 0)[1]:
            failures.append(answers[-1])
    assert not failures, "\n\n".join(failures)
    return answers


def _fork(work: Callable[[], Any], start: float) -> tuple[int, int]:
    reader, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code, answer = 1, None
        try:
            time.sleep(max(0, start - time.monotonic()))
            answer = work()
            code = 0
        except BaseException:
            answer = traceback.format_exc()
        os.write(writing, json.dumps(answer).encode())
        os._exit(code)
    os.close(writing)
    return pid, reader


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
