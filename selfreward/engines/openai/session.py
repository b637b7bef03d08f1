"""One call of the server engine: many requests in flight, retried, matched, counted, returned as they finish.

A thread runs an event loop that sends; the caller reads finished groups from a queue. Promises: at most
`max_in_flight` requests are out, and at most twice as many are out or finished and unread; an error is raised
after everything that finished before it has been returned; a closed generator leaves no thread behind.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue

from selfreward.engines.base import Completion, EngineOptions, Request
from selfreward.engines.openai.endpoint import Endpoint, MayPass, RowRefused
from selfreward.engines.openai.retry import LONGEST_SERVER_DELAY_S, Backoff, Clock
from selfreward.engines.openai.usage import Usage
from selfreward.engines.openai.wire import Ask, Dialect, InvalidAnswer, error_row, read_answer, request_body
from selfreward.errors import CostLimitError, EngineError

HOPELESS = 16
"""Failed samples in a row, without any success, after which the server is at fault and not the requests."""
STARTUP_RETRIES = 2
"""No answer so far and no server listening: a wrong address is more likely than a busy server."""
PROOF_AGAINST_N = 3
"""Answers in a row with fewer choices than requested, after which `n` is no longer sent."""


@dataclass(slots=True)
class ServerRecord:
    """Facts about the server, from all calls of an engine."""

    n_successes: int = 0
    n_short_answers: int = 0
    n_has_worked: bool = False
    """Some answer had all requested choices."""
    was_reached: bool = False


@dataclass(slots=True)
class _Health:
    """Until when an endpoint is avoided if there are others, and after how many failures in a row."""

    n_bad_moments: int = 0
    cool_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of an ask."""

    finished: list[Completion] = field(default_factory=list)
    failed: list[Completion] = field(default_factory=list)
    """Held back until a success shows that the server is not to blame."""
    follow_ups: list[Ask] = field(default_factory=list)
    succeeded: bool = False


