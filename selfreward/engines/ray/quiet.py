"""Habits of Ray that a guest in somebody's terminal does without: usage reports, servers on all interfaces, messages on
stdout and of its C++ side on stderr, taking SIGTERM for itself. Its log files keep everything.

Where Ray has no option for it, a name inside `ray._private` is changed; the tests look at what comes of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from selfreward.progress import say

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by default, with which engines on a CPU starve beside anything else
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do anyway, without a warning about it
}
"""For a cluster that we start, and for our own connection; what the user has set stays."""
SILENT = {"log_to_driver": False, "logging_level": logging.ERROR}
"""Arguments of `ray.init`: the workers' output stays in Ray's logs."""


@contextlib.contextmanager
def quiet_core() -> Iterator[None]:
    """Our own connection's C++ side writes into our stderr; a cluster that we start shall log as ever."""
    variable, level = "RAY_BACKEND_LOG_LEVEL", os.environ.get("RAY_BACKEND_LOG_LEVEL")
    os.environ.setdefault(variable, "fatal")
    try:
        yield
    finally:
        if level is None:
            del os.environ[variable]


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Ray's servers listen on all interfaces, unless it takes this for a machine that cannot be in a cluster."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself, in which a run notes how it was stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def silence() -> None:
    """Ray's console messages: what concerns the user we say ourselves. Its log files keep everything."""
    import ray.data  # noqa: F401  sets its handlers up

    for name in ("ray", "ray.data"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.CRITICAL)
    from ray._private import worker

    worker.print_to_stdstream = _notice


def _notice(data: dict[str, Any], ignore_prefix: bool) -> None:
    """What Ray says about machines that it lost. It would print that on stdout, which is for results."""
    for text in data["lines"]:
        say(f"Ray: {text.strip().partition(chr(10))[0]}")
