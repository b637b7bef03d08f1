"""A worker that speaks the protocol of `selfreward.engines.vllm.worker` without vLLM, and fails as it is told.

    python fake_vllm_worker.py '{"die_at": [3, 1]}' FD

Its answers are the last ids of the prompt, backwards. The n-th start of it (counted in the file `starts`) reads the
n-th number of each list: `die_at`, `hang_at`, `dead_at`: requests answered before it kills itself, falls silent, or
says that vLLM died; `orphan_at`: before it kills the process that started it. `held`: answers are written in reverse
order, that many at a time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from selfreward.engines.vllm.frames import Channel


def nth(values, n):
    return values[n] if values and n < len(values) else None


def answer(message):
    if message["ids"][0] == message["ids"][1]:
        return {"type": "refused", "key": message["key"], "error": "a word said twice"}
    ids = message["ids"][::-1][: message["max_tokens"]]
    samples = [
        {"ids": ids, "finish": "stop", "logprobs": [-1.0] * len(message["choice_ids"]) or None}
        for _ in message["samples"]
    ]
    return {"type": "result", "key": message["key"], "samples": samples}


def main():
    parent = os.getppid()
    script, channel = json.loads(sys.argv[1]), Channel(socket.socket(fileno=int(sys.argv[2])))
    with Path(script["starts"]).open("ab", buffering=0) as starts:  # appended, since two may start at once
        starts.write(b"x")
        start_number = starts.tell() - 1
    start = channel.receive()
    if script.get("fatal"):
        return channel.send({"type": "fatal", **script["fatal"]})
    if start["options"].get("shared"):  # memory that outlives its process unless somebody removes it
        shared = SharedMemory(create=True, size=4096)
        Path(script["starts"]).with_name("shared").write_text(shared.name)
    if start["options"].get("child"):  # something that outlives its parent unless the whole group is killed
        Path(script["starts"]).with_name("child").write_text(
            str(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600"))
        )
    channel.send({"type": "ready", "context": script.get("context", 100), "seeded": True})
    n_answered, held = 0, []
    if script.get("slow_s"):
        threading.Thread(target=beat, args=(channel,), daemon=True).start()
    while (message := channel.receive()) is not None and message["type"] != "close":
        if message["type"] == "metrics":
            channel.send({"type": "beat", "asked": True, "counters": {"prompt_tokens": n_answered}})
        if message["type"] != "request":
            continue
        if n_answered == nth(script.get("die_at"), start_number):
            print("RuntimeError: out of luck", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if n_answered == nth(script.get("orphan_at"), start_number):
            os.kill(parent, signal.SIGKILL)
            os._exit(0)
        if n_answered == nth(script.get("hang_at"), start_number):
            time.sleep(600)
        if n_answered == nth(script.get("dead_at"), start_number):
            return channel.send({"type": "dead", "error": "EngineDeadError: the core is gone"})
        time.sleep(script.get("slow_s", 0))
        n_answered += 1
        held.append(answer(message))
        if len(held) >= script.get("held", 1):
            while held:
                channel.send(held.pop())
    return None


def beat(channel):
    for n_tokens in range(10_000):
        channel.send({"type": "beat", "counters": {"generation_tokens": n_tokens}})
        time.sleep(0.1)


if __name__ == "__main__":
    main()
