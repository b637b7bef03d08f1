"""What `vllm:` does about workers that die, hang, refuse and mix up the order: with a worker that only pretends."""

from __future__ import annotations

import json
import os
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
from word_model import WORDS, make_word_model

from selfreward.engines.base import EngineOptions, Request, Sampling, row_seed
from selfreward.engines.vllm.engine import VllmEngine
from selfreward.engines.vllm.worker import OptionError, check_options
from selfreward.errors import ConfigError, EngineError
from selfreward.tables import Message

FAKE = Path(__file__).parents[1] / "helpers" / "fake_vllm_worker.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_word_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def open_fake(folder, tmp_path):
    """Engines on the pretending worker, closed at the end of the test."""
    opened = []

    def opening(options=None, **script):
        command = [
            sys.executable,
            "-P",
            str(FAKE),
            json.dumps({"starts": str(tmp_path / "starts"), **script}),
        ]
        opened.append(VllmEngine(str(folder), options or EngineOptions(max_in_flight=2), command))
        return opened[-1]

    yield opening
    for engine in opened:
        engine.close()


def request(i, n=1, text=None, max_tokens=3, **more):
    return Request(
        f"r{i}", (Message("user", text or f"w{i} w{i + 1}"),), Sampling(0, 1, max_tokens), n=n, **more
    )


def keys(groups):
    return sorted((one.request_id, one.sample) for group in groups for one in group)


def test_a_group_is_one_request_with_all_its_samples(open_fake):
    """The prompt is `w3 w4 <go>`; backwards and without the special token that reads `w4 w3`."""
    (group,) = open_fake().generate([request(3, n=2)])
    assert [one.text for one in group] == ["w4 w3", "w4 w3"]
    assert [one.seed for one in group] == [row_seed(0, "r3", 0), row_seed(0, "r3", 1)]
    assert [(one.n_tokens, one.n_prompt_tokens) for one in group] == [(3, 3), (3, 3)]


def test_answers_in_any_order_land_on_their_own_request(open_fake):
    groups = list(open_fake(held=3).generate([request(i) for i in range(9)]))
    assert {group[0].request_id: group[0].text for group in groups} == {
        f"r{i}": f"w{i + 1} w{i}" for i in range(9)
    }


@pytest.mark.parametrize("fault", ["die_at", "dead_at"])
def test_a_worker_that_dies_is_replaced_and_nothing_is_lost_or_doubled(open_fake, fault):
    """Nine requests; the first worker dies after three answers, the second after one, the third lives."""
    engine = open_fake(**{fault: [3, 1]})
    assert keys(engine.generate([request(i, n=2) for i in range(9)])) == [
        (f"r{i}", s) for i in range(9) for s in (0, 1)
    ]
    assert engine.metrics()["restarts"] == 2


def test_a_worker_that_hangs_is_replaced(open_fake):
    engine = open_fake(EngineOptions(timeout_s=0.5), hang_at=[2])
    assert len(keys(engine.generate([request(i) for i in range(4)]))) == 4
    assert engine.n_restarts == 1


def test_a_slow_worker_that_makes_progress_is_not_taken_for_one_that_hangs(open_fake):
    """An answer takes 0.9 s, the limit is 0.5 s; but its counters move every 0.1 s."""
    engine = open_fake(EngineOptions(timeout_s=0.5), slow_s=0.9)
    assert len(keys(engine.generate([request(0), request(1)]))) == 2
    assert engine.n_restarts == 0


def test_a_worker_that_always_dies_ends_in_an_error_that_quotes_its_log_after_what_it_finished(open_fake):
    engine = open_fake(die_at=[2, 0, 0, 0, 0])
    got = []
    with pytest.raises(
        EngineError, match=r"SIGKILL \(RuntimeError: out of luck\).*already restarted 2 times"
    ):
        got.extend(engine.generate([request(i) for i in range(6)]))
    assert keys(got) == [("r0", 0), ("r1", 0)]


def test_restarts_are_bounded_even_if_each_finishes_something(open_fake):
    """Each worker answers one request and dies; two restarts are allowed, so three of six are answered."""
    got = []
    engine = open_fake(EngineOptions(max_retries=2), die_at=[1] * 9)
    with pytest.raises(EngineError):
        got.extend(engine.generate([request(i) for i in range(6)]))
    assert len(keys(got)) == 3


def test_what_is_done_is_not_asked_for_again(open_fake):
    engine = open_fake()
    got = keys(engine.generate([request(0, n=2), request(1)], done={("r0", 0), ("r1", 0)}))
    assert got == [("r0", 1)]
    assert engine.metrics()["prompt_tokens"] == 1


def test_nothing_to_do_starts_no_worker(open_fake):
    engine = open_fake()
    assert list(engine.generate([request(0)], done={("r0", 0)})) == []
    assert engine.worker_pid is None


def test_bad_requests_mark_their_own_rows(open_fake):
    """The context is 10 tokens: seven words, `<go>` and three new tokens are one too many."""
    long = request(1, n=2, text=" ".join(WORDS[:7]))
    rows = [
        one
        for group in open_fake(context=10).generate([request(0), long, request(2, text="w1 <go>")])
        for one in group
    ]
    by_id = {one.request_id: one for one in rows}
    assert by_id["r0"].finish_reason == "stop"
    assert by_id["r1"].error == "prompt of 8 tokens and max_tokens 3 do not fit the context of 10 tokens"
    assert len(rows) == 4


