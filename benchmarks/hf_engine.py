"""How fast `hf:` writes, against a loop of one transformers `generate` call per prompt.

    python benchmarks/hf_engine.py [--model NAME_OR_PATH] [--dtype float32] [--threads 2] [--prompts 16]
                                   [--tokens 40] [--json]

One run, same prompts, dtype, threads, sampling and limit of new tokens; loading is not counted. Prints new
tokens per second of both and their ratio, then what stock linear layers (`pack_weights: false`) give, and what
samples that share a prefill gain over separate requests. About half a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.hf.dtypes import DTYPES
from selfreward.engines.hf.engine import HfEngine
from selfreward.models.known import fetch_model
from selfreward.tables import Message

TOPICS = ("tides", "bread", "bicycles", "glaciers", "chess", "volcanoes", "bees", "bridges", "tea", "comets", "maps",
          "whales", "paper", "clocks", "salt", "forests")  # fmt: skip
JUDGED = "Review the answer below and say in one sentence how well it answers the question. " * 6


def questions(n):
    return [
        f"Explain in a few sentences what a beginner should know about {TOPICS[i % 16]} ({i})."
        for i in range(n)
    ]


def requests(texts, sampling, n=1):
    return [Request(f"q{i}", (Message("user", text),), sampling, n=n) for i, text in enumerate(texts)]


def engine_rate(engine, batch):
    """New tokens per second, and seconds."""
    started = time.perf_counter()
    n_tokens = sum(one.n_tokens for group in engine.generate(batch) for one in group)
    seconds = time.perf_counter() - started
    return n_tokens / seconds, seconds


def loop_rate(folder, dtype, texts, sampling):
    """The same in the way most re-implementations write it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"  # as `hf:` chooses
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    n_tokens = 0
    started = time.perf_counter()
    for text in texts:
        chat = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(device)
        with torch.no_grad():
            output = model.generate(**ids, **how, max_new_tokens=sampling.max_tokens)
        n_tokens += output.shape[1] - ids["input_ids"].shape[1]
    return n_tokens / (time.perf_counter() - started)


def measure(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=options.tokens)
    texts = questions(options.prompts)
    figures = {
        "loop_tokens_per_s": loop_rate(fetch_model(options.model), DTYPES[options.dtype], texts, sampling)
    }
    engine_options = EngineOptions(batch_size=options.batch_size, dtype=options.dtype)
    with HfEngine(options.model, engine_options) as engine:
        figures["hf_tokens_per_s"], _ = engine_rate(engine, requests(texts, sampling))
        short = Sampling(0.7, 0.9, max_tokens=8)
        judged = [JUDGED + text for text in texts[:5]]
        _, together = engine_rate(engine, requests(judged, short, n=3))
        copies = [f"Copy {i}. {text}" for text in judged for i in range(3)]  # nothing in common to share
        _, apart = engine_rate(engine, requests(copies, short))
    stock = EngineOptions(batch_size=options.batch_size, dtype=options.dtype, extra={"pack_weights": False})
    with HfEngine(options.model, stock) as engine:
        figures["hf_stock_linears_tokens_per_s"], _ = engine_rate(engine, requests(texts, sampling))
    figures["hf_over_loop"] = figures["hf_tokens_per_s"] / figures["loop_tokens_per_s"]
    figures["three_samples_over_three_requests"] = apart / together
    return {name: round(value, 2) for name, value in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps({**vars(options), **figures}))
        return
    for name, value in figures.items():
        print(f"{name:<36} {value:>8.2f}")


if __name__ == "__main__":
    main()
