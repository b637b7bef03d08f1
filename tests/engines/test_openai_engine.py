"""The server engine against a real loopback server with scripted faults, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import tracemalloc
import zlib
from dataclasses import asdict, replace

import pytest
from fake_openai_server import (
    FakeServer,
    changed,
    closed_mid_answer,
    normal_answer,
    raw,
    reset,
    reset_mid_answer,
    slow,
    status,
    unused_port,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfreward.engines.base import Completion, EngineOptions, Request, Sampling
from selfreward.engines.openai.endpoint import key_for, longest_body
from selfreward.engines.openai.engine import OpenAiEngine
from selfreward.engines.openai.retry import Backoff, Clock, server_delay_s
from selfreward.engines.openai.wire import Ask, Dialect, InvalidAnswer, read_answer, sent_seed
from selfreward.engines.registry import open_engine
from selfreward.errors import CostLimitError, EngineError, UsageError
from selfreward.steps.generation import Generation
from selfreward.store.journal import Journal
from selfreward.tables import Message


class FakeClock(Clock):
    """Sleeping takes no time, and is written down."""

    def __init__(self, wall: float = 0.0) -> None:
        self.now = 0.0
        self.start = wall
        self.slept: list[float] = []

    def wall(self) -> float:
        return self.start + self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for variable in ("SELFREWARD_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


def request(request_id, n=1, text=None, **more):
    return Request(
        request_id, (Message("user", text or f"prompt {request_id}"),), Sampling(max_tokens=20), n=n, **more
    )


def engine_for(*servers, clock=None, extra=None, **options):
    urls = ",".join(server.url for server in servers)
    return OpenAiEngine(f"{urls}#tiny", EngineOptions(extra=extra or {}, **options), clock or FakeClock())


def read_until_error(stream, rows):
    for group in stream:
        rows += group


def answers(engine, requests, done=frozenset()):
    """(id, sample) -> completion, each exactly once."""
    rows = [row for group in engine.generate(requests, done) for row in group]
    by_key = {(row.request_id, row.sample): row for row in rows}
    assert len(by_key) == len(rows)
    return by_key


# ---------------------------------------------------------------------------------- matching


def test_every_sample_of_every_request_comes_back_under_its_own_id(server):
    requests = [request(f"r{place}", n=1 + place % 3) for place in range(60)]
    rows = answers(engine_for(server, max_in_flight=8), requests)
    assert rows.keys() == {(r.id, sample) for r in requests for sample in range(r.n)}
    for (request_id, sample), row in rows.items():
        assert (row.text, row.finish_reason) == (f"re: prompt {request_id} [{sample}]", "stop")
    assert server.most_at_once <= 8
    assert len(server.bodies) == 60


def test_what_is_done_is_not_asked_again_and_the_rest_keeps_its_sample_numbers(server):
    rows = answers(engine_for(server), [request("a", n=4), request("b")], done={("a", 0), ("a", 2), ("b", 0)})
    assert rows.keys() == {("a", 1), ("a", 3)}
    assert [body["n"] for body in server.bodies] == [2]
    assert list(engine_for(server).generate([request("b")], done={("b", 0)})) == []


def test_choices_in_any_order_go_to_their_index(server):
    server.script["prompt a"] = [changed(lambda answer: answer["choices"].reverse())]
    rows = answers(engine_for(server), [request("a", n=3)])
    assert [rows["a", sample].text for sample in range(3)] == [
        f"re: prompt a [{sample}]" for sample in range(3)
    ]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(changed(lambda answer: answer["choices"].pop(1)), id="one missing"),
        pytest.param(changed(lambda answer: answer["choices"][1].update(index=0)), id="index twice"),
        pytest.param(changed(lambda answer: answer["choices"][1].update(index=7)), id="index out of range"),
        pytest.param(changed(lambda answer: answer["choices"][1].update(index="x")), id="index no number"),
        pytest.param(changed(lambda answer: answer["choices"].__setitem__(1, None)), id="choice null"),
    ],
)
def test_a_missing_choice_is_asked_for_alone(server, fault):
    server.script["prompt a"] = [fault]
    rows = answers(engine_for(server), [request("a", n=3)])
    assert [rows["a", sample].text for sample in range(3)] == [
        "re: prompt a [0]",
        "re: prompt a [0]",
        "re: prompt a [2]",
    ]
    assert "n" not in server.bodies[1]
    assert server.bodies[1]["seed"] == sent_seed(Ask(request("a"), (1,)))


@pytest.mark.parametrize(
    "usual",
    [
        pytest.param(changed(lambda answer: answer.update(choices=answer["choices"][:1])), id="ignores n"),
        pytest.param(
            lambda handler, body: (status(400) if "n" in body else changed(len))(handler, body),
            id="refuses n",
        ),
    ],
)
def test_a_server_without_n_is_asked_for_single_samples_after_three_tries(server, usual):
    server.usual = usual
    engine = engine_for(server, max_in_flight=1)
    rows = answers(engine, [request(f"r{place}", n=2) for place in range(6)])
    assert {row.finish_reason for row in rows.values()} == {"stop"}
    assert len(rows) == 12
    assert sum("n" in body for body in server.bodies) <= 3


# ---------------------------------------------------------------------------------- faults


PASSING_FAULTS = {
    "reset": reset,
    "reset mid-answer": reset_mid_answer,
    "closed mid-answer": closed_mid_answer,
    **{str(code): status(code) for code in (408, 409, 429, 500, 501, 502, 503, 504)},
    "429 with Retry-After": status(429, {"Retry-After": "2"}),
    "no JSON": raw(b"<html>busy</html>"),
    "half of JSON": raw(b'{"choices": ['),
    "no object": raw(b"[]"),
    "no choices": raw(b"{}"),
    "empty choices": changed(lambda answer: answer.update(choices=[])),
    "only a wrong index": changed(lambda answer: answer["choices"][0].update(index=5)),
}
faults = pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=name) for name, fault in PASSING_FAULTS.items()]
)


@faults
def test_a_passing_fault_is_asked_again_and_concerns_nobody_else(server, fault):
    server.script["prompt bad"] = [fault, fault]
    engine = engine_for(server)
    rows = answers(engine, [request("bad"), request("good")])
    assert rows["bad", 0].text == "re: prompt bad [0]"
    assert rows["good", 0].text == "re: prompt good [0]"
    assert (server.calls["prompt bad"], server.calls["prompt good"]) == (3, 1)
    assert engine.usage.n_retries == 2


@faults
def test_a_lasting_fault_of_one_request_is_an_error_row_of_that_request(server, fault):
    server.script["prompt bad"] = [fault] * 10
    rows = answers(
        engine_for(server, max_retries=3, max_in_flight=2), [request("good"), request("bad"), request("b2")]
    )
    assert rows["good", 0].finish_reason == rows["b2", 0].finish_reason == "stop"
    bad = rows["bad", 0]
    assert (bad.finish_reason, bad.text) == ("error", "")
    assert "asked 4 times" in bad.error
    assert server.calls["prompt bad"] == 4


def test_an_answer_that_never_comes_is_given_up_after_the_timeout(server):
    server.script["prompt a"] = [slow(1.0)]
    started = time.monotonic()
    rows = answers(engine_for(server, timeout_s=0.15), [request("a")])
    assert rows["a", 0].finish_reason == "stop"
    assert time.monotonic() - started < 0.9


def test_a_refused_connection_is_retried_until_the_server_is_there():
    """The server starts while the engine waits for its second attempt."""
    port = unused_port()
    started = []

    class StartsServer(FakeClock):
        async def sleep(self, seconds):
            if not started:
                started.append(FakeServer(port))
            await super().sleep(seconds)

    engine = OpenAiEngine(f"http://127.0.0.1:{port}/v1#tiny", EngineOptions(), StartsServer())
    rows = answers(engine, [request("a")])
    started[0].close()
    assert rows["a", 0].finish_reason == "stop"


def test_nothing_listening_is_one_sentence_with_the_address_after_two_retries():
    clock = FakeClock()
    url = f"http://127.0.0.1:{unused_port()}/v1"
    engine = OpenAiEngine(f"{url}#tiny", EngineOptions(), clock)
    with pytest.raises(EngineError, match="start the server at") as caught:
        answers(engine, [request("a")])
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(clock.slept) == 2


def test_a_server_that_dies_in_the_middle_keeps_what_it_answered(server):
    engine = engine_for(server, max_in_flight=1, max_retries=2)
    stream = engine.generate([request("a"), request("b"), request("c"), request("d")])
    first = next(stream)
    server.close()
    rest = []
    with pytest.raises(EngineError, match="no connection"):
        read_until_error(stream, rest)
    assert {row.finish_reason for row in first + rest} == {"stop"}


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_request_that_the_server_refuses_is_an_error_row_with_its_message(server, code):
    server.script["prompt bad"] = [status(code, message="prompt is too long")] * 9
    rows = answers(engine_for(server), [request("good"), request("bad", n=2)])
    assert rows["good", 0].finish_reason == "stop"
    for sample in (0, 1):
        assert rows["bad", sample].finish_reason == "error"
        assert f"HTTP {code}" in rows["bad", sample].error
        assert "prompt is too long" in rows["bad", sample].error
    assert server.calls["prompt bad"] == 3  # both at once, then each alone; none of them twice


@pytest.mark.parametrize("code", [400, 503])
def test_sixteen_failures_without_a_success_are_the_server_s_fault_and_no_rows(server, code):
    server.usual = status(code, message="out of order")
    engine = engine_for(server, max_retries=1, max_in_flight=4)
    rows = []
    with pytest.raises(EngineError, match=r"16 answers in a row failed.*out of order"):
        read_until_error(engine.generate([request(f"r{place}") for place in range(40)]), rows)
    assert rows == []


def test_an_unknown_model_or_path_stops_everything_with_the_address(server):
    server.usual = status(404, message="no model tiny")
    with pytest.raises(EngineError, match=r"no model tiny; check the address .*/v1.* and the model"):
        answers(engine_for(server), [request("a")])


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        pytest.param({"finish_reason": "content_filter"}, "content_filter", id="filtered"),
        pytest.param({"finish_reason": None}, "None", id="no finish reason"),
        pytest.param({"finish_reason": "tool_calls"}, "tool_calls", id="tool call"),
    ],
)
def test_an_unusual_end_is_an_error_row_and_not_asked_again(server, choice, said):
    server.script["prompt a"] = [changed(lambda answer: answer["choices"][0].update(choice))]
    row = answers(engine_for(server), [request("a")])["a", 0]
    assert (row.finish_reason, len(server.bodies)) == ("error", 1)
    assert said in row.error


def test_a_null_content_is_an_empty_answer_and_a_cut_one_says_length(server):
    server.script["prompt a"] = [
        changed(lambda answer: answer["choices"][0].update(finish_reason="length", message={"content": None}))
    ]
    row = answers(engine_for(server), [request("a")])["a", 0]
    assert (row.text, row.finish_reason, row.n_tokens, row.n_prompt_tokens) == ("", "length", 5, 10)


def test_half_of_a_surrogate_pair_becomes_a_character_that_files_can_hold(server):
    server.script["prompt a"] = [
        changed(lambda answer: answer["choices"][0]["message"].update(content="ok \ud83d"))
    ]
    assert answers(engine_for(server), [request("a")])["a", 0].text == "ok \ufffd"


# ---------------------------------------------------------------------------------- answers that cannot be


def with_choice(**values):
    return changed(lambda answer: answer["choices"][0].update(values))


def with_content(content):
    return with_choice(message={"content": content})


def with_usage(**counts):
    return changed(lambda answer: answer["usage"].update(counts))


def with_logprob(value, token=" 4"):
    return with_choice(logprobs={"content": [{"token": token, "logprob": value}]})


NESTED = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DIGITS = b'{"choices": [{"finish_reason": "stop", "message": {"content": "x"}}], "usage": {"completion_tokens": %s}}'
NOT_UNDERSTOOD = {
    "deeply nested": (raw(NESTED), "is not JSON"),
    "a number of 5,000 digits": (raw(DIGITS % (b"9" * 5000)), "is not JSON"),
    "30 digits": (raw(DIGITS % (b"9" * 30)), "counts '9999"),
    "negative tokens": (with_usage(completion_tokens=-6), "counts '-6' tokens"),
    "negative prompt tokens": (with_usage(prompt_tokens=-1), "counts '-1' tokens"),
    "true tokens": (with_usage(completion_tokens=True), "counts 'true' tokens"),
    "a fraction of a token": (with_usage(completion_tokens=4.5), "counts '4.5' tokens"),
    "tokens as text": (with_usage(completion_tokens="5"), "tokens; expected a whole number"),
    "2**31 tokens": (with_usage(completion_tokens=2**31), "counts '2147483648' tokens"),
    "usage is a list": (changed(lambda answer: answer.update(usage=[1])), "usage is not an object"),
    "logprob NaN": (with_logprob(float("nan")), "as the log-probability of ' 4'"),
    "logprob infinite": (with_logprob(float("-inf")), "as the log-probability of ' 4'"),
    "logprob positive": (with_logprob(0.5), "as the log-probability of ' 4'"),
    "logprob of 400 digits": (with_logprob(-(10**400)), "as the log-probability of ' 4'"),
    "logprob true": (with_logprob(True), "as the log-probability of ' 4'"),
    "logprob text": (with_logprob("-1"), "as the log-probability of ' 4'"),
    "token a list": (with_logprob(-1.0, token=[]), "without its token"),
    "logprobs of another form": (with_choice(logprobs={"content": {"a": 1}}), "in an unknown form"),
    "content a number": (with_content(4), "neither a text nor a list of parts"),
    "an image as a part": (with_content([{"type": "image_url"}]), "a part of the answer is not text"),
    "a part without text": (
        with_content([{"type": "text", "text": None}]),
        "a part of the answer is not text",
    ),
    "no message": (with_choice(message=None), "a choice has no message"),
    "an index that is true": (with_choice(index=False), "has no choices"),
}


@pytest.mark.parametrize(
    ("fault", "said"), [pytest.param(*case, id=name) for name, case in NOT_UNDERSTOOD.items()]
)
def test_an_answer_that_cannot_be_is_a_row_with_its_reason(server, fault, said, tmp_path):
    """It costs no money back, stops nobody, and the same command asks for it again and ends well."""
    server.script["prompt bad"] = [fault] * 2
    prices = {"price_per_million_in": 1e6, "price_per_million_out": 1e6, "max_cost": 1e6}
    requests = [replace(request("bad"), choices=(" 4",)), request("good")]
    usual = server.usual = with_logprob(-0.5)
    for attempt in (1, 2):
        engine = engine_for(server, extra=prices, max_retries=1, max_in_flight=1)
        with Generation("step", tmp_path / "run" / "step", engine) as generation:
            rows = generation.complete(requests, "answers")
            notes = generation.notes().stored()
        bad, good = rows["bad", 0], rows["good", 0]
        assert good.finish_reason == "stop"
        if attempt == 1:
            assert (bad.finish_reason, bad.text, bad.n_tokens) == ("error", "", 0)
            assert said in bad.error
            assert "\n" not in bad.error
            assert (notes["engine_errors"], notes["first_engine_error"]) == (1, bad.error)
            assert engine.usage.spent == 2 * 33 + 15  # (10 + 16 bytes) / 2 and 20 new tokens at most, twice
    assert (bad.finish_reason, bad.choice_logprobs) == ("stop", {" 4": -0.5})
    assert usual is server.usual


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def nearly_answers(draw):
    """The shape of an answer, with anything in some of its places."""

    def place(right):
        return draw(st.just(right) | json_values)

    entry = {"token": place(" 4"), "logprob": place(-0.5), "top_logprobs": place([])}
    choice = {
        "index": place(0),
        "finish_reason": place("stop"),
        "message": place({"content": place([{"type": place("text"), "text": place("x")}])}),
        "logprobs": place({"content": place([entry])}),
        "error": place(None),
    }
    usage = {"prompt_tokens": place(10), "completion_tokens": place(5)}
    return {"choices": place([choice]), "usage": place(usage)}


@settings(max_examples=300, deadline=None)
@given(nearly_answers())
def test_any_json_is_an_answer_that_can_be_journalled_or_is_not_understood(body):
    asked = Ask(request("a", choices=(" 4",)), (0,))
    try:
        answer = read_answer(json.dumps(body).encode(), asked, Dialect("tiny"))
    except InvalidAnswer:
        return
    (completion,) = answer.completions
    json.dumps(asdict(completion), ensure_ascii=False, allow_nan=False).encode()
    assert completion.finish_reason in ("stop", "length") or completion.error


def test_one_choice_that_cannot_be_is_asked_for_alone(server):
    server.script["prompt a"] = [changed(lambda answer: answer["choices"][1].update(message={"content": {}}))]
    rows = answers(engine_for(server), [request("a", n=3)])
    assert {row.finish_reason for row in rows.values()} == {"stop"}
    assert len(server.bodies) == 2


def test_a_journal_that_an_older_version_poisoned_is_asked_again(server, tmp_path):
    """30 digits as a count stopped every later run."""
    values = asdict(Completion("a", 0, "x", "stop", 1)) | {"n_tokens": 10**29}
    with Journal(tmp_path / "run" / "step" / "journal.jsonl") as journal:
        journal.append([values])
    with Generation("step", tmp_path / "run" / "step", engine_for(server)) as generation:
        assert generation.complete([request("a")], "answers")["a", 0].text == "re: prompt a [0]"


def test_a_log_probability_that_rounding_put_above_zero_is_zero(server):
    server.usual = with_logprob(1e-5)
    rows = answers(engine_for(server), [request("a", choices=(" 4",))])
    assert rows["a", 0].choice_logprobs == {" 4": 0.0}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(
            [{"type": "text", "text": "Clear. "}, {"type": "text", "text": "Score: 4"}], "Clear. Score: 4"
        ),
        pytest.param(
            [{"type": "thinking", "thinking": [{"text": "Score: 1"}]}, {"type": "text", "text": "4"}], "4"
        ),
        pytest.param([], ""),
        pytest.param(None, ""),
    ],
)
def test_the_parts_of_an_answer_are_joined(server, content, text):
    server.usual = with_content(content)
    row = answers(engine_for(server), [request("a")])["a", 0]
    assert (row.text, row.finish_reason) == (text, "stop")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
    ],
)
def test_ends_under_other_names_are_known(server, said, meant):
    server.usual = with_choice(finish_reason=said)
    assert answers(engine_for(server), [request("a")])["a", 0].finish_reason == meant


@pytest.mark.parametrize("said", ["weird", "", None, 7, [], {"a": 1}])
def test_an_end_that_nobody_knows_is_told(server, said):
    server.script["prompt a"] = [with_choice(finish_reason=said)]
    row = answers(engine_for(server), [request("a"), request("b")])["a", 0]
    assert row.finish_reason == "error"
    assert f"finish_reason {said!r}; expected stop, length" in row.error


def test_half_a_surrogate_pair_in_an_error_message_can_be_journalled(server, tmp_path):
    server.script["prompt bad"] = [status(400, message="too long \ud83d")]
    with Generation("step", tmp_path / "run" / "step", engine_for(server)) as generation:
        rows = generation.complete([request("good"), request("bad")], "answers")
    assert "too long" in rows["bad", 0].error
    rows["bad", 0].error.encode()


def test_a_half_surrogate_in_a_prompt_can_be_sent(server):
    assert answers(engine_for(server), [request("a", text="half \ud83d")])["a", 0].finish_reason == "stop"


# ---------------------------------------------------------------------------------- bodies without end


def endless(handler, body):
    """Until the client has had enough."""
    handler.send(b'{"choices": "', 200, {"Content-Length": str(1 << 40)})
    while True:
        handler.wfile.write(b" " * 65536)


def packed(content, coding="gzip"):
    return lambda handler, body: handler.send(content, 200, {"Content-Encoding": coding})


BOMB = gzip.compress(b"[" + b" " * 200_000_000 + b"]", 1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(endless, "longer than 1,048,576 bytes", id="endless"),
        pytest.param(packed(BOMB), "longer than 1,048,576 bytes", id="gzip bomb"),
        pytest.param(
            packed(zlib.compress(b" " * 9_000_000), "deflate"), "longer than 1,048,576", id="deflate bomb"
        ),
        pytest.param(packed(b"xx", "br"), "compressed as 'br', which was not requested", id="brotli"),
        pytest.param(packed(b"xx"), "is not gzip, as its header says", id="no gzip at all"),
    ],
)
def test_more_than_was_asked_for_is_not_read(server, fault, said):
    server.script["prompt bad"] = [fault] * 9
    tracemalloc.start()
    rows = answers(engine_for(server, max_retries=1), [request("good"), request("bad")])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows["good", 0].finish_reason == "stop"
    assert rows["bad", 0].finish_reason == "error"
    assert said in rows["bad", 0].error
    assert peak < 20e6


def test_an_error_page_without_end_is_told_by_its_start(server):
    server.script["prompt bad"] = [
        lambda handler, body: handler.send(b"no " * 1_000_000, 400, {"Content-Type": "text/plain"})
    ]
    rows = answers(engine_for(server), [request("good"), request("bad")])
    assert "HTTP 400" in rows["bad", 0].error
    assert len(rows["bad", 0].error) < 500


def test_a_packed_answer_of_ordinary_size_is_read(server):
    server.usual = lambda handler, body: packed(gzip.compress(json.dumps(normal_answer(body)).encode()))(
        handler, body
    )
    assert answers(engine_for(server), [request("a")])["a", 0].text == "re: prompt a [0]"
    assert server.headers[0]["accept-encoding"] == "identity"


def test_a_body_may_hold_64_bytes_for_each_token_and_a_megabyte_at_least():
    assert (longest_body(512), longest_body(100_000)) == (1_048_576, 6_400_000)


# ---------------------------------------------------------------------------------- echoes of the key


def echo(code, shape):
    """The whole header, as a proxy's error page or a careless server sends it back."""

    def reply(handler, body):
        key = handler.headers["Authorization"]
        handler.send(shape(key).encode(), code, {"Content-Type": "text/html"})

    return reply


