"""Keeps one engine open while consecutive steps use the same model: loading weights takes longer than many steps.

    with EnginePool() as engines:
        with engines.lease("hf:smollm2-135m-instruct", options) as engine: ...    # opened
        with engines.lease("hf:smollm2-135m-instruct", options) as engine: ...    # the same one
        engines.close()                                                           # before training: memory is free

At most one engine is kept. It is closed before another is opened, and when a step that uses it fails. Engines without
weights of their own (servers, scripts) are opened for each step, beside the kept one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from selfreward.engines.base import Engine, EngineOptions
from selfreward.engines.registry import holds_weights, open_engine, options_for


class EnginePool:
    """Holds the engine that was used last, if it has weights; a context manager."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._key: tuple[str, EngineOptions] | None = None
        self.n_opened = 0
        """Engines with weights opened so far."""

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine that is open, if any."""
        engine, self._engine, self._key = self._engine, None, None
        if engine is not None:
            engine.close()

    @contextmanager
    def lease(self, model: str, options: EngineOptions) -> Iterator[Engine]:
        """The engine of a model string, valid until the block ends. Raises what opening it raises."""
        if not holds_weights(model):
            with open_engine(model, options) as engine:
                yield engine
            return
        key = model, options_for(model, options)
        # Closed first: two sets of weights may not fit into memory.
        if self._engine is None or key != self._key:
            self.close()
            self._engine, self._key = open_engine(model, options), key
            self.n_opened += 1
        # After an error, the engine's state is unknown (a half-filled cache, a dead worker), so it is not reused.
        try:
            yield self._engine
        except BaseException:
            self.close()
            raise
