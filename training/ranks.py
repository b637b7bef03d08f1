"""What one process does for all of them when training runs in several (`accelerate launch`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from selfreward.errors import SelfrewardError

T = TypeVar("T")


def on_main(work: Callable[[], T]) -> T:
    """The result of `work`, done in the main process only. Its SelfrewardError is raised in every process."""
    state = PartialState()
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = work()
        except SelfrewardError as error:
            outcome[1] = error
    if state.num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result