def as_choice(**values):
    return lambda key: json.dumps(
        {
            "choices": [
                {"message": {"content": "x"}, "finish_reason": "stop"}
                | {k: v(key) for k, v in values.items()}
            ]
        }
    )


ECHOES = {
    "page": echo(200, lambda key: f"<html>{key}"),
    "page, cut within the key": echo(200, lambda key: "<html>" + " " * 40 + "a" * 40 + key),
    "no choices": echo(200, lambda key: json.dumps({"error": key})),
    "finish reason": echo(200, as_choice(finish_reason=lambda key: key)),
    "answer": echo(200, as_choice(message=lambda key: {"content": f"You sent {key}."})),
    "choice's error": echo(200, as_choice(error=lambda key: key, finish_reason=lambda key: "error")),
    "part": echo(200, as_choice(message=lambda key: {"content": [{"type": key}]})),
    **{
        f"{code}": echo(code, lambda key: json.dumps({"error": {"message": f"bad {key}"}}))
        for code in (400, 503)
    },
    "400, cut within the key": echo(400, lambda key: "x" * 290 + key),
    "400 at the end": echo(400, lambda key: "x" * 900 + key),
}


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in ECHOES.items()])
def test_a_servers_echo_of_the_key_reaches_no_row_and_no_journal(server, fault, tmp_path, monkeypatch, capfd):
    key = "tok-0123456789abcdefghijklmnopqrstuvwxyz"
    monkeypatch.setenv("SELFREWARD_API_KEY", key)
    server.script["prompt bad"] = [fault] * 9
    with Generation("step", tmp_path / "run" / "step", engine_for(server, max_retries=1)) as generation:
        rows = generation.complete([request("good"), request("bad")], "answers")
        notes = generation.notes().stored()
    journal = (tmp_path / "run" / "step" / "journal.jsonl").read_text()
    shown = capfd.readouterr()
    for text in (journal, repr(rows), json.dumps(notes), shown.out, shown.err):
        assert key[:12] not in text
    assert server.headers[0]["authorization"] == f"Bearer {key}"


