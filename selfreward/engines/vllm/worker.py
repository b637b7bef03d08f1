"""The process that holds vLLM: `python -m selfreward.engines.vllm.worker FD`, started by `vllm:` and `ray:` only.

It reads requests (token ids) from the socket and answers each when its samples are finished, in any order; all of them
are inside vLLM at once, so that its batch never runs empty. Messages (see `frames`):

    ->  start {model, options, seed, dtype, max_context} · request {key, ids, samples: [seed], temperature, top_p,
        max_tokens, stop, stop_ids, choice_ids} · abort {keys} · metrics · close
    <-  ready {context, seeded} · result {key, samples: [{ids, finish, logprobs}]} · refused {key, error}
        beat {counters} every second · fatal {kind, error} before ready · dead {error} after it

Why each sample is its own vLLM request instead of `n`: vLLM splits `n` into the same separate requests, which share
their prefill through the prefix cache either way, but gives them the seeds s, s + 1, …: rows with adjacent seeds would
be equal.

Not promised: equal rows on a restart. vLLM's floating-point sums depend on what else is in the batch. On a CPU, per-row
seeds are not even sent (vLLM crashes on them when a prompt is prefilled in two chunks); only the engine's seed is set.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import fields
from typing import Any

from selfreward.engines.vllm.frames import Channel, Message
from selfreward.engines.vllm.process import kill_members
from selfreward.text import one_line

BEAT_S = 1.0
CPU_CACHE_GIB = "2"
"""Memory for keys and values on a CPU, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""

OURS = {
    "model": "the model string",
    "tokenizer": "the model string",
    "dtype": "engine.dtype",
    "max_model_len": "engine.max_context",
    "seed": "the run's seed",
    "trust_remote_code": "nothing: code of a model folder is never run",
    "skip_tokenizer_init": "nothing: stop strings need the tokenizer",
    "disable_log_stats": "nothing: progress is read from the statistics",
}
"""vLLM's options that users cannot set in `engine.extra`, and the setting that determines each."""

COUNTERS = {
    "vllm:prompt_tokens": "prompt_tokens",
    "vllm:generation_tokens": "generation_tokens",
    "vllm:prefix_cache_queries": "prefix_cache_queries",
    "vllm:prefix_cache_hits": "prefix_cache_hits",
    "vllm:num_preemptions": "preemptions",
}
"""vLLM's counters -> our names. All but the last are in tokens."""


class OptionError(ValueError):
    """An option that vLLM does not have, or that users cannot set."""


def main() -> None:
    """Serve until `close`, or until the other end is gone."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # vLLM's child processes would keep it open after our death
    channel = Channel(end)
    _guard = guard_group()
    start = channel.receive()
    if start is not None:
        asyncio.run(_serve(channel, start))
    sys.stderr.flush()
    os._exit(0)  # a normal exit would wait for vLLM's threads; killing the group ends everything


def guard_group() -> subprocess.Popen[bytes] | None:
    """Start a process that kills our group when we die; the caller must keep it, since it acts when its pipe closes."""
    # Ray kills the children of an actor that ends, but not their children, which are vLLM's processes.
    if os.getpgrp() != os.getpid():
        return None  # not our own group
    return subprocess.Popen(["sh", "-c", "read -r _; kill -KILL 0"], stdin=subprocess.PIPE)


async def _serve(channel: Channel, start: Message) -> None:
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    threading.Thread(target=_read, args=(channel, loop, inbox), daemon=True).start()
    try:
        engine = _open(start)
    except Exception as error:  # boundary: any failure to start is reported, not only logged
        kind = "option" if isinstance(error, OptionError) else "start"
        channel.send({"type": "fatal", "kind": kind, "error": _in_words(error)})
        return
    from vllm.platforms import current_platform

    seeded = not current_platform.is_cpu()
    channel.send({"type": "ready", "context": engine.model_config.max_model_len, "seeded": seeded})
    threading.Thread(target=_beat, args=(channel,), daemon=True).start()
    await _Service(engine, channel, seeded).run(inbox)


def _read(channel: Channel, loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Message]) -> None:
    # In a thread, so that the other end's death is noticed while vLLM loads, which blocks the event loop.
    while (message := channel.receive()) is not None:
        loop.call_soon_threadsafe(inbox.put_nowait, message)
    if os.getpgrp() == os.getpid():
        kill_members(os.getpgrp())
    os._exit(1)


def _beat(channel: Channel) -> None:
    while True:
        channel.send({"type": "beat", "counters": counters()})
        time.sleep(BEAT_S)


def counters() -> dict[str, int]:
    """vLLM's counters since the start, summed over its engines."""
    from vllm.v1.metrics.reader import Counter, get_metrics_snapshot

    totals = dict.fromkeys(COUNTERS.values(), 0)
    for metric in get_metrics_snapshot():
        if isinstance(metric, Counter) and metric.name in COUNTERS:
            totals[COUNTERS[metric.name]] += metric.value
    return totals


