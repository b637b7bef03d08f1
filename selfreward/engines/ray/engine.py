"""`ray:NAME_OR_PATH`: many machines, through Ray Data, each with the engine of `vllm:`.

Requests are sent in small parcels; `map_batches` distributes them to actors that hold one engine each, and every parcel
is returned and journalled when it is answered. Promises in addition to those of `selfreward.engines.base`:

- an actor has several parcels at a time, but a bounded number, so that a slow request never drains its batch;
- an actor or machine that dies loses only its own parcels. The others continue; an actor is restarted where there is
  room; lost requests are computed in another *pass*, on the machines available then. Nothing is requested twice in one
  pass, and of an answer that arrives twice the first is kept;
- an engine that dies or hangs inside its actor is replaced as in `vllm:`;
- after `max_retries` extra passes, or `FRUITLESS` of them in a row without an answer, an EngineError, with everything
  finished returned before. Likewise for errors that another pass would not change: options or a model that vLLM
  refuses on some machine, which the message names.

The cluster: see `cluster`; where the package and the model must be installed: docs/engines.md.

Not promised: equal rows in two runs (see `vllm`), nor loading the model only once: every call of `generate` starts new
actors. Why not Ray's own retries: a retried task waits for its actor, forever if a lost machine does not come back. Why
not `ray.data.llm`: it loses all samples but the first, and the finish reason.

`EngineOptions.extra["ray"]` configures the cluster (`ClusterSettings`); the rest goes to vLLM. `max_in_flight` and
`timeout_s` apply to one engine.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfreward import errors
from selfreward.engines.base import BaseEngine, Capabilities, Completion, EngineOptions, Request
from selfreward.engines.chat_tokens import Chat
from selfreward.engines.ray.actor import ActorFault, EngineActor, Wanted, pack_requests, unpack_answers
from selfreward.engines.ray.cluster import Cluster, cluster_settings
from selfreward.engines.vllm.engine import FRUITLESS, WORKER
from selfreward.engines.vllm.requests import Preparer, still_wanted
from selfreward.errors import EngineError
from selfreward.models.known import KNOWN_MODELS, fetch_model
from selfreward.progress import say
from selfreward.tables import Message

PARCELS_AT_A_TIME = 16
"""Parcels in one actor. Together they hold as many requests as `vllm:` keeps in flight: twice `max_in_flight`."""
PARCELS_QUEUED = 2
"""Further parcels sent to an actor, so that it does not wait for the network."""


class PassLost(Exception):
    """A pass ended early; the remaining requests need another one. The message says why."""


class RayEngine(BaseEngine):
    """See the module's docstring. Raises EngineError if Ray is missing or the folder has no chat template.

    The first request connects to the cluster, `close` disconnects.
    """

    capabilities = Capabilities(logprobs=True, prefix=True, seeds=False)

    def __init__(self, target: str, options: EngineOptions, command: Sequence[str] = WORKER) -> None:
        self.name = f"ray:{target}"
        self._settings = cluster_settings(options.extra)
        if find_spec("ray") is None:
            raise EngineError(f"{self.name}: Ray is not installed; pip install 'selfreward[vllm,ray]'")
        folder = fetch_model(target)
        self._preparer = Preparer(folder)
        is_name = target in KNOWN_MODELS or not Path(target).expanduser().is_dir()
        self._target = target if is_name else str(folder)  # absolute: the actors' current folder is another
        vllm_options = {name: value for name, value in options.extra.items() if name != "ray"}
        self._options = replace(options, extra=vllm_options)
        self._command = tuple(command)
        self._cluster = Cluster(self.name, self._settings)
        self.n_passes = 0

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]:
        """Groups as their parcels finish; a group is one request. Raises ConfigError for options that vLLM refuses,
        EngineError if the cluster cannot be reached or fails."""
        left = {request.id: (request, samples) for request, samples in still_wanted(requests, done)}
        n_lost = fruitless = 0
        while left:
            n_before, why = len(left), "an actor or a machine was lost"
            try:
                for group in self._one_pass(list(left.values())):
                    if left.pop(group[0].request_id, None):
                        yield group
            except PassLost as loss:
                why = str(loss)
            if left:
                fruitless = fruitless + 1 if len(left) == n_before else 0
                if n_lost >= self._options.max_retries or fruitless > FRUITLESS:
                    raise EngineError(
                        f"{self.name}: {why}; {len(left)} requests are left after {n_lost + 1} passes. Finished answers "
                        "are kept: fix the cause, then run the same command again"
                    )
                n_lost += 1
                say(f"{self.name}: {why}; starting another pass for the {len(left)} requests that are left")

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return self._preparer.count_tokens(Chat(tuple(messages)))

    def close(self) -> None:
        """Disconnect from the cluster; stop it if it was started for us."""
        self._cluster.close()

    def _one_pass(self, wanted: list[Wanted]) -> Iterator[list[Completion]]:
        """Groups of the requests that the available machines can compute. Raises PassLost if Ray gives up."""
        self._cluster.connect()
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import RayError

        self.n_passes += 1
        rows: Any = iter(self._dataset(wanted).iter_batches(batch_size=None, prefetch_batches=0))
        is_whole = False
        try:
            for batch in rows:
                for parcel in batch["parcel"]:
                    answers = unpack_answers(parcel)
                    if isinstance(answers, ActorFault):
                        raise self._failed(answers)
                    yield from answers
            is_whole = True
        except ExecutionTimeoutError:
            raise PassLost(
                f"no answer from any machine for {self._settings.patience_s:g} s (engine.extra.ray.patience_s)"
            ) from None
        except RayError as error:
            raise PassLost(f"Ray gave up: {_in_short(error)}") from error
        finally:
            rows.close()
            # Actors of an abandoned pass would occupy their machines until they have answered their parcels.
            if not is_whole:
                self._cluster.close()

    def _dataset(self, wanted: list[Wanted]) -> Any:
        """Ray Data's plan of a pass: one parcel per block, one block per task."""
        import ray

        needs = self._cluster.needs(self._options.extra)
        n_actors = self._cluster.n_actors(needs)
        size = _parcel_size(len(wanted), n_actors, self._options.max_in_flight)
        parcels = [
            {"parcel": pack_requests(wanted[start : start + size])} for start in range(0, len(wanted), size)
        ]
        stream = f"ray {self.n_passes}"
        with _ray_data_settings(self._settings.patience_s):
            return ray.data.from_items(parcels, override_num_blocks=len(parcels)).map_batches(
                EngineActor,
                fn_constructor_args=(self._target, self._options, self._command, stream, wanted[0][0].seed),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(
                    size=min(n_actors, len(parcels)),
                    max_tasks_in_flight_per_actor=PARCELS_AT_A_TIME + PARCELS_QUEUED,
                    max_concurrent_calls_per_actor=PARCELS_AT_A_TIME,
                    enable_true_multi_threading=True,
                ),
                num_cpus=needs["CPU"],
                num_gpus=needs["GPU"],
                resources=self._settings.resources or None,
                runtime_env=self._settings.runtime_env or None,
                max_restarts=self._options.max_retries,
                max_task_retries=0,
            )

    def _failed(self, fault: ActorFault) -> errors.SelfrewardError:
        kind: type[errors.SelfrewardError] = getattr(errors, fault.kind)
        return kind(f"{self.name}, on machine {fault.node}: {fault.error}")