fault_names = st.sampled_from(sorted(PASSING_FAULTS))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 3), st.lists(fault_names, max_size=4)), min_size=1, max_size=8),
    st.data(),
)
def test_whatever_fails_in_between_each_sample_comes_exactly_once(server, plan, data):
    server.script = {
        f"prompt r{k}": [PASSING_FAULTS[name] for name in names] for k, (_, names) in enumerate(plan)
    }
    server.calls.clear()
    requests = [request(f"r{place}", n=n) for place, (n, _) in enumerate(plan)]
    wanted = {(r.id, sample) for r in requests for sample in range(r.n)}
    done = data.draw(st.frozensets(st.sampled_from(sorted(wanted))))
    rows = answers(engine_for(server, max_in_flight=3, max_retries=6), requests, done)
    assert rows.keys() == wanted - done
    assert all(row.text.startswith(f"re: prompt {request_id} [") for (request_id, _), row in rows.items())


# ---------------------------------------------------------------------------------- waiting


def test_backoff_doubles_from_half_a_second_to_thirty_with_up_to_half_taken_off():
    """Full waits are 0.5, 1, 2, …, 16, then 30; the drawn wait lies between half of that and all of it."""
    full = [0.5, 1, 2, 4, 8, 16, 30, 30]
    delays = [Backoff(seed=1).delay_s("r/0", retry) for retry in range(1, 9)]
    for delay, most in zip(delays, full, strict=True):
        assert most / 2 <= delay <= most
    assert delays == [Backoff(seed=1).delay_s("r/0", retry) for retry in range(1, 9)]
    assert delays != [Backoff(seed=1).delay_s("r/1", retry) for retry in range(1, 9)]
    assert Backoff().delay_s("r/0", 10_000) <= 30


