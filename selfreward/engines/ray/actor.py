"""The actor on the machines of a Ray cluster: the engine of `vllm:`, shared by all parcels in the actor.

A *parcel* is a few requests in one JSON string: the unit that Ray Data distributes, and that returns as a whole. An
actor has several at a time, each in one of Ray's threads; all their requests go into one engine, so that a slow
request delays its parcel but never the engine's batch.

An engine failure is an answer too (`Fault`), not an exception: it arrives with its class and its message, where Ray
would deliver a traceback. Parcels are JSON, so that only data crosses the cluster and nothing depends on which Python
objects both ends can unpickle.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import Any

from selfreward.engines.base import Completion, EngineOptions, Request, Sampling
from selfreward.engines.vllm.engine import VllmEngine
from selfreward.errors import EngineError, SelfrewardError
from selfreward.tables import Message

Wanted = tuple[Request, tuple[int, ...]]
"""A request and its samples that are not done."""


@dataclass(frozen=True, slots=True)
class ActorFault:
    """Why an actor's engine stopped: the name of a class of `selfreward.errors`, and the message."""

    kind: str
    error: str
    node: str


class EngineActor:
    """One engine, loaded before the actor accepts parcels."""

    def __init__(
        self, target: str, options: EngineOptions, command: Sequence[str], stream: str, seed: int
    ) -> None:
        self._inbox: deque[Wanted] = deque()
        self._arrived = threading.Event()
        self._callers: dict[str, SimpleQueue[list[Completion] | None]] = {}
        self._fault: ActorFault | None = None
        try:
            self._engine = VllmEngine(target, options, command, f"{stream} {_actor_id()}")
            self._engine.start(seed)
        except SelfrewardError as error:
            self._fault = _fault(error, target)
            return
        threading.Thread(target=self._work, args=(target,), name="engine", daemon=True).start()

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Answer parcels; called by several threads at once."""
        return {"parcel": [self._answer(parcel) for parcel in batch["parcel"]]}

    def _answer(self, parcel: str) -> str:
        wanted = unpack_requests(parcel)
        answers: SimpleQueue[list[Completion] | None] = SimpleQueue()
        for request, _ in wanted:
            self._callers[request.id] = answers
        groups: list[list[Completion]] = []
        # Checked after registering: any later fault puts None into our queue.
        if not self._fault:
            self._inbox.extend(wanted)
            self._arrived.set()
            self._engine.wake()
            while len(groups) < len(wanted) and (group := answers.get()):
                groups.append(group)
        return pack_answers(self._fault or groups)

    def _work(self, target: str) -> None:
        """The thread that drives the engine."""
        try:
            while True:
                self._arrived.wait()
                self._arrived.clear()
                for group in self._engine.work_off(self._inbox):
                    self._callers.pop(group[0].request_id).put(group)
        except Exception as error:  # boundary: whatever ends this thread must reach the waiting callers
            self._fault = _fault(error, target)
            for waiting in list(self._callers.values()):
                waiting.put(None)


def _fault(error: Exception, target: str) -> ActorFault:
    kind = type(error).__name__ if isinstance(error, SelfrewardError) else EngineError.__name__
    said = str(error) if isinstance(error, SelfrewardError) else f"{type(error).__name__}: {error}"
    return ActorFault(kind, said.removeprefix(f"vllm:{target}: "), socket.gethostname())


def _actor_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_actor_id())


# -------------------------------------------------------------------------------------- parcels


def pack_requests(wanted: Sequence[Wanted]) -> str:
    """A parcel."""
    return json.dumps([[asdict(request), samples] for request, samples in wanted])


def unpack_requests(parcel: str) -> list[Wanted]:
    """The inverse of `pack_requests`.

    >>> wanted = [(Request("a", (Message("user", "Hi"),), Sampling(stop=("x",)), choices=("1",)), (0, 2))]
    >>> unpack_requests(pack_requests(wanted)) == wanted
    True
    """
    return [(_request(values), tuple(samples)) for values, samples in json.loads(parcel)]


def _request(values: dict[str, Any]) -> Request:
    sampling = Sampling(**{**values["sampling"], "stop": tuple(values["sampling"]["stop"])})
    messages = tuple(Message(**message) for message in values["messages"])
    return Request(
        **{**values, "messages": messages, "sampling": sampling, "choices": tuple(values["choices"])}
    )


def pack_answers(answers: ActorFault | Sequence[Sequence[Completion]]) -> str:
    """An answered parcel."""
    if isinstance(answers, ActorFault):
        return json.dumps({"fault": asdict(answers)})
    return json.dumps({"groups": [[asdict(one) for one in group] for group in answers]})


def unpack_answers(parcel: str) -> ActorFault | list[list[Completion]]:
    """The inverse of `pack_answers`.

    >>> unpack_answers(pack_answers(ActorFault("ConfigError", "no such option", "node-7")))
    ActorFault(kind='ConfigError', error='no such option', node='node-7')
    """
    values = json.loads(parcel)
    if "fault" in values:
        return ActorFault(**values["fault"])
    return [[Completion(**one) for one in group] for group in values["groups"]]
