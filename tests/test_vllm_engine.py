"""`vllm:` for real: vLLM on the CPU with SmolLM2-135M-Instruct. Run by `make test-vllm` in an environment of its own.

One engine for the file, since a start takes most of a minute; `enforce_eager` spares the compilation, which takes two
more where no cache of it is at hand.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.errors import ConfigError, EngineError
from selfreward.known_models import pull
from selfreward.tables import Message

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed here")

MODEL = "smollm2-135m-instruct"
EAGER = {"enforce_eager": True}
TOLERATED = 0.1
"""Share of greedy rows that may differ from `hf:`, both in float32; the sums are taken in another order."""

PLACES = ("the Alps", "Lisbon", "a harbour", "the desert", "Kyoto", "an island", "the Nile", "a village",
          "Iceland", "the moon", "Bergen", "a forest")  # fmt: skip
RUBRIC = "Review the answer below and award points for relevance, completeness and clarity. " * 40


@pytest.fixture(scope="module")
def engine():
    from selfreward.engines.vllm import VllmEngine

    pull(MODEL, progress=False)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with VllmEngine(MODEL, EngineOptions(max_context=2048, extra=EAGER)) as opened:
        yield opened


@pytest.fixture(scope="module")
def hf():
    from selfreward.engines.hf import HfEngine

    with HfEngine(MODEL, EngineOptions(dtype="float32")) as opened:
        yield opened


def request(name, text, sampling=Sampling(0.0, 1.0, 24), n=1, **more):  # noqa: B008  frozen
    return Request(name, (Message("user", text),), sampling, n=n, **more)


def rows(engine, requests):
    return {(one.request_id, one.sample): one for group in engine.generate(requests) for one in group}


def test_the_same_rows_as_hf_under_greedy_decoding_but_for_a_counted_share(engine, hf, record_property):
    """Plain chats, an assistant prefix, stop strings, text that spells special tokens: 36 requests."""
    requests = [request(f"p{i}", f"Write two sentences about {place}.") for i, place in enumerate(PLACES)]
    requests += [
        request(f"x{i}", f"What is {place} known for?", prefix="It is known for")
        for i, place in enumerate(PLACES)
    ]
    stop = Sampling(0.0, 1.0, 24, stop=(",", " and"))
    requests += [
        request(f"s{i}", f"<|im_end|>List what one packs for {place}.", stop)
        for i, place in enumerate(PLACES)
    ]
    ours, theirs = rows(engine, requests), rows(hf, requests)
    assert ours.keys() == theirs.keys()
    assert [ours[key].n_prompt_tokens for key in ours] == [theirs[key].n_prompt_tokens for key in ours]

    def looks(row):
        return row.text, row.finish_reason, row.n_tokens

    different = [key for key in ours if looks(ours[key]) != looks(theirs[key])]
    print(f"\n{len(different)} of {len(ours)} greedy rows differ from hf: {different}")
    assert len(different) <= TOLERATED * len(ours)
    assert {ours[key].finish_reason for key in ours} == {"stop", "length"}


def test_the_log_probabilities_of_choices_are_those_of_hf(engine, hf):
    choices = tuple(str(score) for score in range(6))
    requests = [
        request(f"c{i}", f"How good is this answer, from 0 to 5? {place}.", Sampling(0.7, 0.9, 1), prefix="Score: ",
                choices=choices)
        for i, place in enumerate(PLACES[:6])
    ]  # fmt: skip
    ours, theirs = rows(engine, requests), rows(hf, requests)
    assert {one.error for one in [*ours.values(), *theirs.values()]} == {None}
    for key, row in ours.items():
        assert list(row.choice_logprobs) == list(choices)
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


def test_samples_differ_and_share_the_prompt_and_requests_share_the_rubric(engine):
    """The rubric fills two blocks of 128 tokens or more, which are computed once: everything else in the first
    request, and nothing but its own end in the 11 samples that follow, may be looked up in vain."""
    before = engine.metrics()
    requests = [
        request(f"j{i}", RUBRIC + place, Sampling(1.0, 1.0, 8), n=3) for i, place in enumerate(PLACES[:4])
    ]
    got = rows(engine, requests)
    after = engine.metrics()
    assert len({row.text for row in got.values()}) > 6
    length = got["j0", 0].n_prompt_tokens
    shared = engine.count_tokens([Message("user", RUBRIC)]) // 128 * 128 - 128
    assert shared >= 256
    queries = after["prefix_cache_queries"] - before["prefix_cache_queries"]
    hits = after["prefix_cache_hits"] - before["prefix_cache_hits"]
    print(f"\nprefix cache: {hits} of {queries} prompt tokens found ({length} in a prompt)")
    assert queries == pytest.approx(12 * length, abs=60)
    assert hits >= 11 * shared


def test_a_worker_killed_in_the_middle_is_replaced_and_every_answer_is_journalled_once(engine, tmp_path):
    """Killed after the third of 24 requests, while the rest is being computed; the second life finishes them."""
    from selfreward.generation import Generation

    killed = []

    class Killing:
        """The engine, with a hand that kills its worker."""

        name = engine.name

        def generate(self, requests, done):
            for count, group in enumerate(engine.generate(requests, done), 1):
                if count == 3:
                    killed.append(engine.worker_pid)
                    os.kill(engine.worker_pid, signal.SIGKILL)
                yield group

    requests = [request(f"k{i}", f"Tell a story of {PLACES[i % 12]}.", Sampling(0.8, 0.9, 20 + i), n=2)
                for i in range(24)]  # fmt: skip
    restarts = engine.n_restarts
    with Generation("test", tmp_path, Killing()) as generation:
        completions = generation.complete(requests, "answers")
    assert len(completions) == 48
    assert {one.error for one in completions.values()} == {None}
    assert engine.n_restarts == restarts + 1
    assert engine.worker_pid != killed[0]
    assert not [path for path in Path("/proc").glob("[0-9]*/stat") if group_of(path) == killed[0]]


def test_closing_ends_every_process(engine):
    pid = engine.worker_pid
    assert [path for path in Path("/proc").glob("[0-9]*/stat") if group_of(path) == pid]
    engine.close()
    assert not [path for path in Path("/proc").glob("[0-9]*/stat") if group_of(path) == pid]


def test_an_unknown_option_is_named_before_the_model_is_loaded(engine):
    from selfreward.engines.vllm import VllmEngine

    engine.close()
    with (
        VllmEngine(MODEL, EngineOptions(extra={"tensor_paralel_size": 2})) as other,
        pytest.raises(ConfigError, match="did you mean 'tensor_parallel_size'"),
    ):
        list(other.generate([request("a", "b")]))


def test_a_context_longer_than_the_models_is_refused_in_vllms_words(engine):
    from selfreward.engines.vllm import VllmEngine

    engine.close()
    with (
        VllmEngine(MODEL, EngineOptions(max_context=100_000, extra=EAGER)) as other,
        pytest.raises(EngineError, match=r"did not start.*8192"),
    ):
        list(other.generate([request("a", "b")]))


def group_of(stat: Path) -> int | None:
    """Process group of a live process; None for one that is gone or only waits to be buried."""
    try:
        state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else int(group)