def test_without_retry_after_the_waits_are_those_of_the_schedule(server):
    server.script["prompt a"] = [status(429), reset, status(500), raw(b"")]
    clock = FakeClock()
    answers(engine_for(server, clock=clock), [request("a")])
    assert clock.slept == [Backoff().delay_s("a/0", retry) for retry in (1, 2, 3, 4)]


def test_the_server_s_own_delay_is_kept_in_seconds_and_as_a_date(server):
    """At 1 January 1970 00:00:20 (plus 7 s slept), a date at 00:01:00 is 33 s away; a date in the past is no delay."""
    server.script["prompt a"] = [
        status(429, {"Retry-After": "7"}),
        status(503, {"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}),
        status(503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
        status(503, {"Retry-After": "soon"}),
        status(429, {"Retry-After": "60", "retry-after-ms": "59500"}),
    ]
    clock = FakeClock(wall=20.0)
    answers(engine_for(server, clock=clock), [request("a")])
    assert clock.slept == [7.0, 33.0, Backoff().delay_s("a/0", 3), Backoff().delay_s("a/0", 4), 59.5]


@pytest.mark.parametrize("text", ["nan", "inf", "", "-", "Thu, 99 Foo"])
def test_a_retry_after_that_means_nothing_is_none(text):
    assert server_delay_s({"retry-after": text}, 0.0) is None


def test_a_server_that_wants_hours_is_not_waited_for(server):
    server.script["prompt b"] = [status(429, {"Retry-After": "7200"})]
    clock = FakeClock()
    with pytest.raises(EngineError, match="asks to wait 7,200 s; finished answers are kept"):
        answers(engine_for(server, clock=clock, max_in_flight=1), [request("a"), request("b")])
    assert clock.slept == []


# ---------------------------------------------------------------------------------- several servers


def test_two_servers_share_the_load(server):
    with FakeServer() as other:
        server.usual = other.usual = slow(0.01)
        answers(engine_for(server, other, max_in_flight=6), [request(f"r{place}") for place in range(60)])
        assert min(len(server.bodies), len(other.bodies)) >= 20


def test_a_server_that_is_busy_gets_no_more_than_what_it_has_in_flight(server):
    """Four in flight, two on each; one server answers nothing until the other was asked for 20. Until then it keeps its two
    (at most: each goes to the one with less in flight), and everything else goes to the other."""
    with FakeServer() as busy:
        enough = threading.Event()

        def wait(handler, body):
            enough.wait(30)
            handler.send_json(normal_answer(body))

        def answer(handler, body):
            if len(server.bodies) >= 20:
                enough.set()
            handler.send_json(normal_answer(body))

        busy.usual, server.usual = wait, answer
        stream = engine_for(server, busy, max_in_flight=4).generate([request(f"r{i}") for i in range(40)])
        first = [row.request_id for _, group in zip(range(15), stream, strict=False) for row in group]
        assert len(busy.bodies) <= 2
        rest = [row.request_id for group in stream for row in group]
    assert sorted(first + rest) == sorted(f"r{i}" for i in range(40))


def test_a_dead_server_beside_a_living_one_costs_retries_but_no_answers(server):
    engine = OpenAiEngine(
        f"http://127.0.0.1:{unused_port()}/v1,{server.url}#tiny", EngineOptions(), FakeClock()
    )
    rows = answers(engine, [request(f"r{place}") for place in range(20)])
    assert {row.finish_reason for row in rows.values()} == {"stop"}
    assert len(rows) == 20


# ---------------------------------------------------------------------------------- what is sent


def test_the_body_carries_sampling_seed_prefix_and_wanted_log_probabilities(server):
    entry = {
        "token": " 4",
        "logprob": -0.25,
        "top_logprobs": [{"token": " 5", "logprob": -1.5}, {"token": "x", "logprob": -9}],
    }
    server.usual = changed(lambda answer: answer["choices"][0].update(logprobs={"content": [entry]}))
    engine = engine_for(server, extra={"prefix": True, "body": {"repetition_penalty": 1.1}})
    sampling = Sampling(temperature=0.5, top_p=0.8, max_tokens=7, stop=("\n",))
    asked = Request(
        "a", (Message("user", "Judge."),), sampling, seed=3, prefix="Score:", choices=(" 4", " 5", " 6")
    )
    row = answers(engine, [asked])["a", 0]
    assert row.choice_logprobs == {" 4": -0.25, " 5": -1.5}
    assert row.seed == sent_seed(Ask(asked, (0,)))
    assert server.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Judge."}, {"role": "assistant", "content": "Score:"}],
            "temperature": 0.5,
            "top_p": 0.8,
            "max_tokens": 7,
            "stop": ["\n"],
            "seed": row.seed,
            "add_generation_prompt": False,
            "continue_final_message": True,
            "logprobs": True,
            "top_logprobs": 20,
            "repetition_penalty": 1.1,
        }
    ]
    assert 0 <= row.seed < 2**31


def test_log_probabilities_that_do_not_come_are_an_error_row(server):
    row = answers(engine_for(server), [request("a", choices=(" 4",))])["a", 0]
    assert (row.finish_reason, row.error) == ("error", "the server gave no log-probabilities")


def test_capabilities_follow_the_options(server):
    assert not engine_for(server).capabilities.prefix
    assert not engine_for(server).capabilities.seeds
    assert engine_for(server, extra={"openai": {"prefix": True}}).capabilities.prefix
    assert not engine_for(server, extra={"logprobs": False}).capabilities.logprobs
    mixed = {"tensor_parallel_size": 2, "max_cost": 5, "openai": {"price_per_million_out": 1}}
    assert engine_for(server, extra=mixed).usage.max_cost == 5


# ---------------------------------------------------------------------------------- keys and wrong use


def test_a_refused_key_names_the_variable_and_not_the_key(server, monkeypatch):
    monkeypatch.setenv("SELFREWARD_API_KEY", "sk-secret-123")
    server.usual = status(401, message="bad key sk-secret-123")
    engine = engine_for(server)
    with pytest.raises(
        EngineError, match=r"bad key \*\*\*; it was sent the key in SELFREWARD_API_KEY"
    ) as caught:
        answers(engine, [request("a")])
    assert server.headers[0]["authorization"] == "Bearer sk-secret-123"
    for shown in (str(caught.value), repr(engine), repr(vars(engine))):
        assert "secret" not in shown


def test_the_key_of_openai_goes_to_no_other_server_and_that_is_said(server, monkeypatch):
    server.usual = status(403)
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    with pytest.raises(
        EngineError,
        match=r"no key; put a valid key .* SELFREWARD_API_KEY \(OPENAI_API_KEY goes to https://api.openai.com only",
    ):
        answers(engine_for(server), [request("a")])
    assert server.headers[-1]["authorization"] == "Bearer none"
    monkeypatch.setenv("SELFREWARD_API_KEY", "two\n")
    with pytest.raises(EngineError):
        answers(engine_for(server), [request("a")])
    assert server.headers[-1]["authorization"] == "Bearer two"


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://API.openai.com:443/v1", "OPENAI_API_KEY"),
        ("http://api.openai.com/v1", "SELFREWARD_API_KEY"),
        ("https://api.openai.com.evil.example/v1", "SELFREWARD_API_KEY"),
        ("https://evil.example/api.openai.com/v1", "SELFREWARD_API_KEY"),
        ("https://openai.com/v1", "SELFREWARD_API_KEY"),
        ("http://127.0.0.1:8000/v1", "SELFREWARD_API_KEY"),
    ],
)
def test_each_server_gets_the_key_that_is_for_it(url, variable, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    monkeypatch.setenv("SELFREWARD_API_KEY", "two")
    assert key_for(url).variable == variable
    monkeypatch.delenv("OPENAI_API_KEY")
    assert key_for(url).variable == "SELFREWARD_API_KEY"


@pytest.mark.parametrize(
    "urls",
    [
        "http://gpu.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "https://a.example/v1,http://10.0.0.7:8000/v1",
    ],
)
def test_another_machine_is_asked_without_encryption_only_with_the_users_word(urls, monkeypatch):
    with pytest.raises(
        UsageError, match=r"without encryption; use https, or allow it with `selfreward run … --trust`"
    ):
        open_engine(f"openai:{urls}#m")
    monkeypatch.setenv("SELFREWARD_TRUST", "1")
    open_engine(f"openai:{urls}#m").close()


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(server, monkeypatch):
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused_port()}")
    assert answers(engine_for(server), [request("a")])["a", 0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("target", "extra", "said"),
    [
        pytest.param("http://host/v1", {}, "expected openai:BASE_URL#MODEL", id="no model"),
        pytest.param("localhost:8000#m", {}, "expected openai:BASE_URL#MODEL", id="no scheme"),
        pytest.param("http://me:pw@host/v1#m", {}, "name or password in the address", id="password"),
        pytest.param("https://[host/v1#m", {}, "expected openai:BASE_URL#MODEL", id="half an IPv6 address"),
        pytest.param("https://host:99999/v1#m", {}, "expected openai:BASE_URL#MODEL", id="no such port"),
        pytest.param(
            "https://host/v1#m", {"price_per_million_in": float("inf")}, "finite", id="endless price"
        ),
        pytest.param("http://host/v1#m", {"prefx": True}, "engine.extra.prefx", id="unknown option"),
        pytest.param("http://host/v1#m", {"max_cost": 1}, "max_cost needs", id="limit without prices"),
    ],
)
def test_wrong_use_is_said_before_anything_is_sent(target, extra, said):
    with pytest.raises(UsageError, match=said) as caught:
        open_engine(f"openai:{target}", EngineOptions(extra=extra))
    assert "pw" not in str(caught.value)


