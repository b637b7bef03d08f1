"""`vllm:NAME_OR_PATH`: vLLM on this machine, in its own process, so that all its memory is freed at the end.

Promises in addition to those of `selfreward.engines.base`:

- the batch never runs empty: up to `max_in_flight` requests are computed and as many wait inside vLLM, so that a
  finished one is replaced without a round trip to us;
- a group is one request with all its samples, returned as soon as it has finished; a restart loses at most the
  requests in flight;
- a common start of requests is computed once (vLLM's prefix cache; `metrics()` shows its hits), and so is the prompt
  of all samples of a request;
- a worker that dies, or makes no progress for `timeout_s`, is restarted with the unfinished requests: `max_retries`
  times in all, `FRUITLESS` times in a row without a finished request; then an EngineError, with everything finished
  returned before;
- a bad request (too long, refused by vLLM) affects only its own rows.

Not promised: equal rows on a restart or in another batch, not even for greedy decoding: vLLM's floating-point sums
depend on the batch. On a CPU, per-row seeds are not used either (`seed` is 0 in such rows); see `worker`. vLLM raises
temperatures in (0, 0.01) to 0.01.

`EngineOptions.extra` are vLLM's own engine arguments (`tensor_parallel_size`, `gpu_memory_utilization`, …). Raise
`max_in_flight` to vLLM's `max_num_seqs` (256 or more on a large GPU) to fill its batch where n is 1.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from selfreward.engines.base import (
    BaseEngine,
    Capabilities,
    Completion,
    EngineOptions,
    Request,
    row_seed,
)
from selfreward.engines.chat_tokens import Chat
from selfreward.engines.vllm.frames import Message as Frame
from selfreward.engines.vllm.process import Empty, WorkerProcess, last_error_line
from selfreward.engines.vllm.requests import Preparer, RawAnswer, Ready, error_rows, misfit, still_wanted
from selfreward.errors import ConfigError, EngineError
from selfreward.models.known import fetch_model
from selfreward.progress import say
from selfreward.tables import Message
from selfreward.unkeyed import MONEY

WORKER = (sys.executable, "-P", "-m", "selfreward.engines.vllm.worker")
START_TIMEOUT_S = 1800.0
"""Loading a large model from a slow disk takes minutes."""
FRUITLESS = 2
"""Restarts in a row without a finished request, after which another one would not help."""
PREPARED = 128
"""Requests tokenized at a time: less than a second's work, while others are being computed."""


class WorkerLost(Exception):
    """The worker is dead or hangs; the message says which, and why."""


