"""Work that one process does for all when training runs in several (`accelerate launch`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from selfreward.errors import SelfrewardError

T = TypeVar("T")


def processes() -> PartialState:
    """How many processes train together, which one this is, and on what device."""
    # On a machine without a GPU, a bare `PartialState()` takes every process for the only one (accelerate 1.15): each
    # would write the rows and call itself the main process. So the device is given.
    wanted = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=wanted or not torch.accelerator.is_available())


def on_main(work: Callable[[], T]) -> T:
    """The result of `work`, done in the main process only. Its SelfrewardError is raised in every process."""
    state = processes()
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = work()
        except SelfrewardError as error:
            outcome[1] = error
    # An error is sent as well: if only the main process raised, the others would wait for it at the next barrier.
    if state.num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result