def test_a_key_with_a_line_break_inside_is_refused_unseen(monkeypatch):
    monkeypatch.setenv("SELFREWARD_API_KEY", "sk-a\nsk-b")
    with pytest.raises(UsageError, match="SELFREWARD_API_KEY: holds characters") as caught:
        open_engine("openai:http://host/v1#m")
    assert "sk-" not in str(caught.value)


# ---------------------------------------------------------------------------------- counting and money


def test_tokens_are_counted_and_shared_out_where_the_server_has_only_a_total(server):
    """3 requests: 10 prompt and 5 new tokens each; the third has 3 equally long choices of 15 tokens together."""
    engine = engine_for(server)
    rows = answers(engine, [request("a"), request("b"), request("c", n=3)])
    assert (engine.usage.prompt_tokens, engine.usage.completion_tokens, engine.usage.n_sent) == (30, 25, 3)
    assert [rows["c", sample].n_tokens for sample in range(3)] == [5, 5, 5]
    assert engine.usage.n_estimated == 3


def test_a_cost_limit_stops_before_the_request_that_could_pass_it(server):
    """A request reserves (8 + 16 bytes) / 2 = 12 prompt tokens and 20 new ones; at prices of 1,000,000 per million

    that is 32, of which the answer costs 10 + 5 = 15. With 80 to spend: 2 fit at once (64), then 30 are spent and
    one more fits (62), 45 are spent and one more fits (77), 60 are spent and 92 would be too much: 4 answers.
    """
    prices = {"price_per_million_in": 1e6, "price_per_million_out": 1e6, "max_cost": 80}
    engine = engine_for(server, extra=prices)
    rows = []
    with pytest.raises(
        CostLimitError, match=r"next request can cost 32, 60 of max_cost 80 are spent; finished"
    ):
        read_until_error(engine.generate([request(str(place)) for place in range(10)]), rows)
    assert len(rows) == len(server.bodies) == 4
    assert engine.usage.spent == 60
    assert engine.usage.reserved == 0


