"""What `ray:` does about actors, machines and engines that die, hang and refuse: on a real Ray cluster of two workers
on this machine, with workers that only pretend to be vLLM. Run by `make test-vllm`, in the environment that has Ray.

The pretending workers count their starts in one file, so that the first actor that starts is told one fate and the
second another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from disturbed import asked_for
from ray_workers import add_worker, journalled, kill_a_worker_that_computes, two_workers
from word_model import WORDS, make_word_model

from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.ray.engine import RayEngine
from selfreward.errors import ConfigError, EngineError
from selfreward.tables import Message

pytestmark = pytest.mark.vllm
pytest.importorskip("ray", reason="Ray is not installed here")

FAKE = Path(__file__).parents[1] / "helpers" / "fake_vllm_worker.py"


@pytest.fixture(scope="module")
def cluster():
    with two_workers() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_word_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def open_fake(cluster, folder, tmp_path):
    """Engines on pretending workers, two actors by default; closed at the end of the test."""
    opened = []

    def opening(options=None, cluster_options=(), **script):
        options = options or EngineOptions(max_in_flight=8)
        settings = {"address": cluster.address, "num_cpus": 1, **dict(cluster_options)}
        options = EngineOptions(
            **{
                name: getattr(options, name)
                for name in ("max_in_flight", "timeout_s", "max_retries", "max_context")
            },
            extra={**options.extra, "ray": settings},
        )
        script = json.dumps({"starts": str(tmp_path / "starts"), **script})
        opened.append(RayEngine(str(folder), options, [sys.executable, "-P", str(FAKE), script]))
        return opened[-1]

    yield opening
    for engine in opened:
        engine.close()


def request(i, n=1, text=None, max_tokens=3, **more):
    text = text or f"w{i % 59} w{i % 59 + 1}"
    return Request(f"r{i}", (Message("user", text),), Sampling(0, 1, max_tokens), n=n, **more)


def keys(groups):
    return sorted((one.request_id, one.sample) for group in groups for one in group)


def test_every_sample_comes_back_once_on_its_own_request(open_fake):
    """`w3 w4 <go>` backwards and without the special token reads `w4 w3`. 60 requests, two actors, one pass."""
    requests = [request(i, n=1 + i % 3) for i in range(60)]
    engine = open_fake()
    groups = list(engine.generate(requests))
    assert keys(groups) == asked_for(requests)
    texts = {one.request_id: one.text for group in groups for one in group}
    assert texts == {f"r{i}": f"w{i % 59 + 1} w{i % 59}" for i in range(60)}
    assert {one.finish_reason for group in groups for one in group} == {"stop"}
    assert engine.n_passes == 1


def test_both_workers_compute(open_fake, tmp_path):
    list(open_fake(slow_s=0.05).generate([request(i) for i in range(60)]))
    assert (tmp_path / "starts").read_text() == "xx"


def test_what_is_done_is_not_asked_for_again(open_fake):
    got = keys(open_fake().generate([request(0, n=2), request(1)], done={("r0", 0), ("r1", 0)}))
    assert got == [("r0", 1)]


def test_nothing_to_do_connects_to_no_cluster(open_fake):
    import ray

    assert list(open_fake().generate([request(0)], done={("r0", 0)})) == []
    assert not ray.is_initialized()


def test_an_actor_that_is_killed_loses_only_what_it_had(open_fake):
    """The first actor dies after five answers, with up to 18 parcels of one request in it; the other one goes on."""
    requests = [request(i, n=2) for i in range(60)]
    engine = open_fake(orphan_at=[5], slow_s=0.05)
    assert keys(engine.generate(requests)) == asked_for(requests)
    assert engine.n_passes == 2


def test_an_engine_that_dies_or_hangs_is_replaced_inside_its_actor(open_fake):
    engine = open_fake(EngineOptions(max_in_flight=8, timeout_s=1.0), dead_at=[5], hang_at=[None, 3])
    requests = [request(i) for i in range(60)]
    assert keys(engine.generate(requests)) == asked_for(requests)
    assert engine.n_passes == 1


def test_an_engine_that_cannot_be_kept_alive_ends_in_an_error_that_names_the_machine(open_fake):
    """Each worker answers one request and dies; no restart is allowed."""
    engine = open_fake(EngineOptions(max_in_flight=8, max_retries=0), die_at=[1] * 9)
    with pytest.raises(
        EngineError, match=r"^ray:.*, on machine \S+: the worker was killed by signal SIGKILL"
    ):
        list(engine.generate([request(i) for i in range(30)]))


def test_actors_that_always_die_end_in_an_error_after_a_bounded_number_of_passes(open_fake):
    """Two passes, each of two actors that die twice before their first answer."""
    engine = open_fake(EngineOptions(max_retries=1), {"patience_s": 40}, orphan_at=[0] * 30)
    with pytest.raises(EngineError, match="6 requests are left after 2 passes"):
        list(engine.generate([request(i) for i in range(6)]))
    assert engine.n_passes == 2


def test_bad_requests_mark_their_own_rows(open_fake):
    """The context is 10 tokens: seven words, `<go>` and three new tokens are one too many."""
    long = request(1, n=2, text=" ".join(WORDS[:7]))
    refused, good = request(2, text="w5 w5"), request(0)
    rows = [one for group in open_fake(context=10).generate([long, refused, good]) for one in group]
    errors = {one.request_id: one.error for one in rows}
    assert errors == {
        "r0": None,
        "r1": "prompt of 8 tokens and max_tokens 3 do not fit the context of 10 tokens",
        "r2": "vLLM refused the request: a word said twice",
    }
    assert len(rows) == 4


def test_choices_come_back_under_their_own_names(open_fake):
    (group,) = open_fake().generate([request(5, choices=(" w1", " w2"), prefix=" w9")])
    assert group[0].choice_logprobs == {" w1": -1.0, " w2": -1.0}


@pytest.mark.parametrize(
    ("kind", "error"), [("option", ConfigError), ("start", EngineError)], ids=["option", "model"]
)
def test_what_stops_vllm_from_starting_is_said_without_another_try(open_fake, kind, error):
    engine = open_fake(fatal={"kind": kind, "error": "no such thing"})
    with pytest.raises(error, match=r"on machine \S+: .*no such thing"):
        list(engine.generate([request(0)]))
    assert engine.n_passes == 1


def test_an_abandoned_call_ends_its_actors_and_does_not_disturb_the_next(open_fake):
    engine = open_fake(slow_s=0.05)
    first = engine.generate([request(i) for i in range(40)])
    next(first)
    first.close()
    assert keys(engine.generate([request(7)])) == [("r7", 0)]


def test_an_engine_that_fits_nowhere_is_an_error_that_says_what_there_is(open_fake):
    with pytest.raises(EngineError, match=r"needs 64 CPU, but no machine .*\(0 CPU; 1 CPU; 1 CPU\)"):
        list(open_fake(cluster_options={"num_cpus": 64}).generate([request(0)]))


def test_waiting_for_machines_that_never_come_has_an_end(open_fake):
    engine = open_fake(EngineOptions(max_retries=0), {"num_cpus": 64, "actors": 1, "patience_s": 3})
    with pytest.raises(
        EngineError, match=r"no answer from any machine for 3 s \(engine\.extra\.ray\.patience_s"
    ):
        list(engine.generate([request(0)]))


def test_an_address_where_no_cluster_answers_is_an_error(open_fake):
    with pytest.raises(EngineError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        list(open_fake(cluster_options={"address": "127.0.0.1:1"}).generate([request(0)]))


def test_the_cluster_goes_on_without_us(cluster, open_fake):
    import ray

    engine = open_fake()
    list(engine.generate([request(0)]))
    engine.close()
    assert not ray.is_initialized()
    ray.init(cluster.address, log_to_driver=False)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 3
    ray.shutdown()


def test_a_worker_that_is_killed_in_the_middle_costs_no_answer_and_doubles_none(
    cluster, open_fake, tmp_path, capsys
):
    """After 5 of 60 groups; the killed machine's actor has nowhere else to go. What Ray says of it is not on stdout."""
    requests = [request(i, n=2) for i in range(60)]
    engine = open_fake(slow_s=0.1)
    lines = journalled(engine, requests, tmp_path, 5, lambda: kill_a_worker_that_computes(cluster))
    add_worker(cluster)
    assert sorted((one["request_id"], one["sample"]) for one in lines) == asked_for(requests)
    assert {one["error"] for one in lines} == {None}
    assert engine.n_passes == 2
    assert capsys.readouterr().out == ""