class Session:
    """See the module's docstring; `groups` is to be called once."""

    def __init__(
        self,
        name: str,
        asks: Sequence[Ask],
        dialect: Dialect,
        options: EngineOptions,
        clock: Clock,
        usage: Usage,
        record: ServerRecord,
        open_endpoints: Callable[[], list[Endpoint]],
    ) -> None:
        self._name = name
        self._pending = deque(asks)
        self._dialect = dialect
        self._options = options
        self._clock = clock
        self._usage = usage
        self._record = record
        self._open_endpoints = open_endpoints
        self._backoff = Backoff()
        self._health: dict[Endpoint, _Health] = {}
        self._running: dict[asyncio.Task[_Outcome], float] = {}
        """Requests in flight, and the money reserved for each."""
        self._held: list[Completion] = []
        self._limit_reached: CostLimitError | None = None
        self._queue: SimpleQueue[list[Completion] | BaseException | None] = SimpleQueue()
        self._room = asyncio.Semaphore(2 * options.max_in_flight)

    # ------------------------------------------------------------------ the caller's thread

    def groups(self) -> Iterator[list[Completion]]:
        """Finished completions; those of one list arrived in one answer."""
        if not self._pending:
            return
        loop = asyncio.new_event_loop()
        main = loop.create_task(self._ask_all())
        thread = threading.Thread(target=self._run, args=(loop, main), name="openai-engine", daemon=True)
        thread.start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
                _tell(loop, self._room.release)
        finally:
            _tell(loop, main.cancel)
            thread.join()

    # ------------------------------------------------------------------ the loop's thread

    def _run(self, loop: asyncio.AbstractEventLoop, main: asyncio.Task[None]) -> None:
        """The boundary between the threads: any exception here is raised in the caller's thread."""
        end: BaseException | None = None
        try:
            loop.run_until_complete(main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            end = error
        finally:
            loop.close()
            self._queue.put(end)

    async def _ask_all(self) -> None:
        async with AsyncExitStack() as stack:
            for endpoint in self._open_endpoints():
                stack.push_async_callback(endpoint.aclose)
                self._health[endpoint] = _Health()
            try:
                while self._pending or self._running:
                    await self._start_what_fits()
                    if self._running:
                        finished, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                        self._take(finished)
                self._hand_over(self._held)
                if self._limit_reached:
                    raise self._limit_reached
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    async def _start_what_fits(self) -> None:
        while self._pending and len(self._running) < self._options.max_in_flight:
            ask = self._pending[0]
            if len(ask.samples) > 1 and self._record.n_short_answers >= PROOF_AGAINST_N:
                self._pending.popleft()
                self._pending.extendleft(reversed(_one_by_one(ask.request, ask.samples)))
                continue
            money = self._usage.prices.worst_case(ask.request, len(ask.samples))
            if not self._usage.affords(money):
                if not self._running:  # otherwise what is in flight may turn out cheaper than reserved
                    self._stop_at_limit(self._usage.limit_error(self._name, money))
                return
            await self._room.acquire()
            self._pending.popleft()
            self._usage.reserved += money
            self._running[asyncio.create_task(self._serve(ask, money))] = money

    def _stop_at_limit(self, error: CostLimitError) -> None:
        """Send nothing new, but wait for the answers in flight, which are paid for."""
        self._limit_reached = self._limit_reached or error
        self._pending.clear()

    def _take(self, tasks: Collection[asyncio.Task[_Outcome]]) -> None:
        """Return what finished; then raise the first error, if any."""
        errors = []
        for task in tasks:
            self._usage.reserved -= self._running.pop(task)
            error = task.exception()
            if isinstance(error, CostLimitError):
                self._stop_at_limit(error)
            elif error:
                errors.append(error)
            else:
                self._settle(task.result())
        if errors:
            raise errors[0]
        if len(self._held) >= HOPELESS:
            raise EngineError(
                f"{self._name}: {len(self._held)} answers in a row failed, the last with: {self._held[-1].error}; "
                "finished answers are kept, run the same command again once the server is well"
            )

    def _settle(self, outcome: _Outcome) -> None:
        if not self._limit_reached:
            self._pending.extendleft(reversed(outcome.follow_ups))
        finished = outcome.finished
        if outcome.succeeded:
            finished, self._held = self._held + finished, []
        self._held += outcome.failed
        if finished:
            self._hand_over(finished)
        else:
            self._room.release()

    def _hand_over(self, completions: list[Completion]) -> None:
        if completions:
            self._queue.put(completions)

    async def _serve(self, ask: Ask, money: float) -> _Outcome:
        """Retry until there is an answer, or no more retries."""
        successes_before = self._record.n_successes
        failures = 0
        while True:
            endpoint = self._least_loaded()
            try:
                return await self._attempt(endpoint, ask, money)
            except RowRefused as refusal:
                return self._refused(ask, refusal.reason)
            except MayPass as failure:
                failures += 1
                alone = successes_before == self._record.n_successes
                self._book(failure, money)
                self._give_up_if_nobody_is_there(endpoint, failure, failures, alone)
                if failures > self._options.max_retries:
                    reason = f"{failure.reason} (asked {failures} times)"
                    return _Outcome(failed=[error_row(ask.request, sample, reason) for sample in ask.samples])
                await self._wait(endpoint, ask, failure, failures)
                if not self._usage.affords(0.0):
                    raise self._usage.limit_error(self._name, money) from None

    async def _attempt(self, endpoint: Endpoint, ask: Ask, money: float) -> _Outcome:
        """One HTTP request. Raises MayPass, RowRefused or EngineError."""
        self._usage.n_sent += 1
        try:
            n_tokens = ask.request.sampling.max_tokens * len(ask.samples)
            content = await endpoint.chat(request_body(ask, self._dialect), n_tokens)
            answer = read_answer(content, ask, self._dialect)
        except InvalidAnswer as invalid:
            raise MayPass(str(invalid), billed=True) from None
        except EngineError as error:
            raise EngineError(f"{self._name}: {error}") from None
        finally:
            self._record.was_reached |= endpoint.was_reached
        self._record.n_successes += 1
        self._health[endpoint] = _Health()
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            self._usage.charge_uncertain(money)
        else:
            self._usage.charge(answer.prompt_tokens, answer.completion_tokens)
        self._usage.n_estimated += answer.n_estimated
        got = {completion.sample for completion in answer.completions}
        missing = [sample for sample in ask.samples if sample not in got]
        if len(ask.samples) > 1:
            self._record.n_short_answers = self._record.n_short_answers + 1 if missing else 0
            self._record.n_has_worked |= not missing
        return _Outcome(answer.completions, follow_ups=_one_by_one(ask.request, missing), succeeded=True)

    def _refused(self, ask: Ask, reason: str) -> _Outcome:
        """Several samples: perhaps `n` was refused, so request them one by one. One sample: an error row."""
        if len(ask.samples) > 1:
            if not self._record.n_has_worked:  # once `n` has worked, the server refuses the prompt
                self._record.n_short_answers += 1
            return _Outcome(follow_ups=_one_by_one(ask.request, ask.samples))
        rows = [error_row(ask.request, sample, reason) for sample in ask.samples]
        return _Outcome(finished=rows) if self._record.n_successes else _Outcome(failed=rows)

    def _book(self, failure: MayPass, money: float) -> None:
        if failure.billed:
            self._usage.charge_uncertain(money)

    def _give_up_if_nobody_is_there(
        self, endpoint: Endpoint, failure: MayPass, failures: int, alone: bool
    ) -> None:
        """EngineError if the server is gone, or asks for too long a wait."""
        retries = self._options.max_retries
        if not self._record.was_reached:
            retries = min(retries, STARTUP_RETRIES)
        if not failure.connected and alone and failures > retries:
            raise EngineError(
                f"{self._name}: {failure.reason}; start the server at {endpoint.url} or correct the address"
            )
        if (failure.server_delay_s or 0) > LONGEST_SERVER_DELAY_S:
            raise EngineError(
                f"{self._name}: {failure.reason}; it asks to wait {failure.server_delay_s:,.0f} s; "
                "finished answers are kept, run the same command again then"
            )

    async def _wait(self, endpoint: Endpoint, ask: Ask, failure: MayPass, failures: int) -> None:
        self._usage.n_retries += 1
        now, health = self._clock.monotonic(), self._health[endpoint]
        if now >= health.cool_until:  # one outage counts once, not once per request in flight
            health.n_bad_moments += 1
            health.cool_until = now + self._backoff.delay_s(
                endpoint.url, health.n_bad_moments, failure.server_delay_s
            )
        await self._clock.sleep(self._backoff.delay_s(ask.key, failures, failure.server_delay_s))

    def _least_loaded(self) -> Endpoint:
        now = self._clock.monotonic()
        return min(self._health, key=lambda e: (self._health[e].cool_until > now, e.in_flight, e.n_sent))


def _one_by_one(request: Request, samples: Sequence[int]) -> list[Ask]:
    return [Ask(request, (sample,)) for sample in samples]


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Call something in the loop's thread, unless the loop has finished its work."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return
