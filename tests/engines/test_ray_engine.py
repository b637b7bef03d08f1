"""`ray:` for real: two workers of a Ray cluster on this machine, each with vLLM on the CPU and SmolLM2-135M-Instruct. One
of them is killed in the middle. Run by `make test-vllm`; the rows of a run with `ray:` are compared in
test_vllm_pipeline.py, and faults that need no real vLLM are in test_ray_faults.py.
"""

from __future__ import annotations

import pytest
from disturbed import asked_for
from ray_workers import journalled, kill_a_worker_that_computes, two_workers
from vllm_cases import EAGER, MODEL, stories

from selfreward.engines.base import EngineOptions
from selfreward.engines.ray.engine import RayEngine
from selfreward.models.pull import pull

pytestmark = pytest.mark.vllm
pytest.importorskip("ray", reason="Ray is not installed here")
pytest.importorskip("vllm", reason="vLLM is not installed here")


def test_one_of_two_workers_is_killed_in_the_middle_and_every_answer_is_journalled_once(tmp_path):
    """24 requests of two samples each; after four, the machine of an engine that is computing is killed."""
    pull(MODEL, progress=False)
    requests = stories(24, n=2)
    with two_workers() as cluster:
        extra = {**EAGER, "ray": {"address": cluster.address, "num_cpus": 1}}
        with RayEngine(MODEL, EngineOptions(max_context=1024, extra=extra)) as engine:
            lines = journalled(engine, requests, tmp_path, 4, lambda: kill_a_worker_that_computes(cluster))
            assert engine.n_passes == 2
    assert sorted((one["request_id"], one["sample"]) for one in lines) == asked_for(requests)
    assert {one["error"] for one in lines} == {None}
    assert {one["finish_reason"] for one in lines} <= {"stop", "length"}
    assert len({(one["request_id"], one["text"]) for one in lines}) > 44  # the samples of a request differ
