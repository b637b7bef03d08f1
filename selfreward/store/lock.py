"""One process at a time works on a run: a courtesy that saves double work, not what keeps the data whole.

Correctness rests on exclusive renames and links (`durable`, `state`); two processes that both believed they hold
the lock would waste time and still publish one version. The lock is a hard link that names its owner (host,
boot, process id, process start), so that a lock left by a dead process is recognised, reported and taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selfreward.errors import BusyError, StoreError
from selfreward.store import durable
from selfreward.store.owner import identity, is_alive, temporary_name


@contextmanager
def hold(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a run folder while `doing` something (words for the other process's message).

    Raises BusyError if a live process holds it, or one of another host, of which that cannot be told. On a full disk,
    where not even the lock can be written, the folder itself is locked: what makes room must not need room.
    """
    path = folder / ".lock"
    mine = {**identity(os.getpid()), "doing": doing}
    temporary = folder / temporary_name("lock")
    try:
        durable.write_new(temporary, json.dumps(mine).encode())
    except StoreError as error:
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
        if _read(path) == mine:
            durable.remove_file(path)


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
            raise BusyError(f"{folder}: another process is making room here; wait for it") from error
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
        print(
            f"{path.parent}: taking over from process {owner.get('pid')}, which died at work ({owner.get('doing')})",
            file=sys.stderr,
        )
        durable.remove_file(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Between a look at a dead process's lock and its removal nobody else may remove it and link a new one.

    Where the file system knows no flock, two processes that take over in the same instant may both go on, which
    costs time and no data.
    """
    with durable.call("open", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
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
