"""Consent to what a downloaded configuration may access.

A configuration written by `selfreward pull` begins with a comment that says so. Before its first run, the hosts, files
and unrestricted settings that it names are listed, and `--trust` is required. The consent covers exactly this list, so
that a new host or file needs a new one. `SELFREWARD_TRUST=1` consents for one command or shell. Both also allow sending
prompts and keys to another machine without encryption (http:).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from selfreward.errors import UsageError
from selfreward.models.known import cache_dir
from selfreward.store import durable
from selfreward.store.sealed import digest

if TYPE_CHECKING:
    from selfreward.config.run import RunConfig

VARIABLE = "SELFREWARD_TRUST"
_MARK = "# pulled by selfreward from "
_OURS = frozenset((
    "embedded", "eft_eval", "additive", "additive-short", "multiple-choice", "max_min", "margin",
    "length_controlled", "positive_only", "margin_in_errors", "near_ties", "all_pairs", "consistent", "past_future",
))  # fmt: skip
"""Built-in names that settings accept in place of a file; one that is missing here only causes a needless question."""
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
_DATA_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".zst", ".txt")
_CLOSED = frozenset((
    "attn_implementation", "data_parallel_size", "device", "dtype", "enable_chunked_prefill",
    "enable_prefix_caching", "enforce_eager", "frequency_penalty", "gpu_memory_utilization",
    "kv_cache_dtype", "length_penalty", "logprobs", "max_completion_tokens", "max_cost", "max_model_len",
    "max_num_batched_tokens", "max_num_seqs", "max_tokens", "max_tokens_field", "min_p", "min_tokens",
    "pack_weights", "pipeline_parallel_size", "prefix", "presence_penalty", "price_per_million_in",
    "price_per_million_out", "quantization", "reasoning_effort", "repetition_penalty", "seed",
    "send_seed", "service_tier", "swap_space", "tensor_parallel_size", "top_k", "actors", "num_cpus",
    "num_gpus", "patience_s",
))  # fmt: skip
"""Settings of `engine.extra` that hold no secret and access nothing if their value is a number or a word."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,23}")


def is_trusted() -> bool:
    """Whether this process has the user's consent."""
    return os.environ.get(VARIABLE) == "1"


def mark(content: bytes, url: str, revision: str) -> bytes:
    """A configuration with the comment that names its source."""
    return f"{_MARK}{url} at {revision}: look at it before you run it\n".encode() + content


def require_trust(path: Path, config: RunConfig, given: bool = False) -> None:
    """UsageError if a pulled configuration accesses something without consent; `given` is consent, kept for later."""
    reach = reaches(config)
    # In the user's cache: a record in the run folder could come with the download.
    record = cache_dir() / "trusted" / f"{digest(reach)}.json"
    if given and reach:
        durable.make_folder(record.parent)
        durable.replace_file(record, "\n".join([*reach, ""]).encode())
    if given or record.is_file():
        os.environ[VARIABLE] = "1"
    if reach and not is_trusted() and _is_pulled(path):
        raise UsageError(
            f"{path}: this configuration was downloaded and would use {'; '.join(reach)}. Check these; if you trust "
            f"them, run it once with `selfreward run {path} --trust`, or set {VARIABLE}=1"
        )


def reaches(config: RunConfig) -> list[str]:
    """The hosts, files, folders, trackers and unrestricted settings in a configuration, each with its key."""
    return list(dict.fromkeys(_reaches(config)))


def closed_extra(extra: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings of `engine.extra` that hold no secret and access nothing, and the names of the others.

    >>> closed_extra({"prefix": True, "body": {"top_k": 5, "api_key": "sk-1"}})
    ({'prefix': True, 'body': {'top_k': 5}}, ['body.api_key'])
    """
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    for name, value in extra.items():
        if isinstance(value, dict) and name in ("openai", "ray", "body"):
            kept[name], inner = closed_extra(value)
            left_out += [f"{name}.{place}" for place in inner]
        elif name in _CLOSED and _is_plain(value):
            kept[name] = value
        else:
            left_out.append(name)
    return kept, left_out


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or bool(_WORD.fullmatch(str(value)))


def _is_pulled(path: Path) -> bool:
    with durable.explained("read", path), path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK.encode()


def _reaches(config: RunConfig) -> Iterator[str]:
    for one in config.each_iteration():
        yield from _reaches_in_iteration(one)


def _reaches_in_iteration(config: RunConfig) -> Iterator[str]:
    alpaca = config.evaluate.alpaca
    models = [
        ("model", config.model),
        *(("judging.judge", judge) for judge in config.judging.judges),
        *(("candidates.also", model) for model in config.candidates.also),
        ("prompts.generator", config.prompts.generator),
        ("evaluate.alpaca.judge", alpaca.judge if alpaca else ""),
    ]
    for place, model in models:
        engine, _, target = model.partition(":")
        if engine == "openai":
            addresses = target.partition("#")[0].split(",")
            yield from (f"host {urlsplit(url.strip()).netloc or url} ({place})" for url in addresses)
        elif engine == "scripted" or (target and _looks_local(target)):
            yield f"file {target} ({place})"
    files = [
        ("seeds.source", config.seeds.source),
        *(("prompts.source", file) for file in [config.prompts.source] if file),
        ("judging.template", config.judging.template),
        *(("judging.more_templates", file) for file in config.judging.more_templates),
        ("pairs.rule", config.pairs.rule),
        ("evaluate.alpaca.prompts", alpaca.prompts if alpaca else "eft_eval"),
    ]
    for place, file in files:
        is_hub = (
            place in ("seeds.source", "prompts.source")
            and _HUB_NAME.fullmatch(file)
            and not _looks_local(file)
        )
        if file not in _OURS and not is_hub:
            yield f"file {file} ({place})"
    yield from (f"file {file} (prompts.evaluation_sets)" for file in config.prompts.evaluation_sets)
    if config.run.startswith(("/", "~")) or ".." in Path(config.run).parts:
        yield f"folder {config.run} (run)"
    for section, training in (("sft", config.sft), ("dpo", config.dpo)):
        yield from (f"tracker {name} ({section}.report_to)" for name in training.report_to)
    yield from (f"setting engine.extra.{name}" for name in closed_extra(config.engine.extra)[1])


def _looks_local(text: str) -> bool:
    """Whether a name is a path rather than a Hub name."""
    return (
        text.startswith(("/", ".", "~")) or "\\" in text or text.endswith(_DATA_FILES) or Path(text).exists()
    )
