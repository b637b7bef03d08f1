"""Who is at work: a process named so that another process can tell later whether it is still alive.

A bare process id is not enough: ids are reused, and a folder on a shared disk is seen from other machines. An
owner is therefore host, boot, process id and the process's start. What is not covered: on a machine without
/proc (macOS) a reused process id counts as alive, and a process of another host cannot be judged at all.
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
    """Host, boot, id and start of a process; `start` is None if there is no such process."""
    return {"host": socket.gethostname(), "boot": _boot_id(), "pid": pid, "start": _start_time(pid)}


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process of an `identity` still runs; one on another host counts as alive."""
    if owner.get("host") != socket.gethostname():
        return True
    if not isinstance(owner.get("pid"), int):
        return False
    return identity(owner["pid"]) == {k: owner.get(k) for k in ("host", "boot", "pid", "start")}


def temporary_name(stem: str, kind: str = "tmp") -> str:
    """A hidden name nobody else picks, `.tmp-draft-4711-98234-1f00…-a3…`, which tells its owner to `gc`."""
    pid = os.getpid()
    return f".{kind}-{stem}-{pid}-{_own_start(pid)}-{_machine()}-{secrets.token_hex(4)}"


def is_temporary(name: str) -> bool:
    """Whether a name was made by `temporary_name`."""
    return bool(_TEMPORARY_NAME.match(name))


def owner_runs(name: str) -> bool | None:
    """Whether the owner of a `temporary_name` still runs; None for one of another machine or boot."""
    match = _TEMPORARY_NAME.match(name)
    if match is None or match[3] != _machine():
        return None
    return _start_time(int(match[1])) == match[2]


@cache
def _own_start(pid: int) -> str:
    """Asked for once a process: `pid` is the argument, so that a forked child asks again."""
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
    """The process's start in clock ticks since boot ("" where there is no /proc), None if it does not run."""
    if not Path("/proc/self/stat").exists():
        return "" if _exists(pid) else None
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else rest[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
