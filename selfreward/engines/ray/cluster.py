"""The Ray cluster behind `ray:`: found or started, and left as it was.

Promises: an existing cluster is used (`engine.extra.ray.address`, else RAY_ADDRESS, else one running on this machine)
and keeps running at the end; if none exists, one is started on this machine, on loopback only, without dashboard and
usage statistics, and stopped at the end. Ray prints nothing on stdout, and its workers' output stays in Ray's own
logs.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selfreward.engines.ray.quiet import ENVIRONMENT, SILENT, on_loopback, own_signals, quiet_core, silence
from selfreward.errors import ConfigError, EngineError, UsageError
from selfreward.progress import say

SPLIT_ON_GPUS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""vLLM's options that multiply the GPUs of one engine."""


class ClusterSettings(BaseModel):
    """Settings of `engine.extra.ray`. None of them changes a row, so none is part of a dataset's key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = ""
    """`HOST:PORT` of the cluster's head; empty: RAY_ADDRESS, a cluster on this machine, or a new one;
    `local`: always a new one."""
    actors: int | None = Field(default=None, ge=1)
    """Engines at a time; as many as fit into the cluster by default."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs of an engine; by default what vLLM's parallel options need, or 0 if the cluster has none."""
    num_cpus: float | None = Field(default=None, ge=0)
    """CPUs of an engine; by default 1 if it has a GPU, else all of the smallest machine's."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources of Ray that a machine must have."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray's runtime environment of the engines. Recorded in the run's configuration: no secrets."""
    patience_s: float = Field(default=1800.0, gt=0)
    """Give up after so long without an answer from any machine, including the time to load the model."""


def cluster_settings(extra: dict[str, Any]) -> ClusterSettings:
    """The section `ray` of `engine.extra`; ConfigError names the invalid setting."""
    try:
        return ClusterSettings.model_validate(extra.get("ray") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(ClusterSettings.model_fields)
        raise ConfigError(f"engine.extra.ray.{where}: {first['msg']}; ray: knows {known}") from None


class Cluster:
    """Our connection to a cluster; made by `connect`, ended by `close`."""

    def __init__(self, name: str, settings: ClusterSettings) -> None:
        self._name = name
        self._settings = settings
        self._ours = False

    def connect(self) -> None:
        """Find or start a cluster, unless this process is already connected. Raises EngineError."""
        import ray

        if ray.is_initialized():
            return
        if self._settings.address.startswith("ray://"):
            raise UsageError(
                f"{self._name}: Ray Data does not work over a ray:// address; run selfreward on a machine of the "
                "cluster, or with `ray job submit`"
            )
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        with own_signals(), contextlib.chdir(Path(__file__).parents[3]):
            # Ray puts the current folder first on its workers' import path, where a user's `builders/` or `datasets/`
            # would shadow ours. In this folder, the workers of this machine find this very package.
            if not self._join():
                self._start()
        self._ours = True
        silence()

    def _join(self) -> bool:
        """Connect to an existing cluster; False if there is none."""
        import ray

        address = self._settings.address or os.environ.get("RAY_ADDRESS") or "auto"
        if address == "local":
            return False
        try:
            _knock(address)
            with quiet_core():
                ray.init(address, **SILENT)
        except Exception as error:  # boundary: Ray raises anything, bare Exceptions included
            ray.shutdown()
            # Only a search may fail silently: an address that the user gave must not lead to another cluster.
            if address == "auto" and isinstance(error, ConnectionError):
                return False
            raise EngineError(
                f"{self._name}: no Ray cluster answers at {address}: {_first_line(error)}"
            ) from error
        say(f"{self._name}: connected to the Ray cluster of {_size(ray)}")
        return True

    def _start(self) -> None:
        """Start a cluster of this machine alone."""
        import ray

        try:
            with on_loopback():
                ray.init("local", include_dashboard=False, **SILENT)
        except Exception as error:  # boundary: as above
            ray.shutdown()
            raise EngineError(
                f"{self._name}: no Ray cluster could be started: {_first_line(error)}"
            ) from error
        say(f"{self._name}: started a local Ray cluster of {_size(ray)}")

    def close(self) -> None:
        """Undo `connect`: end the connection, and the cluster if it was started for us."""
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False

    def needs(self, vllm_options: dict[str, Any]) -> dict[str, float]:
        """Resources of one engine, as Ray names them."""
        gpus, cpus = self._settings.num_gpus, self._settings.num_cpus
        machines = _machines()
        if gpus is None:
            has_gpus = any(machine.get("GPU", 0) for machine in machines)
            gpus = math.prod(int(vllm_options.get(name, 1)) for name in SPLIT_ON_GPUS) if has_gpus else 0
        if cpus is None:
            all_cpus = [machine["CPU"] for machine in machines if machine.get("CPU", 0)]
            cpus = 1 if gpus else min(all_cpus, default=1)
        return {"CPU": cpus, "GPU": gpus, **self._settings.resources}

    def n_actors(self, needs: dict[str, float]) -> int:
        """Engines at a time. Raises EngineError if none fits and `actors` is not set."""
        # Counted per machine: an engine cannot be split over two machines with half the resources each.
        asked = {name: amount for name, amount in needs.items() if amount}
        machines = _machines()
        fitting = sum(
            int(min((machine.get(name, 0) // amount for name, amount in asked.items()), default=1))
            for machine in machines
        )
        wanted = self._settings.actors
        if wanted is None and not fitting:
            has = "; ".join(
                sorted(_words({name: machine.get(name, 0) for name in asked}) for machine in machines)
            )
            raise EngineError(
                f"{self._name}: an engine needs {_words(asked)}, but no machine of the cluster has that ({has}). Change "
                "engine.extra.ray (num_cpus, num_gpus, resources), or set its `actors` if machines are to join"
            )
        if wanted is not None and fitting < wanted:
            say(
                f"{self._name}: {wanted} engines were requested, {fitting} fit now; the others wait for machines to join"
            )
        return wanted or fitting


def _machines() -> list[dict[str, float]]:
    """Resources of every live machine."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _size(ray: Any) -> str:
    total = ray.cluster_resources()
    n_machines = len(_machines())
    machines = "1 machine" if n_machines == 1 else f"{n_machines} machines"
    return f"{machines}, {_words({name: total.get(name, 0) for name in ('CPU', 'GPU')})}"


def _words(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


def _knock(address: str) -> None:
    """OSError if no server listens at the address."""
    # Ray itself would retry for minutes.
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
