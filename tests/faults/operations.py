"""The operations of the store that the sweeps interrupt, each on a small run folder."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
from driver import Operation, readers_view

from selfreward.store import durable, lock
from selfreward.store.gc import collect
from selfreward.store.journal import Journal
from selfreward.store.owner import temporary_name
from selfreward.store.run import Counts, Recipe, Run
from selfreward.store.state import update_state


def rows(first: int, n: int = 4) -> pa.Table:
    """Rows in the shape of candidates: an id, a text, a score that may be NULL, messages."""
    numbers = range(first, first + n)
    return pa.table(
        {
            "candidate_id": [f"c-{i}" for i in numbers],
            "response": [f"answer {i}\n" * 3 for i in numbers],
            "score": [None if i % 3 == 0 else i / 2 for i in numbers],
            "messages": [[{"role": "user", "content": f"question {i}"}] for i in numbers],
        }
    )


def recipe(name: str, setting: int) -> Recipe:
    return Recipe(name, "tests.faults 1", params={"setting": setting})


def publish(folder: Path, name: str, setting: int) -> None:
    table = rows(setting * 100)
    run = Run.create(folder)
    found = run.find(recipe(name, setting))
    if found is not None:
        run.make_current(found)
    else:
        run.publish_table(recipe(name, setting), table, Counts(table.num_rows, table.num_rows))


def publish_model(folder: Path, name: str, setting: int) -> None:
    run = Run.create(folder)
    found = run.find(recipe(name, setting))
    if found is not None:
        run.make_current(found)
        return
    with run.draft(name) as draft:
        (draft / "weights").mkdir()
        (draft / "weights" / "model.safetensors").write_bytes(bytes([setting]) * 1000)
        (draft / "config.json").write_text("{}")
        run.publish_model(recipe(name, setting), draft, Counts(2, 2))


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _two_versions(folder: Path) -> None:
    for setting in (1, 2):
        publish(folder, "ift", setting)
        publish_model(folder, "M1", setting)


def _back_to_the_first(folder: Path) -> None:
    run = Run(folder)
    for name in ("ift", "M1"):
        found = run.find(recipe(name, 1))
        assert found is not None
        run.make_current(found)


def _forget_ift(folder: Path) -> None:
    update_state(folder, lambda state: state.without("ift") if "ift" in state.current else state)


def _half_a_journal(folder: Path) -> None:
    with Journal(folder / ".work" / "journal.jsonl") as journal:
        journal.append(["a", 1])
        journal.append(["b", 2])
    with journal.path.open("ab") as file:
        file.write(b"0123456789abcdef [torn")


def _finish_the_journal(folder: Path) -> None:
    with Journal(folder / ".work" / "journal.jsonl") as journal:
        done = {unit[0] for unit in journal.units()}
        for name, value in (("a", 1), ("b", 2), ("c", 3), ("d", "x" * 5000), ("e", 5)):
            if name not in done:
                journal.append([name, value])


def _units(folder: Path) -> dict[str, Any]:
    found = list(Journal(folder / ".work" / "journal.jsonl").units())
    assert len(found) == len({unit[0] for unit in found})
    return dict(found)


def leave_a_lock(folder: Path) -> None:
    """The lock of a process that was killed at work."""
    pid = os.fork()
    if pid == 0:
        with lock.hold(folder, "a killed run"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (folder / ".lock").exists()


def _run_with_a_dead_lock(folder: Path) -> None:
    publish(folder, "ift", 1)
    leave_a_lock(folder)


def _work_with_the_lock(folder: Path) -> None:
    with Run(folder).hold("the next run"):
        publish(folder, "ift", 2)


def _quarantine_ift(folder: Path) -> None:
    run = Run(folder)
    for version in run.versions("ift"):
        run.quarantine(version)


def _rubbish_for_gc(folder: Path) -> None:
    _two_versions(folder)
    publish(folder, "eft", 1)
    (durable.make_folder(Run(folder).work_folder(recipe("eft", 1))) / "journal.jsonl").write_text("")
    pid = os.fork()
    if pid == 0:
        (folder / "datasets" / "ift" / temporary_name("draft")).mkdir()
        os._exit(0)
    os.waitpid(pid, 0)


STORE_OPERATIONS = [
    Operation("create a run and publish a table", _nothing, lambda f: publish(f, "ift", 1)),
    Operation("publish a table over another", lambda f: publish(f, "iter1/pairs", 1), lambda f: publish(f, "iter1/pairs", 2)),
    Operation("publish a model over another", lambda f: publish_model(f, "M1", 1), lambda f: publish_model(f, "M1", 2)),
    Operation("make earlier versions current", _two_versions, _back_to_the_first),
    Operation("update the state", _two_versions, _forget_ift),
    Operation("append to a torn journal", _half_a_journal, _finish_the_journal, _units),
    Operation("take over a dead process's lock", _run_with_a_dead_lock, _work_with_the_lock),
    Operation("quarantine", _two_versions, _quarantine_ift),
    Operation("gc", _rubbish_for_gc, lambda f: collect(Run(f)), survives=(errno.ENOSPC,)),
]  # fmt: skip

__all__ = ["STORE_OPERATIONS", "leave_a_lock", "publish", "publish_model", "readers_view", "recipe", "rows"]
