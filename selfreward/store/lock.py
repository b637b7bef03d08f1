"""An advisory lock: one process at a time works on a run. It saves duplicate work; no data depends on it.

Correctness comes from exclusive renames and links (`durable`, `state`): two processes that both believe they hold the
lock waste time and still publish one version. The lock is a hard link that names its process (host, boot, process id,
process start), so that a lock left by a dead process is recognized, reported and taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selfreward.errors import BusyError, StoreError
from selfreward.progress import say
from selfreward.store import durable
from selfreward.store.owner import identity, is_alive, temporary_name


@contextmanager
def hold(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a run folder; `doing` is shown to other processes that want it.

    BusyError if a live process holds it, or a process of another host, which cannot be checked.
    """
    path = folder / ".lock"
    mine = {**identity(os.getpid()), "doing": doing}
    temporary = folder / temporary_name("lock")
    try:
        durable.write_new(temporary, json.dumps(mine).encode())
    except StoreError as error:
        # `gc` must work on a full disk, where not even the lock file can be written: the folder itself is locked.
        if not durable.is_no_space(error):
            raise
        with _hold_without_file(folder, path):
            yield
        return
    try:
        while not durable.link_new(temporary, path):
            _take_over_or_refuse(path)
    finally:
        durable.remove_file(temporary)
    try:
        yield
    finally:
        # Somebody may have removed our lock by hand and started another process: never remove that one's.
        if _read(path) == mine:
            durable.remove_file(path)


def at_work(folder: Path) -> str:
    """What a live process does in a run folder now, for a reader; empty if none is at work."""
    owner = _read(folder / ".lock")
    return (
        f"process {owner.get('pid')}: {owner.get('doing')}" if owner is not None and is_alive(owner) else ""
    )


@contextmanager
def _hold_without_file(folder: Path, path: Path) -> Iterator[None]:
    owner = _read(path)
    if owner is not None and is_alive(owner):
        raise BusyError(_busy(path, owner))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{folder}: another process is freeing space here; wait for it") from error
        yield
    finally:
        os.close(descriptor)


def _take_over_or_refuse(path: Path) -> None:
    with _alone(path.with_name(".lock-takeover")):
        owner = _read(path)
        if owner is None:
            return  # released, or taken over, since our link failed
        if is_alive(owner):
            raise BusyError(_busy(path, owner))
        say(
            f"{path.parent}: taking over from process {owner.get('pid')}, which died at work ({owner.get('doing')})"
        )
        durable.remove_file(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Exclusive takeover: no other process may replace a dead process's lock between our check and its removal."""
    with durable.call("open", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        # Without flock (some network file systems), two processes that take over at the same instant may both continue.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _busy(path: Path, owner: dict[str, Any]) -> str:
    where = f"process {owner.get('pid')} on {owner.get('host')}"
    if owner.get("host") == socket.gethostname():
        remedy = "wait for it or stop it, then run the same command again"
    else:
        remedy = f"wait for it; if that machine was lost, remove {path} and run the same command again"
    return f"{path.parent}: {where} is already at work here ({owner.get('doing')}); {remedy}"


def _read(path: Path) -> dict[str, Any] | None:
    content = durable.read(path)
    if content is None:
        return None
    with suppress(ValueError):
        owner = json.loads(content)
        if isinstance(owner, dict):
            return owner
    return {"host": socket.gethostname(), "pid": "unknown", "doing": "its lock is unreadable"}