def test_what_earlier_stages_spent_counts(server):
    prices = {"price_per_million_in": 1e6, "price_per_million_out": 1e6, "max_cost": 80, "spent": 50}
    with pytest.raises(CostLimitError, match="50 of max_cost 80"):
        answers(engine_for(server, extra=prices), [request("0")])
    assert server.bodies == []


def test_an_answer_lost_on_the_way_is_charged_at_its_worst_case_and_a_refusal_is_free(server):
    """32 for the answer that was reset, nothing for the 503, 15 for the one that came."""
    prices = {"price_per_million_in": 1e6, "price_per_million_out": 1e6, "max_cost": 1000}
    server.script["prompt 0"] = [reset_mid_answer, status(503)]
    engine = engine_for(server, extra=prices)
    answers(engine, [request("0")])
    assert (engine.usage.spent, engine.usage.n_uncertain) == (47, 1)


def test_a_retry_that_could_pass_the_limit_is_not_sent(server):
    prices = {"price_per_million_in": 1e6, "price_per_million_out": 1e6, "max_cost": 40}
    server.script["prompt 0"] = [reset_mid_answer]
    with pytest.raises(CostLimitError):
        answers(engine_for(server, extra=prices), [request("0")])
    assert len(server.bodies) == 1


# ---------------------------------------------------------------------------------- flow