def _parcel_size(n_requests: int, n_actors: int, max_in_flight: int) -> int:
    """Requests per parcel: each actor gets its share, and the parcels of one actor add up to twice `max_in_flight`.

    >>> _parcel_size(10_000, 4, 64), _parcel_size(100, 4, 64), _parcel_size(3, 4, 64)
    (8, 2, 1)
    """
    full = math.ceil(2 * max_in_flight / PARCELS_AT_A_TIME)
    return max(1, min(full, math.ceil(n_requests / (n_actors * PARCELS_AT_A_TIME))))


@contextlib.contextmanager
def _ray_data_settings(patience_s: float) -> Iterator[None]:
    """Ray Data's settings of a pass."""
    import ray
    from ray.util.annotations import RayDeprecationWarning

    context = ray.data.DataContext.get_current().copy()
    context.max_errored_blocks = -1  # a lost parcel is left out and does not end the pass
    # Ray would wait forever for actors that cannot be started (ray-project/ray#62746).
    context.execution_no_progress_timeout_s = patience_s
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # Ray 2.64 will remove this way to set `max_restarts`, and 2.60 has no other.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        yield


def _in_short(error: Exception) -> str:
    """The first and the last line of a Ray error: what happened, and its cause. Between them is a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " … ".join(line[:200] for line in dict.fromkeys([*lines[:1], *lines[-1:]]))
