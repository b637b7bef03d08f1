"""A worker in its own process group: started, monitored, and ended with everything it started.

Promises: the worker's whole process group is killed and waited for, also if the worker was killed or hangs, so that the
next step finds its memory free; no shared memory is left behind. If this process dies, the worker reads the end of its
socket and exits. Its output is in a log file that is kept if it failed. It starts with the current folder off the
import path, so that a user's `builders/` does not shadow ours.

The worker gets the number of its socket as last argument. Its messages are those of `frames`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

import psutil

from selfreward.engines.vllm.frames import Channel, Message
from selfreward.progress import say

PATIENCE_AT_THE_END_S = 10.0
LOG_TAIL_BYTES = 20_000


class WorkerProcess:
    """One running worker."""

    def __init__(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with tempfile.NamedTemporaryFile(prefix="selfreward-worker-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        self._channel = Channel(ours)
        self._inbox: SimpleQueue[Message | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="worker-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> bool:
        """Whether the message could be sent; after a failure, `receive` returns None."""
        try:
            self._channel.send(message)
        except OSError:
            return False
        return True

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, None at the worker's end. Raises queue.Empty after `timeout_s` without one."""
        return self._inbox.get(timeout=timeout_s)

    def wake(self) -> None:
        """Let a `receive` that waits in another thread return, with an empty message."""
        self._inbox.put({"type": "beat"})

    def close(self, keep_log: bool = False) -> None:
        """Ask the worker to end, wait a little, kill what is left. Calling it twice is fine."""
        if self.send({"type": "close"}):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_AT_THE_END_S)
        self.kill(keep_log)

    def kill(self, keep_log: bool = True) -> None:
        """End the worker and everything it started, now."""
        # The group outlives its leader, so this also reaches the children of a dead worker.
        end_group(self._process.pid)
        self._process.wait()
        self._channel.close()
        self._reader.join(timeout=PATIENCE_AT_THE_END_S)
        if not keep_log:
            self.log.unlink(missing_ok=True)

    def died_of(self) -> str:
        """How the worker ended, and its last error. To be called after the end of the stream."""
        # The socket closes a moment before the exit code can be read.
        deadline = time.monotonic() + 2
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        code = self._process.poll()
        how = "closed its socket" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {signal.Signals(-code).name}"
        said = last_error_line(self.log)
        return f"the worker {how}{f' ({said})' if said else ''}; its log is {self.log}"

    def _read(self) -> None:
        while True:
            try:
                message = self._channel.receive()
            except ValueError:
                message = None  # not our protocol: treat the worker as dead
            self._inbox.put(message)
            if message is None:
                return


def end_group(group: int) -> None:
    """Kill a process group and wait until none of its processes is left."""
    # A killed process with gigabytes takes a while to free them, and new members may be forked meanwhile: so repeatedly.
    deadline = time.monotonic() + PATIENCE_AT_THE_END_S
    while left := kill_members(group, with_trackers=time.monotonic() > deadline):
        if time.monotonic() > deadline + PATIENCE_AT_THE_END_S:
            say(
                f"processes {left} of a worker were killed and have not ended yet; their memory is still taken"
            )
            return
        time.sleep(0.02)


def kill_members(group: int, with_trackers: bool = False) -> list[int]:
    """Kill the processes of a group except this one; returns the ids of those that were still alive."""
    alive = []
    for process in psutil.process_iter():
        try:
            # A zombie holds no memory.
            if os.getpgid(process.pid) != group or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid == os.getpid():
                continue
            alive.append(process.pid)
            # multiprocessing's resource trackers end by themselves after the processes they serve, and remove the shared
            # memory that these leave (vLLM's queues, 160 MB or more per process).
            if with_trackers or "resource_tracker" not in " ".join(process.cmdline()):
                process.kill()
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return alive


def last_error_line(log: Path) -> str:
    """The last line of a log that names an error; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    named = [line.strip() for line in lines if "Error" in line and not line.lstrip().startswith("File ")]
    return named[-1][-300:] if named else ""


__all__ = ["Empty", "WorkerProcess", "end_group", "kill_members", "last_error_line"]
