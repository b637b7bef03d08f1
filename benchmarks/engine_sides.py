"""The sides that `benchmarks/engines.py` compares: our engines through the harness, bare vLLM, a `generate` loop.

Each answers a list of `selfreward` requests and says how many new tokens it wrote in how many seconds. Starting and
loading are not in those, and every side is warm when it is handed out. While one is measured the others are stopped
(SIGSTOP), since idle vLLM processes still poll. A side that writes another number of tokens than was asked for ends
the program: the sides must do the same work, for which they all run a copy of the model that never ends by itself.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
NEVER_WRITTEN = "<gh_stars>"
"""A special token from SmolLM2's code corpus, at which the model copy ends: that is, never."""
CONTEXT = 2048
WARM_UP = 16


@dataclass(frozen=True)
class Timed:
    """One measurement of one side; `keeping_s` is the part spent in the journal."""

    n_tokens: int
    seconds: float
    keeping_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.n_tokens / self.seconds


@dataclass(frozen=True)
class Side:
    """Something that answers requests; `group` is the process group that computes, where that is not this process."""

    run: Callable[[list[Any]], Timed]
    group: int | None = None

    def measure(self, requests: list[Any], others: Sequence[Side] = ()) -> Timed:
        """With the others stopped."""
        stopped = {side.group for side in others} - {self.group, None}
        for group in stopped:
            os.killpg(group, signal.SIGSTOP)
        try:
            timed = self.run(requests)
        finally:
            for group in stopped:
                os.killpg(group, signal.SIGCONT)
        asked = sum(one.n * one.sampling.max_tokens for one in requests)
        if timed.n_tokens != asked:
            sys.exit(
                f"{asked} tokens were asked for, {timed.n_tokens} came: the sides do not do the same work"
            )
        return timed


def take_turns(
    a: Side, b: Side, repeats: int, work: Callable[[], tuple[Any, Any]]
) -> Iterator[tuple[Timed, Timed]]:
    """Pairs of measurements: A B, then B A, …; `work` gives the requests of both."""
    for round_ in range(repeats):
        for_a, for_b = work()
        if round_ % 2 == 0:
            first = a.measure(for_a, [b])
            yield first, b.measure(for_b, [a])
        else:
            first = b.measure(for_b, [a])
            yield a.measure(for_a, [b]), first


def harness(engine: Any, chunk: int = 0) -> Side:
    """Through `Generation`, journal included. With `chunk`: so many requests at a time, the next when all are done."""
    from selfreward.steps.generation import Generation

    class Watched(Generation):
        keeping_s = 0.0

        def _keep(self, group: Any, wanted: Any) -> int:
            started = time.perf_counter()
            n_new = super()._keep(group, wanted)
            self.keeping_s += time.perf_counter() - started
            return n_new

    def run(requests: list[Any]) -> Timed:
        step = chunk or len(requests)
        chunks = [requests[i : i + step] for i in range(0, len(requests), step)]
        with tempfile.TemporaryDirectory() as work, Watched("bench", Path(work) / "w", engine) as generation:
            started = time.perf_counter()
            rows = [row for some in chunks for row in generation.complete(some, "answers").values()]
            seconds = time.perf_counter() - started
        return Timed(sum(row.n_tokens for row in rows), seconds, generation.keeping_s)

    return Side(run, getattr(engine, "worker_pid", None))


@contextlib.contextmanager
def vllm_engine(folder: Path, **extra: Any) -> Iterator[Any]:
    """`vllm:` started and warm."""
    from selfreward.engines.base import EngineOptions
    from selfreward.engines.vllm.engine import VllmEngine

    options = EngineOptions(dtype="float32", max_context=CONTEXT, extra={"enforce_eager": True, **extra})
    with VllmEngine(str(folder), options) as engine:
        harness(engine).measure(warm_up())
        yield engine


@contextlib.contextmanager
def hf_engine(folder: Path) -> Iterator[Any]:
    """`hf:` loaded and warm."""
    from selfreward.engines.base import EngineOptions
    from selfreward.engines.hf.engine import HfEngine

    with HfEngine(str(folder), EngineOptions(dtype="float32")) as engine:
        harness(engine).measure(warm_up())
        yield engine


@contextlib.contextmanager
def bare_vllm(folder: Path) -> Iterator[Side]:
    """`vllm.LLM` with the options of `vllm:`, warm, in a process group of its own so that it can be stopped."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve_bare, args=(theirs, str(folder)))
    process.start()
    theirs.close()
    assert process.pid is not None

    def run(requests: list[Any]) -> Timed:
        pipe.send([(one.messages[0].content, one.sampling.max_tokens) for one in requests])
        return Timed(*pipe.recv())

    try:
        pipe.recv()
        side = Side(run, process.pid)
        side.measure(warm_up())
        yield side
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()


def serve_bare(pipe: Any, folder: str) -> None:
    """The process behind `bare_vllm`; seconds are taken here, around the one call."""
    os.setsid()
    from vllm import LLM, SamplingParams

    llm = LLM(
        folder, dtype="float32", max_model_len=CONTEXT, enable_prefix_caching=True, enforce_eager=True, seed=0
    )
    pipe.send("ready")
    while True:
        asked = pipe.recv()
        chats = [[{"role": "user", "content": text}] for text, _ in asked]
        sampling = [SamplingParams(temperature=0.0, max_tokens=n_tokens) for _, n_tokens in asked]
        started = time.perf_counter()
        answers = llm.chat(chats, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        pipe.send((sum(len(answer.outputs[0].token_ids) for answer in answers), seconds))


def generate_loop(folder: Path) -> Side:
    """One `generate` call per prompt, as most re-implementations of the recipe write it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def run(requests: list[Any]) -> Timed:
        n_tokens = 0
        started = time.perf_counter()
        for one in requests:
            chat = [{"role": "user", "content": one.messages[0].content}]
            ids = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            with torch.no_grad():
                output = model.generate(**ids, do_sample=False, max_new_tokens=one.sampling.max_tokens)
            n_tokens += output.shape[1] - ids["input_ids"].shape[1]
        return Timed(n_tokens, time.perf_counter() - started)

    side = Side(run)
    side.measure(warm_up()[:1])
    return side


def endless(into: Path) -> Path:
    """The model with another end token; its weights are linked, not copied."""
    from tokenizers import Tokenizer

    from selfreward.models.known import fetch_model

    folder = fetch_model(MODEL)
    id = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(NEVER_WRITTEN)
    changed = {
        "config.json": {"eos_token_id": id},
        "generation_config.json": {"eos_token_id": id},
        "tokenizer_config.json": {"eos_token": NEVER_WRITTEN},
    }
    for file in folder.iterdir():
        if file.name in changed:
            (into / file.name).write_text(json.dumps(json.loads(file.read_text()) | changed[file.name]))
        else:
            (into / file.name).symlink_to(file)
    return into


def request(name: str, text: str, max_tokens: int, n: int = 1) -> Any:
    from selfreward.engines.base import Request, Sampling
    from selfreward.tables import Message

    return Request(name, (Message("user", text),), Sampling(0.0, 1.0, max_tokens), n=n)


def warm_up() -> list[Any]:
    return [request(f"w{i}", f"Say the number {i}.", 8) for i in range(WARM_UP)]