class VllmEngine(BaseEngine):
    """See the module's docstring. Raises EngineError if vLLM is missing or the folder has no chat template.

    The first request starts vLLM. One `generate` at a time.
    """

    capabilities = Capabilities(logprobs=True, prefix=True, seeds=False)

    def __init__(
        self, target: str, options: EngineOptions, command: Sequence[str] = WORKER, stream: str = "vllm"
    ) -> None:
        """`stream` enters vLLM's seed: engines that share a run's requests need different ones."""
        self.name = f"vllm:{target}"
        if tuple(command) == WORKER and find_spec("vllm") is None:
            raise EngineError(f"{self.name}: vLLM is not installed; pip install 'selfreward[vllm]'")
        self._folder = fetch_model(target)
        self._options = options
        self._command = command
        self._preparer = Preparer(self._folder)
        self._worker: WorkerProcess | None = None
        self._context = 0
        self._seeded = False
        self._stream = stream
        self._seed = 0
        self._next_key = 0
        self._busy = False
        self._counters: dict[str, int] = {}
        self._counters_before: dict[str, int] = {}
        self.n_restarts = 0
        self._fruitless = 0
        self._last_progress = 0.0

    @property
    def worker_pid(self) -> int | None:
        """Process (and process group) id of the worker; None while none runs."""
        return self._worker.pid if self._worker else None

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]:
        """Groups as they finish. Raises ConfigError for options that vLLM refuses, EngineError if it keeps failing."""
        if self._busy:
            raise EngineError(f"{self.name}: `generate` was called while an earlier call is still running")
        yield from self.work_off(deque(still_wanted(requests, done)))

    def start(self, seed: int) -> None:
        """Load the model now instead of at the first request. Raises what `generate` raises."""
        self._seed = seed
        self._keep_alive({})

    def wake(self) -> None:
        """Make `work_off` look at its queue again; to be called by another thread after adding to it."""
        if worker := self._worker:
            worker.wake()

    def work_off(self, waiting: deque[tuple[Request, tuple[int, ...]]]) -> Iterator[list[Completion]]:
        """`generate` for a queue to which another thread may append until the last request is finished; each comes
        with its wanted samples."""
        if not waiting:
            return
        if self._worker is None:
            self._seed = waiting[0][0].seed
        prepared: deque[Ready] = deque()
        in_flight: dict[int, Ready] = {}
        self._busy = True
        try:
            self._keep_alive(in_flight)
            while waiting or prepared or in_flight:
                while (waiting or prepared) and len(in_flight) < 2 * self._options.max_in_flight:
                    if not prepared:
                        prepared.extend(
                            self._preparer.prepare(
                                [waiting.popleft() for _ in range(min(PREPARED, len(waiting)))]
                            )
                        )
                    ready = prepared.popleft()
                    if error := ready.error or misfit(ready, self._context):
                        yield error_rows(ready, error)
                    else:
                        self._send(ready, in_flight)
                if in_flight and (group := self._next_group(in_flight)):
                    yield group
        finally:
            self._busy = False
            # The caller closed the generator: vLLM must not compute answers that nobody reads.
            if in_flight and self._worker:
                self._worker.send({"type": "abort", "keys": list(in_flight)})

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return self._preparer.count_tokens(Chat(tuple(messages)))

    def metrics(self) -> dict[str, int]:
        """vLLM's counters since the engine was opened, over all restarts: `prompt_tokens`, `generation_tokens`,
        `prefix_cache_queries` and `prefix_cache_hits` (tokens looked up and found), `preemptions`, `restarts`.

        During `generate` they are up to a second old.
        """
        if self._worker and not self._busy and self._worker.send({"type": "metrics"}):
            try:
                while (frame := self._worker.receive(10.0)) is not None:
                    self._note(frame)
                    if frame.get("asked"):
                        break
            except Empty:
                pass  # the next request detects a worker that hangs
        totals = {name: value + self._counters_before.get(name, 0) for name, value in self._counters.items()}
        return {**totals, "restarts": self.n_restarts}

    def close(self) -> None:
        """End the worker; its memory is freed when this returns."""
        if self._worker:
            self._worker.close()
            self._worker = None

    # ------------------------------------------------------------------------------ requests and results

    def _send(self, ready: Ready, in_flight: dict[int, Ready]) -> None:
        if not in_flight:
            self._last_progress = time.monotonic()
        self._next_key += 1
        in_flight[self._next_key] = ready
        self._post(self._next_key, ready)

    def _post(self, key: int, ready: Ready) -> None:
        """Send a request to the worker. A dead worker is detected when its answer is awaited."""
        request, sampling = ready.request, ready.request.sampling
        assert self._worker is not None
        self._worker.send(
            {
                "type": "request",
                "key": key,
                "ids": ready.ids,
                "samples": [row_seed(request.seed, request.id, sample) for sample in ready.samples],
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
                "stop": list(sampling.stop),
                "stop_ids": self._preparer.eos_ids,
                "choice_ids": list(ready.choice_ids),
            }
        )

    def _next_group(self, in_flight: dict[int, Ready]) -> list[Completion] | None:
        """The next finished request; None if the worker was replaced or only sent a sign of life."""
        try:
            frame = self._receive()
        except WorkerLost as loss:
            self._lose(loss, len(in_flight))
            self._keep_alive(in_flight)
            return None
        if frame["type"] not in ("result", "refused") or frame["key"] not in in_flight:
            return None  # a sign of life, or an answer for a `generate` that was closed
        ready = in_flight.pop(frame["key"])
        self._fruitless = 0
        if frame["type"] == "refused":
            return error_rows(ready, f"vLLM refused the request: {frame['error']}")
        samples = zip(ready.samples, frame["samples"], strict=True)
        return [
            self._preparer.completion(ready, place, _raw(answer), self._seeded) for place, answer in samples
        ]

    def _receive(self) -> Frame:
        """The next message. Raises WorkerLost if no more will come."""
        worker = self._worker
        assert worker is not None
        while True:
            left_s = self._last_progress + self._options.timeout_s - time.monotonic()
            if left_s <= 0:
                raise WorkerLost(
                    f"no progress for {self._options.timeout_s:g} s (engine.timeout_s); the worker's log is {worker.log}"
                )
            try:
                frame = worker.receive(left_s)
            except Empty:
                continue
            if frame is None:
                raise WorkerLost(worker.died_of())
            if frame["type"] == "dead":
                raise WorkerLost(f"{frame['error']}; the worker's log is {worker.log}")
            self._note(frame)
            return frame

    def _note(self, frame: Frame) -> None:
        """Record the counters and the time of the last progress."""
        # Beats alone are no progress: they come from a thread that runs on when vLLM hangs.
        counters = frame.get("counters", self._counters)
        if frame["type"] != "beat" or counters != self._counters:
            self._last_progress = time.monotonic()
        self._counters = counters

    # ------------------------------------------------------------------------------ the worker's life

    def _keep_alive(self, in_flight: dict[int, Ready]) -> None:
        """Start a worker if none runs, and send it everything in flight. Raises EngineError at the restart limit."""
        while self._worker is None:
            try:
                self._start()
                for key, ready in in_flight.items():
                    self._post(key, ready)
            except WorkerLost as loss:
                self._lose(loss, len(in_flight))

    def _start(self) -> None:
        self._worker = WorkerProcess(self._command)
        extra = {name: value for name, value in self._options.extra.items() if name not in MONEY}
        self._worker.send(
            {
                "type": "start",
                "model": str(self._folder),
                "options": extra,
                # Another seed after a restart, or the same random numbers would be drawn again for other requests.
                "seed": row_seed(self._seed, self._stream, self.n_restarts) % 2**32,
                "dtype": self._options.dtype,
                "max_context": self._options.max_context,
            }
        )
        self._last_progress = time.monotonic()
        try:
            frame = self._worker.receive(START_TIMEOUT_S)
            while frame is not None and frame["type"] == "beat":  # another thread called `wake` meanwhile
                frame = self._worker.receive(START_TIMEOUT_S)
        except Empty:
            raise WorkerLost(
                f"vLLM was not ready after {START_TIMEOUT_S:.0f} s; the worker's log is {self._worker.log}"
            ) from None
        if frame is None:
            raise WorkerLost(self._worker.died_of())
        if frame["type"] == "fatal":
            raise self._cannot_start(frame)
        self._context, self._seeded = frame["context"], frame["seeded"]
        self._last_progress = time.monotonic()

    def _cannot_start(self, frame: Frame) -> EngineError | ConfigError:
        """The error for options or a model that vLLM refuses: a restart would not help."""
        assert self._worker is not None
        log, said = self._worker.log, frame["error"]
        self._worker.kill(keep_log=frame["kind"] != "option")
        self._worker = None
        if frame["kind"] == "option":
            return ConfigError(f"{self.name}: {said}")
        cause = last_error_line(log)  # errors in vLLM's own child processes are only logged
        if cause and cause not in said:
            said = f"{said} ({cause})"
        return EngineError(f"{self.name}: vLLM did not start: {said}; its log is {log}")

    def _lose(self, loss: WorkerLost, n_in_flight: int) -> None:
        """Discard the dead worker. Raises EngineError if the restart limit is reached."""
        assert self._worker is not None
        self._worker.kill()
        self._worker = None
        for name, value in self._counters.items():
            self._counters_before[name] = self._counters_before.get(name, 0) + value
        self._counters = {}
        if self.n_restarts >= self._options.max_retries or self._fruitless >= FRUITLESS:
            raise EngineError(
                f"{self.name}: {loss}; it was already restarted {self.n_restarts} times. "
                "Finished answers are kept: fix the cause, then run the same command again"
            )
        self.n_restarts += 1
        self._fruitless += 1
        say(f"{self.name}: {loss}; restarting it, {n_in_flight} requests are computed again")


def _raw(answer: dict[str, Any]) -> RawAnswer:
    if answer["finish"] not in ("stop", "length"):
        return RawAnswer([], "error", error=f"vLLM ended the answer with {answer['finish']!r}")
    return RawAnswer(answer["ids"], answer["finish"], answer["logprobs"])
