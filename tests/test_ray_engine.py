"""`ray:` for real: two workers of a Ray cluster on this machine, each with vLLM on the CPU and SmolLM2-135M-Instruct. One
of them is killed in the middle. Run by `make test-vllm`; faults that need no real vLLM are in test_ray_faults.py.
"""

from __future__ import annotations

import json
import os

import pytest
from ray_workers import add_worker, asked_for, journalled, kill_a_worker_that_computes, two_workers

from selfreward.config import check_config
from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.ray import RayEngine
from selfreward.exchange import import_file
from selfreward.known_models import pull
from selfreward.pipeline import run_pipeline
from selfreward.store import Run
from selfreward.tables import Message

pytestmark = pytest.mark.vllm
pytest.importorskip("ray", reason="Ray is not installed here")
pytest.importorskip("vllm", reason="vLLM is not installed here")

MODEL = "smollm2-135m-instruct"
TOLERATED = 0.1
"""Share of greedy rows that may differ from `hf:`, both in float32; the sums are taken in another order."""
PLACES = ("the Alps", "Lisbon", "a harbour", "the desert", "Kyoto", "an island", "the Nile", "a village",
          "Iceland", "the moon", "Bergen", "a forest")  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    pull(MODEL, progress=False)
    with two_workers() as cluster:
        yield cluster


def options(cluster):
    return {"enforce_eager": True, "ray": {"address": cluster.address, "num_cpus": 1}}


def test_one_of_two_workers_is_killed_in_the_middle_and_every_answer_is_journalled_once(cluster, tmp_path):
    """24 requests of two samples each; after four, the machine of an engine that is computing is killed."""
    requests = [
        Request(f"k{i}", (Message("user", f"Tell a story of {PLACES[i % 12]}."),), Sampling(0.8, 0.9, 16 + i % 24), n=2)
        for i in range(24)
    ]  # fmt: skip
    with RayEngine(MODEL, EngineOptions(max_context=1024, extra=options(cluster))) as engine:
        lines = journalled(engine, requests, tmp_path, 4, lambda: kill_a_worker_that_computes(cluster))
        assert engine.n_passes == 2
    add_worker(cluster)
    assert sorted((one["request_id"], one["sample"]) for one in lines) == asked_for(requests)
    assert {one["error"] for one in lines} == {None}
    assert {one["finish_reason"] for one in lines} <= {"stop", "length"}
    assert len({(one["request_id"], one["text"]) for one in lines}) > 44  # the samples of a request differ


def test_candidates_and_judgements_are_those_of_hf_but_for_a_counted_share(cluster, tmp_path):
    """Greedy, in float32: 24 candidates, and the judgements of those that are equal."""
    on_cluster, alone = (
        answers_and_judgements(make("ray", tmp_path, options(cluster))),
        answers_and_judgements(make("hf", tmp_path, {})),
    )
    assert on_cluster.keys() == alone.keys()
    other_answer = [key for key in alone if on_cluster[key][0] != alone[key][0]]
    judged_otherwise = [
        key for key in alone if on_cluster[key][0] == alone[key][0] and on_cluster[key] != alone[key]
    ]
    print(f"\ncandidates: {len(other_answer)} of {len(alone)} differ from hf; judgements of equal ones: "
          f"{len(judged_otherwise)}")  # fmt: skip
    assert len(alone) == 24
    assert len(other_answer) <= TOLERATED * 24
    assert len(judged_otherwise) <= TOLERATED * 24


def make(engine, folder, extra):
    """A run until `iter1/judgements`, from prompts of our own."""
    settings = {
        "model": f"{engine}:{MODEL}",
        "train": False,
        "eft": {"targets": "written"},
        "candidates": {"n": 2, "temperature": 0, "max_tokens": 24},
        "judging": {"template": "additive-short", "samples": 1, "temperature": 0, "max_tokens": 24, "max_attempts": 1},
        "engine": {"dtype": "float32", "max_context": 2048, "extra": extra},
    }  # fmt: skip
    config, path = check_config(settings, "test"), folder / engine
    run_pipeline(config, path, until="eft")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(prompt(i, place)) + "\n" for i, place in enumerate(PLACES)))
    import_file(Run(path), "iter1/prompts", prompts)
    run_pipeline(config, path, until="judgements")
    return Run(path)


def prompt(i, place):
    return {"prompt_id": f"p-{i}", "iteration": 1, "prompt": f"Give a reason to visit {place}.", "demonstration_ids": [],
            "generator": "by hand", "kept": True, "reason": None, "nearest_id": None, "nearest_rouge_l": None,
            "round": 0, "seed": 0}  # fmt: skip


def answers_and_judgements(run):
    """(prompt, sample) -> what is visible of the candidate, and of its judgement."""
    judged = {row["candidate_id"]: (row["judgement"], row["score"], row["n_tokens"])
              for row in run.current("iter1/judgements").table().to_pylist()}  # fmt: skip
    return {
        (row["prompt_id"], row["sample"]):
            ((row["response"], row["finish_reason"], row["n_tokens"]), judged[row["candidate_id"]])
        for row in run.current("iter1/candidates").table().to_pylist()
    }  # fmt: skip
