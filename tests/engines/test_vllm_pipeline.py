"""Candidates and judgements of a small run made with `hf:`, with `vllm:` and with `ray:`, all greedy and in float32."""

from __future__ import annotations

import json

import psutil
import pytest
from ray_workers import two_workers
from tried import seen
from vllm_cases import EAGER, MODEL, PLACES, TOLERATED

from selfreward.config.files import check_config
from selfreward.exchange.importing import import_file
from selfreward.models.pull import pull
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run

pytestmark = pytest.mark.vllm
pytest.importorskip("ray", reason="Ray is not installed here")
pytest.importorskip("vllm", reason="vLLM is not installed here")

PROMPTS = [
    {"prompt_id": f"p-{i}", "iteration": 1, "prompt": f"Give a reason to visit {place}.", "demonstration_ids": [],
     "generator": "by hand", "kept": True, "reason": None, "nearest_id": None, "nearest_rouge_l": None, "round": 0,
     "seed": 0}
    for i, place in enumerate(PLACES)
]  # fmt: skip


def make(engine, folder, **extra):
    """A run until `iter1/judgements`, from prompts of our own."""
    settings = {
        "model": f"{engine}:{MODEL}",
        "train": False,
        "eft": {"targets": "written"},
        "candidates": {"n": 2, "temperature": 0, "max_tokens": 32},
        "judging": {
            "template": "additive-short",
            "samples": 1,
            "temperature": 0,
            "max_tokens": 32,
            "max_attempts": 1,
        },
        "engine": {"dtype": "float32", "max_context": 2048, "extra": extra},
    }
    config = check_config(settings, "test")
    path = folder / engine
    run_pipeline(config, path, until="eft")
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    import_file(Run(path), "iter1/prompts", file)
    run_pipeline(config, path, until="judgements")
    return Run(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pull(MODEL, progress=False)
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def hf_run(folder):
    return make("hf", folder)


@pytest.fixture(scope="module")
def vllm_run(folder):
    return make("vllm", folder, **EAGER)


@pytest.fixture(scope="module")
def ray_run(folder):
    """One engine for each dataset; that answers of two find their requests is shown by test_ray_engine.py."""
    with two_workers() as cluster:
        ray = {"address": cluster.address, "num_cpus": 1, "actors": 1}
        return make("ray", folder, **EAGER, ray=ray)


def rows(run, name):
    return run.current(name).table().to_pylist()


@pytest.mark.parametrize("engine", ["vllm", "ray"])
def test_the_datasets_are_those_of_hf_but_for_a_counted_share(hf_run, engine, request):
    """Candidates by prompt and sample; judgements where the answers they judge are equal."""
    alone, run = map(answers_and_judgements, (hf_run, request.getfixturevalue(f"{engine}_run")))
    assert run.keys() == alone.keys()
    equal = {key for key in alone if run[key][0] == alone[key][0]}
    judged_otherwise = [key for key in equal if run[key][1] != alone[key][1]]
    n = len(alone)
    seen(f"{engine}: {n - len(equal)} of {n} candidates differ from hf; judgements of equal ones: "
         f"{len(judged_otherwise)} of {len(equal)}")  # fmt: skip
    assert n == 24
    assert n - len(equal) <= TOLERATED * n
    assert len(judged_otherwise) <= TOLERATED * n


def answers_and_judgements(run):
    """(prompt, sample) -> what is visible of the candidate, and of its judgement."""
    judged = {
        row["candidate_id"]: (row["judgement"], row["score"], row["status"], row["n_tokens"])
        for row in rows(run, "iter1/judgements")
    }
    return {
        (row["prompt_id"], row["sample"]): (
            (row["response"], row["finish_reason"], row["n_tokens"]), judged[row["candidate_id"]])
        for row in rows(run, "iter1/candidates")
    }  # fmt: skip


def test_rows_name_no_seed_where_none_was_used(hf_run, vllm_run):
    """On a CPU vLLM draws without the rows' own seeds; `hf:` draws with them."""
    for name in ("iter1/candidates", "iter1/judgements"):
        with_hf, with_vllm = rows(hf_run, name), rows(vllm_run, name)
        assert len({row["seed"] for row in with_hf}) == len(with_hf)
        assert {row["seed"] for row in with_vllm} == {0}


def test_manifests_name_the_engine_and_no_process_is_left(vllm_run):
    model = vllm_run.current("iter1/candidates").manifest["inputs"]["model"]["name"]
    assert model.startswith(f"vllm:{MODEL}@")
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [child for child in children if "vllm_worker" in child] == []
