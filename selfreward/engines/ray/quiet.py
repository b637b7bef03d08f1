"""Turns off what Ray does by default in a user's terminal: usage reports, servers on all interfaces, messages on stdout
and of its C++ side on stderr, its own SIGTERM handler. Its log files keep everything.

Ray has no option for some of these, so names in `ray._private` are patched; tests check the effect.
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
    "RAY_worker_niceness": "0",  # the default 15 starves engines on a CPU beside any other load
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default, without the warning about it
}
"""For a cluster that we start, and for our own connection; values set by the user take precedence."""
SILENT = {"log_to_driver": False, "logging_level": logging.ERROR}
"""Arguments of `ray.init`: the workers' output stays in Ray's logs."""


@contextlib.contextmanager
def quiet_core() -> Iterator[None]:
    """Silence the C++ side of our own connection, which writes to our stderr."""
    # Only inside: a cluster that we start inherits the environment and must keep its logs.
    variable, level = "RAY_BACKEND_LOG_LEVEL", os.environ.get("RAY_BACKEND_LOG_LEVEL")
    os.environ.setdefault(variable, "fatal")
    try:
        yield
    finally:
        if level is None:
            del os.environ[variable]


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Start Ray's servers on loopback only."""
    # They listen on all interfaces, unless Ray believes that this machine cannot be part of a cluster.
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Restore our SIGTERM handler, which Ray replaces; a run needs it to stop cleanly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def silence() -> None:
    """Turn off Ray's console messages, except notices about lost machines, which go to stderr."""
    import ray.data  # noqa: F401  sets its handlers up

    for name in ("ray", "ray.data"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.CRITICAL)
    from ray._private import worker

    worker.print_to_stdstream = _notice


def _notice(data: dict[str, Any], ignore_prefix: bool) -> None:
    """Ray's notices about lost machines. Ray would print them on stdout, which is for results."""
    for text in data["lines"]:
        say(f"Ray: {text.strip().partition(chr(10))[0]}")
