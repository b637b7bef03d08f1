"""What the tests with a real vLLM share: the model, requests to compare engines with, and a look at process groups."""

from __future__ import annotations

import os

import psutil
from tried import seen

from selfreward.engines.base import Request, Sampling
from selfreward.tables import Message

MODEL = "smollm2-135m-instruct"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

EAGER = {"enforce_eager": True}
"""Spares the compilation, which takes minutes where no cache of it is at hand."""
PLACES = ("the Alps", "Lisbon", "a harbour", "the desert", "Kyoto", "an island", "the Nile", "a village",
          "Iceland", "the moon", "Bergen", "a forest")  # fmt: skip
TOLERATED = 0.1
"""Share of greedy rows that may differ from `hf:`, both in float32; the sums are taken in another order."""
BLOCK = 128
"""Tokens of a block of vLLM's cache on a CPU; only whole blocks are shared."""


def request(name, text, sampling=Sampling(0.0, 1.0, 24), n=1, **more):  # noqa: B008  frozen
    return Request(name, (Message("user", text),), sampling, n=n, **more)


def rows(engine, requests):
    return {(one.request_id, one.sample): one for group in engine.generate(requests) for one in group}


def greedy_requests(special="<|im_end|>"):
    """36: plain chats, an assistant prefix, stop strings with text that spells a special token."""
    stop = Sampling(0.0, 1.0, 24, stop=(",", " and"))
    for i, place in enumerate(PLACES):
        yield request(f"p{i}", f"Write two sentences about {place}.")
        yield request(f"x{i}", f"What is {place} known for?", prefix="It is known for")
        yield request(f"s{i}", f"{special}List what one packs for {place}.", stop)


def stories(n_requests, n=1):
    """Sampled answers, each longer than the one before."""
    return [
        request(f"k{i}", f"Tell a story of {PLACES[i % 12]}.", Sampling(0.8, 0.9, 16 + 4 * i), n=n)
        for i in range(n_requests)
    ]


def score_requests():
    """The log-probabilities of 0 to 5 behind `Score: `."""
    return [
        request(f"c{i}", f"How good is this answer, from 0 to 5? {place}.", Sampling(0.0, 1.0, 1), prefix="Score: ",
                choices=tuple(str(score) for score in range(6)))
        for i, place in enumerate(PLACES[:6])
    ]  # fmt: skip


def compare_greedy(engine, hf, requests):
    """Greedy decoding gives the rows of `hf:`, but for a counted share. Returns the rows."""
    ours, theirs = rows(engine, requests), rows(hf, requests)
    assert ours.keys() == theirs.keys()
    differing = [key for key in ours if _looks(ours[key]) != _looks(theirs[key])]
    seen(f"{engine.name}: {len(differing)} of {len(ours)} greedy rows differ from hf: {differing}")
    assert len(differing) <= TOLERATED * len(ours)
    assert [ours[key].n_prompt_tokens for key in ours] == [theirs[key].n_prompt_tokens for key in ours]
    return ours


def group_members(group):
    """Name -> id of the live processes of a process group."""
    members = {}
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members[process.name()] = process.pid
        except (ProcessLookupError, psutil.Error):
            continue
    return members


def _looks(row):
    return row.text, row.finish_reason, row.n_tokens