class _Service:
    """Requests in, results out."""

    def __init__(self, engine: Any, channel: Channel, seeded: bool) -> None:
        self._engine = engine
        self._channel = channel
        self._seeded = seeded
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._dead = asyncio.Event()

    async def run(self, inbox: asyncio.Queue[Message]) -> None:
        """Until `close`, or until vLLM is dead."""
        dead = asyncio.ensure_future(self._dead.wait())
        while True:
            coming = asyncio.ensure_future(inbox.get())
            await asyncio.wait([coming, dead], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done() or not self._handle(coming.result()):
                return

    def _handle(self, message: Message) -> bool:
        """Whether to continue."""
        if message["type"] == "request":
            key = message["key"]
            task = self._tasks[key] = asyncio.create_task(self._answer(key, message))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        elif message["type"] == "abort":
            for key in message["keys"]:
                if key in self._tasks:
                    self._tasks[key].cancel()
        elif message["type"] == "metrics":
            self._channel.send({"type": "beat", "counters": counters(), "asked": True})
        return bool(message["type"] != "close")

    async def _answer(self, key: int, request: Message) -> None:
        try:
            samples = [
                self._sample(f"{key}-{place}", request, seed) for place, seed in enumerate(request["samples"])
            ]
            self._channel.send({"type": "result", "key": key, "samples": await asyncio.gather(*samples)})
        except Exception as error:  # boundary: vLLM's errors have no common ancestor
            if self._engine.errored:
                self._channel.send({"type": "dead", "error": _in_words(error)})
                self._dead.set()
            else:
                self._channel.send({"type": "refused", "key": key, "error": _in_words(error)})

    async def _sample(self, name: str, request: Message, seed: int) -> dict[str, Any]:
        from vllm import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=request["ids"])
        final: Any = None
        async for output in self._engine.generate(prompt, self._params(request, seed), name):
            final = output
        answer = final.outputs[0]
        logprobs = None
        if request["choice_ids"]:
            logprobs = [answer.logprobs[0][id].logprob for id in request["choice_ids"]]
        return {"ids": list(answer.token_ids), "finish": answer.finish_reason, "logprobs": logprobs}

    def _params(self, request: Message, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=request["temperature"],
            top_p=request["top_p"],
            max_tokens=request["max_tokens"],
            stop=request["stop"],
            stop_token_ids=request["stop_ids"],
            logprob_token_ids=list(dict.fromkeys(request["choice_ids"])) or None,
            seed=seed if self._seeded and request["temperature"] > 0 else None,
            detokenize=bool(request["stop"]),  # the other end makes texts from the ids
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


# -------------------------------------------------------------------------------------- opening


def _open(start: Message) -> Any:
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # no usage reports unless the user enables them
    if current_platform.is_cpu() and "kv_cache_memory_bytes" not in start["options"]:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GIB)
    # As `vllm.LLM` does: batch sizes for throughput (on a large GPU 1,024 sequences instead of 128).
    return AsyncLLM.from_engine_args(engine_arguments(start), usage_context=UsageContext.LLM_CLASS)


def engine_arguments(start: Message) -> Any:
    """vLLM's arguments for a `start` message. Raises OptionError."""
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform

    check_options(start["options"], [field.name for field in fields(AsyncEngineArgs)])
    return AsyncEngineArgs(
        **{"enable_prefix_caching": True, **start["options"]},
        model=start["model"],
        tokenizer=start["model"],
        dtype=_dtype(start["dtype"], current_platform),
        max_model_len=start["max_context"] or None,
        seed=start["seed"],
        trust_remote_code=False,
        disable_log_stats=False,
    )


def check_options(options: dict[str, Any], known: list[str]) -> None:
    """Raises OptionError for an option that vLLM does not know or that we set."""
    for name in options:
        if name in OURS:
            raise OptionError(f"option {name!r} is set by {OURS[name]}; remove it from engine.extra")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see vLLM's engine arguments"
            raise OptionError(f"vLLM knows no option {name!r}{hint}")


def _dtype(wanted: str, platform: Any) -> str:
    """`auto` is bfloat16 on a GPU that computes in it, else float32 (on a CPU with AMX, `hf:` takes bfloat16)."""
    import torch

    if wanted != "auto":
        return wanted
    in_bf16 = not platform.is_cpu() and torch.bfloat16 in platform.supported_dtypes
    return "bfloat16" if in_bf16 else "float32"


def _in_words(error: BaseException) -> str:
    """An error and its causes in one line."""
    cause = error.__cause__
    said = one_line(error, 500)
    words = said if isinstance(error, OptionError) else f"{type(error).__name__}: {said}".removesuffix(": ")
    return f"{words} ({_in_words(cause)})" if cause is not None else words


if __name__ == "__main__":
    main()