def test_a_request_that_the_engine_refuses_is_an_error_row(open_fake):
    rows = [one for group in open_fake().generate([request(0, text="w5 w5"), request(1)]) for one in group]
    assert {one.request_id: one.error for one in rows} == {
        "r0": "vLLM refused the request: a word said twice",
        "r1": None,
    }


def test_a_choice_of_two_words_is_an_error_row(open_fake):
    (group,) = open_fake().generate([request(5, choices=("w1 w2",), prefix=" w9")])
    assert "is not one token" in group[0].error


def test_choices_come_back_under_their_own_names(open_fake):
    (group,) = open_fake().generate([request(5, choices=(" w1", " w2"), prefix=" w9")])
    assert group[0].choice_logprobs == {" w1": -1.0, " w2": -1.0}


def test_no_more_than_twice_max_in_flight_are_out(open_fake):
    """The worker holds answers back by five; with two in flight at most four are out, so it would wait for ever: the
    time-out shows that the fifth was never sent."""
    with pytest.raises(EngineError, match=r"no progress for 0\.3 s"):
        list(
            open_fake(EngineOptions(max_in_flight=2, timeout_s=0.3), held=5).generate(
                [request(i) for i in range(9)]
            )
        )


def test_an_abandoned_call_does_not_disturb_the_next(open_fake):
    engine = open_fake()
    first = engine.generate([request(i) for i in range(6)])
    next(first)
    first.close()
    assert keys(engine.generate([request(7)])) == [("r7", 0)]


def test_two_calls_at_once_are_refused(open_fake):
    engine = open_fake()
    first = engine.generate([request(0), request(1)])
    next(first)
    with pytest.raises(EngineError, match="earlier call"):
        next(engine.generate([request(2)]))


def test_after_close_nothing_of_the_worker_is_left(open_fake, tmp_path):
    """The child (`sleep 600`) belongs to the worker's process group and dies with it."""
    engine = open_fake(EngineOptions(extra={"child": True}))
    assert len(list(engine.generate([request(0)]))) == 1
    child, log = int((tmp_path / "child").read_text()), engine._worker.log
    engine.close()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
    assert not log.exists()
    engine.close()


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_worker_that_is_killed_leaves_no_shared_memory(open_fake, tmp_path, end):
    """The tracker of multiprocessing, a process of the worker's group, removes it when the worker is dead."""
    engine = open_fake(EngineOptions(extra={"shared": True}), hang_at=[1] if end == "kill" else None)
    next(engine.generate([request(0)]))
    name = (tmp_path / "shared").read_text()
    SharedMemory(name=name).close()
    if end == "kill":
        engine._worker.kill()
    engine.close()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name=name)


@pytest.mark.parametrize(
    ("kind", "error"), [("option", ConfigError), ("start", EngineError)], ids=["option", "model"]
)
def test_what_stops_vllm_from_starting_is_said_at_once(open_fake, tmp_path, kind, error):
    engine = open_fake(fatal={"kind": kind, "error": "no such thing"})
    with pytest.raises(error, match="no such thing"):
        list(engine.generate([request(0)]))
    assert (tmp_path / "starts").read_text() == "x"
    assert engine.worker_pid is None


def test_options_are_checked_by_name():
    check_options({"tensor_parallel_size": 2}, ["tensor_parallel_size"])
    with pytest.raises(OptionError, match="did you mean 'tensor_parallel_size'"):
        check_options({"tensor_paralel_size": 2}, ["tensor_parallel_size"])
    with pytest.raises(OptionError, match=r"set by engine\.max_context"):
        check_options({"max_model_len": 100}, ["max_model_len"])


def test_a_missing_vllm_names_the_extra_to_install(folder, monkeypatch):
    monkeypatch.setattr("selfreward.engines.vllm.engine.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'selfreward\[vllm\]'"):
        VllmEngine(str(folder), EngineOptions())


def test_a_folder_without_a_chat_template_is_refused_before_anything_starts(folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".json":
            (bare / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EngineError, match="has no chat template"):
        VllmEngine(str(bare), EngineOptions(), [sys.executable, str(FAKE), "{}"])


def test_the_worker_ends_itself_when_the_harness_is_killed(open_fake, folder, tmp_path):
    """A process that opens the engine, prints the worker's pid, and is killed."""
    import signal
    import subprocess

    script = json.dumps({"starts": str(tmp_path / "starts")})
    code = (
        "import sys, time\nfrom selfreward.engines.base import *\nfrom selfreward.engines.vllm.engine import VllmEngine\n"
        "from selfreward.tables import Message\n"
        f"engine = VllmEngine({str(folder)!r}, EngineOptions(), [sys.executable, '-P', {str(FAKE)!r}, {script!r}])\n"
        "next(engine.generate([Request('a', (Message('user', 'w1'),), Sampling(0, 1, 2))]))\n"
        "print(engine.worker_pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as harness:
        worker = int(harness.stdout.readline())
        os.kill(harness.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(f"/proc/{worker}").exists():
        time.sleep(0.05)
    status = Path(f"/proc/{worker}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_what_a_killed_worker_has_started_ends_with_it():
    """Ray kills the children of an actor that ends, and leaves theirs: here a `sleep` in the worker's group."""
    import signal
    import subprocess

    code = (
        "import os, subprocess\nfrom selfreward.engines.vllm.worker import guard_group\nguard = guard_group()\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\nos.waitpid(-1, 0)"
    )
    command = [sys.executable, "-P", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as worker:
        child = int(worker.stdout.readline())
        os.kill(worker.pid, signal.SIGKILL)
    status = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and status.exists() and status.read_text().split()[2] != "Z":
        time.sleep(0.05)
    assert not status.exists() or status.read_text().split()[2] == "Z"
