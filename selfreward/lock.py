"""One process at a time works on a run: a courtesy that saves double work, not what keeps the data whole.

Correctness rests on exclusive renames and links (`durable`, `state`); two processes that both believed they hold
the lock would waste time and still publish one version. The lock is a hard link that names its owner (host,
boot, process id, process start), so that a lock left by a dead process is recognised, reported and taken over.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfreward import durable
from selfreward.errors import BusyError


@contextmanager
def hold(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of a run folder while `doing` something (words for the other process's message).

    Raises BusyError if a live process holds it.
    """
    path = folder / ".lock"
    mine = {**_identity(os.getpid()), "doing": doing}
    temporary = folder / f".tmp-lock-{os.getpid()}-{secrets.token_hex(4)}"
    durable.write_new(temporary, json.dumps(mine).encode())
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


def _take_over_or_refuse(path: Path) -> None:
    owner = _read(path)
    if owner is None:
        return  # released between our link and our read
    if _alive(owner):
        raise BusyError(
            f"{path.parent}: process {owner.get('pid')} on {owner.get('host')} is already at work here "
            f"({owner.get('doing')}); wait for it or stop it, then run the same command again"
        )
    print(
        f"{path.parent}: taking over from process {owner.get('pid')}, which died at work ({owner.get('doing')})",
        file=sys.stderr,
    )
    aside = path.with_name(f".tmp-stale-lock-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.rename(aside)  # of several that take over, one renames; the others find no lock and try again
    except FileNotFoundError:
        return
    if _read(aside) != owner:  # somebody took over between our read and our rename: put it back
        durable.link_new(aside, path)
    durable.remove_file(aside)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {"pid": "unknown", "host": socket.gethostname(), "doing": "unreadable lock"}
    return owner if isinstance(owner, dict) else {"pid": "unknown", "host": socket.gethostname()}


def _identity(pid: int) -> dict[str, Any]:
    return {"host": socket.gethostname(), "boot": _boot_id(), "pid": pid, "start": _start_time(pid)}


def _alive(owner: dict[str, Any]) -> bool:
    """On another host it cannot be told, so it counts as alive; the message says whom to ask."""
    if owner.get("host") != socket.gethostname():
        return True
    if not isinstance(owner.get("pid"), int):
        return False
    return _identity(owner["pid"]) == {k: owner.get(k) for k in ("host", "boot", "pid", "start")}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """The process's start in clock ticks since boot, None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if stat[0] == "Z" else stat[19]
    except OSError:
        pass
    try:  # no /proc (macOS): existence is all that can be told
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return "" if not Path("/proc").exists() else None