def test_a_slow_reader_holds_the_engine_back(server):
    """4 in flight and 4 unread at most, beside the one that was read: 9 of 100 requests are sent."""
    stream = engine_for(server, max_in_flight=4).generate([request(f"r{place}") for place in range(100)])
    next(stream)
    time.sleep(0.3)
    assert len(server.bodies) <= 9
    stream.close()


def test_a_group_comes_out_while_others_are_still_in_flight(server):
    server.script["prompt slow"] = [slow(0.5)]
    stream = engine_for(server).generate([request("slow"), request("fast")])
    started = time.monotonic()
    assert next(stream)[0].request_id == "fast"
    assert time.monotonic() - started < 0.4
    assert next(stream)[0].request_id == "slow"


def test_closing_early_stops_at_once_and_leaves_no_thread(server):
    server.usual = slow(0.2)
    stream = engine_for(server, max_in_flight=2).generate([request(f"r{place}") for place in range(50)])
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "openai-engine"]
    time.sleep(0.3)
    assert len(server.bodies) <= 6


def test_a_judge_without_log_probabilities_is_named_as_such_and_not_as_one_that_cannot_judge(
    server, tmp_path, capfd
):
    from scripted_run import config_for, write_script

    from selfreward.errors import EmptyResultError
    from selfreward.steps.pipeline import run_pipeline

    judging = {"judge": f"openai:{server.url}#tiny", "mode": "expected"}
    script = write_script(tmp_path / "script.yaml")
    config = config_for(script, judging=judging, engine={"extra": {"prefix": True}})
    with pytest.raises(
        EmptyResultError,
        match=r"answers failed, the first: the server gave no log-probabilities; train the judge",
    ):
        run_pipeline(config, tmp_path / "run", until="iter1/scores")
    said = [line for line in capfd.readouterr().err.splitlines() if "answers failed" in line]
    assert len(said) == 1
    assert said[0].startswith("iter1/judgements: ")
    assert said[0].endswith("the server gave no log-probabilities")
