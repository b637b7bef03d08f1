"""Text-generation engines: one small protocol, one module per kind of engine.

    from selfreward.engines import open_engine, Request, Sampling
    with open_engine("hf:path/to/model") as engine:
        for group in engine.generate(requests, done=set()):
            ...

The protocol is in `base.py`; `registry.py` turns a model string (`hf:…`, `vllm:…`, `openai:…`, `ray:…`,
`scripted:…`) into an engine.
"""

from selfreward.engines.base import Capabilities, Completion, Engine, Request, Sampling, row_seed
from selfreward.engines.registry import open_engine, parse_model_string

__all__ = [
    "Capabilities",
    "Completion",
    "Engine",
    "Request",
    "Sampling",
    "open_engine",
    "parse_model_string",
    "row_seed",
]
