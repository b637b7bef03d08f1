"""Runs requests through an engine so that a crash repeats at most one batch and no answer is lost or duplicated.

    with Generation(job.name, job.work, engine) as generation:
        completions = generation.complete(requests, "answers")

Every finished group of completions is journalled in the step's hidden work folder before it counts as done. A restart
reads the journal and gives the engine the same request list and what is done; the engine computes the rest in the
same batches. Request ids must be unique within a step. A failed request is a completion with
`finish_reason="error"`: the step decides what that means for the row. It is journalled and counted, but it is not a
result: a restart requests it again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from selfreward.engines.base import Completion, Engine, Request
from selfreward.errors import EngineError
from selfreward.notes import GenerationNotes
from selfreward.progress import bar, say
from selfreward.steps.costs import Ledger
from selfreward.store.journal import Journal

Completions = dict[tuple[str, int], Completion]


class Generation:
    """The journalled completions of one step; `notes()` are its counts for the manifest."""

    _asks_failed_again = True

    def __init__(self, name: str, work: Path, engine: Engine, number: int = 0) -> None:
        """`number`: of the models of a step that asks several, each with a journal of its own."""
        self._name = name
        self.engine = self._engine = engine
        self._journal = Journal(work / (f"journal-{number}.jsonl" if number else "journal.jsonl"))
        self._ledger = Ledger(work.parent, name, engine)
        self._done: Completions = {}
        self._n_resumed = 0
        self._n_tokens = 0
        self._seconds = 0.0

    def __enter__(self) -> Generation:
        self._journal.__enter__()
        n_unusable = 0
        for unit in self._journal.units():
            for values in unit:
                try:
                    completion = Completion(**values)
                except (TypeError, ValueError):  # not a valid completion: request it again
                    n_unusable += 1
                    continue
                # The cause of an error (a full server, a lost connection) may be gone by now.
                if completion.finish_reason == "error" and self._asks_failed_again:
                    continue
                self._done.setdefault((completion.request_id, completion.sample), completion)
        self._n_resumed = len(self._done)
        n_damaged = self._journal.n_damaged + n_unusable
        if self._done or n_damaged:
            damaged = f", {n_damaged} damaged ones are requested again" if n_damaged else ""
            say(f"{self._name}: resuming, {len(self._done)} completions were already written{damaged}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        errors = self._errors()
        if errors and error is None:
            reasons = len(set(errors))
            say(
                f"{self._name}: {self.notes().failures}"
                + (f" ({reasons} different reasons)" if reasons > 1 else "")
            )
        self._ledger.note()  # also after a failure: lost answers may have been billed
        self._journal.__exit__(kind, error, trace)

    def complete(self, requests: Sequence[Request], description: str) -> Completions:
        """All completions of the requests, keyed by (request id, sample); none is missing."""
        wanted = {(request.id, sample) for request in requests for sample in range(request.n)}
        if len(wanted) != sum(request.n for request in requests):
            raise EngineError(f"{self._name}: two requests have the same id; this is a bug in the step")
        started = time.monotonic()
        done = wanted & self._done.keys()
        with bar(len(wanted), f"{self._name} {description}", "answer", initial=len(done)) as progress:
            if len(done) < len(wanted):
                for group in self._engine.generate(requests, done):
                    progress.update(self._keep(group, wanted))
        self._seconds += time.monotonic() - started
        missing = wanted - self._done.keys()
        if missing:
            raise EngineError(
                f"{self._name}: engine {self._engine.name} ended with {len(missing)} of {len(wanted)} answers "
                f"missing, the first for request {min(missing)[0]!r}; finished ones are kept, run the same command again"
            )
        return {key: self._done[key] for key in wanted}

    def _keep(self, group: list[Completion], wanted: set[tuple[str, int]]) -> int:
        fresh = {(c.request_id, c.sample): c for c in group}
        strangers = fresh.keys() - wanted
        if strangers:
            raise EngineError(
                f"{self._name}: engine {self._engine.name} returned an answer to {min(strangers)}, "
                "which was not requested"
            )
        # The first answer counts: an earlier `complete` may already have returned it.
        fresh = {key: completion for key, completion in fresh.items() if key not in self._done}
        if fresh:
            self._journal.append([asdict(completion) for completion in fresh.values()])
            self._ledger.note()
        self._done.update(fresh)
        self._n_tokens += sum(completion.n_tokens for completion in fresh.values())
        return len(fresh)

    def _errors(self) -> list[str]:
        return [c.error or "unknown" for c in self._done.values() if c.finish_reason == "error"]

    def notes(self) -> GenerationNotes:
        """Counts for the manifest."""
        # Speed and restarts differ from run to run; notes are part of no hash.
        errors = self._errors()
        return GenerationNotes(
            completions=len(self._done),
            truncated=sum(c.finish_reason == "length" for c in self._done.values()),
            engine_errors=len(errors),
            first_engine_error=errors[0] if errors else None,
            new_tokens=sum(c.n_tokens for c in self._done.values()),
            resumed=self._n_resumed,
            tokens_per_second=round(self._n_tokens / self._seconds, 1) if self._n_tokens else None,
        )
