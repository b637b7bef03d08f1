"""Identity of a process, by which another process can later decide whether it is still alive.

A bare process id is not enough: ids are reused, and a folder on a shared disk is seen from other machines. So the
identity is host, boot, process id and process start. Not covered: on a machine without /proc (macOS) a reused process
id counts as alive, and a process of another host cannot be checked at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path
from typing import Any

_TEMPORARY_NAME = re.compile(r"\.(?:tmp|trash)-.*-(\d+)-(\w*)-([0-9a-f]{8})-[0-9a-f]{8}$")


def identity(pid: int) -> dict[str, Any]:
    """Host, boot, id and start of a process; `start` is None if it does not exist."""
    return {"host": socket.gethostname(), "boot": _boot_id(), "pid": pid, "start": _start_time(pid)}


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process of an `identity` still runs; one on another host counts as alive."""
    # Taking a run from a live process on another machine is worse than asking the user to remove a stale lock.
    if owner.get("host") != socket.gethostname():
        return True
    if not isinstance(owner.get("pid"), int):
        return False
    return identity(owner["pid"]) == {k: owner.get(k) for k in ("host", "boot", "pid", "start")}


def temporary_name(stem: str, kind: str = "tmp") -> str:
    """A unique hidden name, `.tmp-draft-4711-98234-1f00…-a3…`, from which `gc` knows the process that made it."""
    pid = os.getpid()
    return f".{kind}-{stem}-{pid}-{_own_start(pid)}-{_machine()}-{secrets.token_hex(4)}"


def is_temporary(name: str) -> bool:
    """Whether a name was made by `temporary_name`."""
    return bool(_TEMPORARY_NAME.match(name))


def owner_runs(name: str) -> bool | None:
    """Whether the process that made a `temporary_name` still runs; None if it was on another machine or boot."""
    match = _TEMPORARY_NAME.match(name)
    if match is None or match[3] != _machine():
        return None
    return _start_time(int(match[1])) == match[2]


@cache
def _own_start(pid: int) -> str:
    # Cached by pid, so that a forked child does not inherit its parent's start.
    return _start_time(pid) or ""


@cache
def _machine() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {_boot_id()}".encode()).hexdigest()[:8]


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """The process's start in clock ticks since boot ("" without /proc), None if it does not run."""
    if not Path("/proc/self/stat").exists():
        return "" if _exists(pid) else None
    # The second field is the command in parentheses and may hold spaces and parentheses, so split after the last one.
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie has ended; only its parent has not collected it yet.
    return None if state == "Z" else rest[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        return True
    return True
