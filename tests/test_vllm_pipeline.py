"""Candidates and judgements of a small run made once with `hf:` and once with `vllm:`, both greedy and in float32."""

from __future__ import annotations

import json

import psutil
import pytest
from vllm_cases import MODEL, PLACES, TOLERATED

from selfreward.config import check_config
from selfreward.exchange import import_file
from selfreward.known_models import pull
from selfreward.pipeline import run_pipeline
from selfreward.store import Run

pytestmark = pytest.mark.vllm
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
def runs(tmp_path_factory):
    pull(MODEL, progress=False)
    folder = tmp_path_factory.mktemp("runs")
    return make("hf", folder), make("vllm", folder, enforce_eager=True)


def rows(run, name):
    return run.current(name).table().to_pylist()


def test_the_datasets_are_those_of_hf_but_for_a_counted_share(runs):
    """Candidates by prompt and sample; judgements where the answers they judge are equal."""
    answers = [
        {(row["prompt_id"], row["sample"]): (row["response"], row["finish_reason"], row["n_tokens"])
         for row in rows(run, "iter1/candidates")}
        for run in runs
    ]  # fmt: skip
    assert answers[0].keys() == answers[1].keys()
    equal = {key for key in answers[0] if answers[0][key] == answers[1][key]}
    judgements = []
    for run in runs:
        place = {
            row["candidate_id"]: (row["prompt_id"], row["sample"]) for row in rows(run, "iter1/candidates")
        }
        judgements.append(
            {place[row["candidate_id"]]: (row["judgement"], row["score"], row["status"], row["n_tokens"])
             for row in rows(run, "iter1/judgements")}
        )  # fmt: skip
    judged_otherwise = [key for key in equal if judgements[0][key] != judgements[1][key]]
    n = len(answers[0])
    print(f"\ncandidates: {n - len(equal)} of {n} differ from hf; judgements of equal ones: {len(judged_otherwise)} "
          f"of {len(equal)}")  # fmt: skip
    assert n == 24
    assert n - len(equal) <= TOLERATED * n
    assert len(judged_otherwise) <= TOLERATED * n


def test_rows_name_no_seed_where_none_was_used(runs):
    """On a CPU vLLM draws without the rows' own seeds; `hf:` draws with them."""
    for name in ("iter1/candidates", "iter1/judgements"):
        with_hf, with_vllm = (rows(run, name) for run in runs)
        assert len({row["seed"] for row in with_hf}) == len(with_hf)
        assert {row["seed"] for row in with_vllm} == {0}


def test_manifests_name_the_engine_and_no_process_is_left(runs):
    model = runs[1].current("iter1/candidates").manifest["inputs"]["model"]["name"]
    assert model.startswith(f"vllm:{MODEL}@")
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [child for child in children if "vllm_worker" in child] == []