LOCAL = """
import json, sys
import psutil
from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.ray.engine import RayEngine
from selfreward.tables import Message

folder, *command = sys.argv[1:]
options = EngineOptions(extra={"ray": {"address": "local", "num_cpus": 1, "actors": 1}})
with RayEngine(folder, options, command) as engine:
    for group in engine.generate([Request("a", (Message("user", "w1 w2"),), Sampling(0, 1, 3), n=2)]):
        print(len(group), group[0].text, flush=True)
    family = psutil.Process().children(recursive=True)
    sockets = [socket for process in family for socket in process.net_connections("tcp")]
    listening = sorted({socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN})
    print(json.dumps({"pids": [process.pid for process in family], "listening": listening}), file=sys.stderr)
"""


def test_a_cluster_of_our_own_is_on_loopback_quiet_and_gone_at_the_end(folder, tmp_path):
    """In a folder whose `selfreward.py` and `json.py` would break everything if they were taken for the real ones."""
    for name in ("selfreward.py", "json.py"):
        (tmp_path / name).write_text("raise RuntimeError('the wrong module')")
    script = json.dumps({"starts": str(tmp_path / "starts")})
    run = subprocess.run(
        [sys.executable, "-P", "-c", LOCAL, str(folder), sys.executable, "-P", str(FAKE), script],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == "2 w2 w1\n"
    *said, seen = run.stderr.strip().splitlines()
    assert "started a local Ray cluster of 1 machine" in said[0]
    assert len(said) <= 2  # ours, and one of Ray's about restarts of actors
    family = json.loads(seen)
    assert family["listening"]
    assert {ip.removeprefix("::ffff:") for ip in family["listening"]} <= {"127.0.0.1", "::1"}
    deadline = time.monotonic() + 30
    while (left := [pid for pid in family["pids"] if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
