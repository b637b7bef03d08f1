"""A Ray cluster of two workers on this machine, for tests; and a stage that is disturbed while it generates."""

from __future__ import annotations

import os
from contextlib import contextmanager

from disturbed import Disturbed

from selfreward.engines.ray.quiet import ENVIRONMENT
from selfreward.steps.generation import Generation
from selfreward.store.journal import Journal

STORE_BYTES = 100_000_000


@contextmanager
def two_workers():
    """A head without room for an actor, and two workers with room for one each; on loopback, ended at the end."""
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    # and no memory monitor, which would kill actors for the memory of other programs
    os.environ.update({**ENVIRONMENT, "RAY_memory_monitor_refresh_ms": "0"})
    ray_constants.ENABLE_RAY_CLUSTER = False  # else Ray's servers listen on all interfaces
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            add_worker(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_worker(cluster):
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


def kill_a_worker_that_computes(cluster):
    """Ray's own processes on it are killed, without a farewell. An actor that is alive has loaded its model, and has
    parcels as long as any are left."""
    from ray._private import state

    actors = [one for one in state.actors().values() if one["State"] == "ALIVE"]
    busy = {one["Address"]["NodeID"] for one in actors if one["ActorClassName"].startswith("MapWorker")}
    victim = next(node for node in cluster.list_all_nodes() if node.node_id in busy)
    cluster.remove_node(victim, allow_graceful=False)


def journalled(engine, requests, folder, after, do):
    """The lines that a stage has journalled at its end, in which `do` is called when so many groups have come."""
    disturbed = Disturbed(engine, lambda count: count == after and do())
    with Generation("test", folder, disturbed) as generation:
        generation.complete(requests, "answers")
    return [one for unit in Journal(folder / "journal.jsonl").units() for one in unit]
