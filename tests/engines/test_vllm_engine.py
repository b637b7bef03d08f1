"""`vllm:` for real: vLLM on the CPU with SmolLM2-135M-Instruct. Run by `make test-vllm` in an environment of its own.

One engine for the file, since a start takes most of a minute.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace

import pytest
from disturbed import Disturbed, finish
from tried import seen
from vllm_cases import (
    BLOCK,
    EAGER,
    MODEL,
    PLACES,
    compare_greedy,
    greedy_requests,
    group_members,
    request,
    rows,
    score_requests,
    stories,
)

from selfreward.engines.base import EngineOptions, Sampling
from selfreward.errors import ConfigError, EngineError
from selfreward.models.pull import pull
from selfreward.steps.generation import Generation
from selfreward.tables import Message

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed here")


@pytest.fixture(scope="module")
def engine():
    """Two restarts are allowed. The first log-probabilities can be slow: torch compiles for them."""
    from selfreward.engines.vllm.engine import VllmEngine

    pull(MODEL, progress=False)
    options = EngineOptions(max_context=2048, timeout_s=600, max_retries=2, extra=EAGER)
    with VllmEngine(MODEL, options) as opened:
        yield opened


def test_the_same_rows_as_hf_under_greedy_decoding_but_for_a_counted_share(engine, hf):
    ours = compare_greedy(engine, hf, list(greedy_requests()))
    assert {ours[key].finish_reason for key in ours} == {"stop", "length"}


def test_the_log_probabilities_of_choices_are_those_of_hf(engine, hf):
    ours, theirs = rows(engine, score_requests()), rows(hf, score_requests())
    assert {one.error for one in [*ours.values(), *theirs.values()]} == {None}
    for key, row in ours.items():
        assert list(row.choice_logprobs) == ["0", "1", "2", "3", "4", "5"]
        assert row.choice_logprobs == pytest.approx(theirs[key].choice_logprobs, abs=2e-3)


def test_bad_requests_mark_only_their_own_rows(engine):
    """Too long by one token for the context of 2048; a temperature that vLLM refuses; between them a good one."""
    length = engine.count_tokens([Message("user", "")])
    requests = [
        request("long", "a" + " a" * (2048 - length - 24), n=2),
        request("good", "Say hello."),
        request("hot", "Say hello.", Sampling(5.0, 1.0, 4)),
        request("word", "Say hello.", prefix="Score: ", choices=("two words",)),
    ]
    got = rows(engine, requests)
    assert got["good", 0].error is None
    assert "do not fit the context of 2048 tokens" in got["long", 1].error
    assert "temperature" in got["hot", 0].error
    assert "not one token" in got["word", 0].error


def test_four_candidates_judged_three_times_compute_the_rubric_once_and_each_prompt_once(engine):
    """All whole blocks of a prompt are found by its second and third judgement; those of the rubric and the user's
    request, which come first in the template, by the first judgement of the second to fourth candidate too."""
    from selfreward.judging.prompts.templates import load_template

    template = load_template("additive")
    judged = [template.render("Describe a quiet morning in Bergen.", answer) for answer in
              ("Rain on the harbour.", "It is quiet.", "The fish market opens at seven.", "No.")]  # fmt: skip
    requests = [request(f"j{i}", text, Sampling(1.0, 1.0, 8), n=3) for i, text in enumerate(judged)]
    got, queries, hits = measured(engine, requests)
    lengths = [got[f"j{i}", 0].n_prompt_tokens for i in range(4)]
    shared = engine.count_tokens(
        [Message("user", template.render("Describe a quiet morning in Bergen.", "~"))]
    )
    in_common = whole_blocks(shared - 40)  # less the end of the template, which stands behind the response
    assert in_common >= 2 * BLOCK
    seen(f"judging: {hits} of {queries} prompt tokens found in the cache")
    assert queries == 3 * sum(lengths)
    assert hits >= 2 * sum(map(whole_blocks, lengths)) + 3 * in_common
    assert len({row.text for row in got.values()}) > 6


def test_the_prompts_of_one_draw_of_demonstrations_compute_it_once(engine):
    from selfreward.builders.self_instruct.filters import answer_prefix, render_demonstrations

    shown = [
        f"Plan a journey of three days to {place}, with one sight and one meal a day." for place in PLACES[:8]
    ]
    draw = request("d", render_demonstrations(shown), Sampling(0.8, 0.9, 8), n=4, prefix=answer_prefix(8))
    got, queries, hits = measured(engine, [draw])
    length = got["d", 0].n_prompt_tokens
    seen(f"demonstrations: {hits} of {queries} prompt tokens found in the cache")
    assert whole_blocks(length) >= BLOCK
    assert queries == 4 * length
    assert hits >= 3 * whole_blocks(length)


def whole_blocks(n_tokens):
    """Tokens of a prompt that can be shared: vLLM computes at least the last one anew."""
    return (n_tokens - 1) // BLOCK * BLOCK


def measured(engine, requests):
    """Rows, and the tokens looked up and found in the prefix cache meanwhile, as vLLM counts them."""
    before = engine.metrics()
    got = rows(engine, requests)
    after = engine.metrics()
    return got, *(after[name] - before[name] for name in ("prefix_cache_queries", "prefix_cache_hits"))


def test_killed_hung_and_killed_once_more_it_ends_cleanly_and_the_same_command_finishes(
    engine, tmp_path, monkeypatch
):
    """24 requests of two samples. In each life something happens after the third answer: the worker is killed, vLLM's
    core is stopped (the worker goes on beating), the core is killed. Two restarts are allowed, so that is the end."""
    first = engine.worker_pid
    monkeypatch.setattr(engine, "_options", replace(engine._options, timeout_s=90))

    def core():
        return next(pid for name, pid in group_members(engine.worker_pid).items() if "EngineCor" in name)

    harms = [
        lambda: os.kill(engine.worker_pid, signal.SIGKILL),
        lambda: os.kill(core(), signal.SIGSTOP),
        lambda: os.kill(core(), signal.SIGKILL),
    ]
    answers_in_life = Counter()

    def harm(_):
        answers_in_life[engine.n_restarts] += 1
        if answers_in_life[engine.n_restarts] == 3:
            harms[engine.n_restarts]()

    requests = stories(24, n=2)
    with (
        Generation("test", tmp_path, Disturbed(engine, harm)) as generation,
        pytest.raises(EngineError, match="already restarted 2 times"),
    ):
        generation.complete(requests, "answers")
    assert all(answers_in_life[life] >= 3 for life in range(3))
    assert group_members(first) == {}
    journalled = dict(generation._done)
    assert 2 * 9 <= len(journalled) < 48

    finish(engine, tmp_path, requests, journalled)
    assert engine.metrics()["restarts"] == 2


def test_closing_ends_every_process(engine):
    assert rows(engine, [request("a", "Say hello.")])
    group = engine.worker_pid
    assert any("EngineCor" in name for name in group_members(group))
    engine.close()
    assert group_members(group) == {}


def test_an_unknown_option_is_named_before_the_model_is_loaded(engine):
    from selfreward.engines.vllm.engine import VllmEngine

    engine.close()
    with (
        VllmEngine(MODEL, EngineOptions(extra={"tensor_paralel_size": 2})) as other,
        pytest.raises(ConfigError, match="did you mean 'tensor_parallel_size'"),
    ):
        list(other.generate([request("a", "b")]))


def test_a_context_longer_than_the_models_is_refused_in_vllms_words(engine):
    from selfreward.engines.vllm.engine import VllmEngine

    engine.close()
    with (
        VllmEngine(MODEL, EngineOptions(max_context=100_000, extra=EAGER)) as other,
        pytest.raises(EngineError, match=r"did not start.*8192"),
    ):
        list(other.generate([request("a", "b")]))


def test_parallel_and_memory_options_reach_vllm_as_they_are(engine):
    from selfreward.engines.vllm.worker import engine_arguments

    options = {
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 2,
        "data_parallel_size": 3,
        "gpu_memory_utilization": 0.7,
        "max_num_seqs": 512,
    }
    start = {"model": str(engine._folder), "options": options, "dtype": "auto", "max_context": 512, "seed": 7}
    got = engine_arguments(start)
    assert {name: getattr(got, name) for name in options} == options
    assert (got.max_model_len, got.seed, got.dtype) == (512, 7, "float32")
    assert got.enable_prefix_caching
    assert not got.trust_remote_code
