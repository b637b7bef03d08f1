"""`hf:NAME_OR_PATH`: a transformers model in this process, on the CPU or one GPU. The embedded default.

Promises in addition to those of `selfreward.engines.base`:

- batches are cut from the whole request list (sorted by prompt length, longest first, so that memory runs out
  at once or not at all) and by `batch_size`; all samples of a request share a batch and one prefill;
- the same requests, `batch_size`, dtype, machine and thread count give the same rows, restarted or not. Another
  batch size, dtype or thread count may change tokens, because floating-point sums then have another order;
- a batch whose keys and values would not fit into free memory at the maximum length of its answers is refused before
  the first batch is computed: on a CPU, the kernel would kill the process hours later, without a message;
- `n_tokens` counts every token computed, the end-of-turn token and those of a stop string included;
- `choice_logprobs` are those of the model itself, before temperature and top-p;
- no code from a model folder is run, and a folder with missing weights is refused, not initialized at random.

With bfloat16 (see `dtypes`), padding changes tokens from batch to batch even in greedy decoding; with float32 on a CPU it
mostly does not: use `float32` to compare rows across batch sizes or machines.
`EngineOptions.extra` takes `device` (`cpu`, `cuda`, …) and `pack_weights` (false: stock linear layers).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as library_logging

from selfreward.engines.base import BaseEngine, Capabilities, Completion, EngineOptions, Request, row_seed
from selfreward.engines.chat_tokens import Chat, ChatTokenizer, PromptTokens
from selfreward.engines.hf.decode import Row, decode
from selfreward.engines.hf.dtypes import engine_dtype
from selfreward.engines.hf.fast_torch import ATTENTION, pack_linears
from selfreward.engines.hf.memory import cache_bytes_per_token, free_bytes
from selfreward.errors import ConfigError, EngineError
from selfreward.models.folder import token_limit
from selfreward.models.known import fetch_model
from selfreward.tables import FinishReason, Message

OPTIONS = {"device", "pack_weights"}

BYTES_IN_CHARACTER = 4
"""UTF-8: a stop string of k characters is written by at most 4 k tokens."""


@dataclass(frozen=True, slots=True)
class ReadyRequest:
    """A request ready to be computed, or the reason why it cannot be."""

    request: Request
    prompt: PromptTokens
    choice_ids: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return len(self.prompt.ids)


class HfEngine(BaseEngine):
    """See the module's docstring. Raises EngineError if the model cannot be opened."""

    capabilities = Capabilities(logprobs=True, prefix=True, seeds=True)

    def __init__(self, target: str, options: EngineOptions) -> None:
        self.name = f"hf:{target}"
        self._options = options
        folder = fetch_model(target)
        self._device = _device(options)
        self.dtype = engine_dtype(options.dtype, self._device)
        self._tokenizer = ChatTokenizer(folder)
        self._model: Any = _load(
            folder, self._device, self.dtype, bool(options.extra.get("pack_weights", True))
        )
        self._token_bytes = cache_bytes_per_token(self._model.config, self.dtype)
        self._vocabulary = self._model.get_input_embeddings().weight.shape[0]
        self._eos_ids = self._tokenizer.eos_ids | _generation_eos(self._model)
        self._context = token_limit(folder, options.max_context, f"{self.name}: max_context")

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]:
        """Groups are batches; one more group, the first, holds the requests that cannot be computed."""
        # A batch with all rows in `done` is skipped. Of any other, all rows are computed again, since a row's tokens may
        # depend on its neighbors, and those not in `done` are returned.
        jobs = self._prepare(requests)
        refused = [job for job in jobs if job.prompt.error is not None]
        batches = plan_batches([job for job in jobs if job.prompt.error is None], self._options)
        self._require_room(batches)
        for group in [refused, *batches]:
            rows = {(job.request.id, sample) for job in group for sample in range(job.request.n)}
            wanted = rows.difference(done)
            if wanted:
                completions = _refusals(refused) if group is refused else self._compute(group)
                yield [one for one in completions if (one.request_id, one.sample) in wanted]

    def _require_room(self, batches: Sequence[list[ReadyRequest]]) -> None:
        """EngineError before the first token if the largest batch would not fit."""
        token_bytes, free = self._token_bytes, free_bytes(self._device)
        if not batches or token_bytes is None or free is None:
            return
        largest = max(batches, key=_positions)
        if _positions(largest) * token_bytes > free:
            n_rows, n_samples = sum(job.request.n for job in largest), max(job.request.n for job in largest)
            fits = max(1, free * n_rows // (_positions(largest) * token_bytes))
            advice = f"lower engine.batch_size to {fits}"
            if fits < n_samples:
                advice = (
                    f"ask for at most {fits} samples at once (candidates.n), or shorter ones (max_tokens)"
                )
            raise EngineError(
                f"{self.name}: the keys and values of a batch of {n_rows} rows can grow to "
                f"{_positions(largest) * token_bytes / 2**30:.1f} GiB, and {self._device.type} has {free / 2**30:.1f} GiB "
                f"free: {advice}"
            )

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        prompt = self._tokenizer.encode([Chat(tuple(messages))])[0]
        return None if prompt.error else len(prompt.ids)

    def close(self) -> None:
        """Free the model's memory; the engine cannot be used afterwards."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    # ------------------------------------------------------------------------------ before computing

    def _prepare(self, requests: Sequence[Request]) -> list[ReadyRequest]:
        """Tokenize everything first: the length of each prompt decides its batch."""
        prompts = self._tokenizer.encode([Chat(request.messages, request.prefix) for request in requests])
        jobs = [
            ReadyRequest(request, self._fitting(request, prompt))
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        return [
            self._with_choices(job) if job.request.choices and not job.prompt.error else job for job in jobs
        ]

    def _fitting(self, request: Request, prompt: PromptTokens) -> PromptTokens:
        needed = len(prompt.ids) + request.sampling.max_tokens
        if prompt.error is None and self._context is not None and needed > self._context:
            return replace(
                prompt,
                error=f"prompt of {len(prompt.ids)} tokens and max_tokens {request.sampling.max_tokens} do not fit "
                f"the context of {self._context} tokens",
            )
        if prompt.error is None and max(prompt.ids) >= self._vocabulary:
            return replace(
                prompt,
                error=f"the tokenizer has tokens that the model does not have (token {max(prompt.ids)})",
            )
        return prompt

    def _with_choices(self, job: ReadyRequest) -> ReadyRequest:
        """The one token of each choice, found by tokenizing prompt and choice together."""
        request = job.request
        longer = self._tokenizer.encode(
            [Chat(request.messages, request.prefix + one) for one in request.choices]
        )
        ids = [prompt.ids for prompt in longer]
        for choice, longer_ids in zip(request.choices, ids, strict=True):
            if longer_ids[:-1] != job.prompt.ids:
                error = (
                    f"choice {choice!r} is not one token after prefix {request.prefix[-20:]!r} for this tokenizer; "
                    "try moving the space between them to the other side"
                )
                return replace(job, prompt=replace(job.prompt, error=error))
        return replace(job, choice_ids=tuple(longer_ids[-1] for longer_ids in ids))

    # ------------------------------------------------------------------------------ computing

    def _compute(self, batch: list[ReadyRequest]) -> list[Completion]:
        if self._model is None:
            raise EngineError(f"{self.name} was closed")
        rows = [_row(place, job.request, i) for place, job in enumerate(batch) for i in range(job.request.n)]
        try:
            with torch.inference_mode():
                logits = decode(
                    self._model,
                    [job.prompt.ids for job in batch],
                    rows,
                    lambda row: self._finished(row, batch[row.prompt]),
                )
                logprobs = [_choice_logprobs(job, logits[place]) for place, job in enumerate(batch)]
        except (RuntimeError, MemoryError, TypeError, ValueError, IndexError, AttributeError) as error:
            # boundary: the model is foreign code; what it raises concerns the whole batch
            reason = (str(error).strip().splitlines() or ["no message"])[0]
            raise EngineError(
                f"{self.name}: a batch of {len(rows)} rows and {batch[0].length} prompt tokens failed on "
                f"{self._device.type}: {type(error).__name__}: {reason}; if memory ran out, lower batch_size "
                f"(now {self._options.batch_size}) or the number of samples"
            ) from error
        return [
            self._completion(row, batch[row.prompt], logprobs[row.prompt], i) for i, row in _numbered(rows)
        ]

    def _finished(self, row: Row, job: ReadyRequest) -> FinishReason | None:
        if row.tokens[-1] in self._eos_ids:
            return "stop"
        stops = job.request.sampling.stop
        if stops:
            # The last tokens are enough to detect a stop string; decoding the whole text at each token would be slow.
            tail = self._tokenizer.decode(row.tokens[-(BYTES_IN_CHARACTER * max(map(len, stops)) + 8) :])
            if any(stop in tail for stop in stops) and _cut(self._text(row, job), stops) is not None:
                return "stop"
        return None

    def _text(self, row: Row, job: ReadyRequest) -> str:
        after = job.prompt.ids[-8:] if job.request.prefix else ()
        return self._tokenizer.decode(row.tokens, after)

    def _completion(
        self, row: Row, job: ReadyRequest, choice_logprobs: dict[str, float] | None, sample: int
    ) -> Completion:
        text = self._text(row, job)
        cut = _cut(text, job.request.sampling.stop)
        return Completion(
            request_id=job.request.id,
            sample=sample,
            text=text if cut is None else cut,
            finish_reason=row.finish_reason,
            n_tokens=len(row.tokens),
            n_prompt_tokens=job.length,
            seed=row.seed,
            error=row.error,
            choice_logprobs=choice_logprobs,
        )


# -------------------------------------------------------------------------------------- pure parts


def plan_batches(jobs: Sequence[ReadyRequest], options: EngineOptions) -> list[list[ReadyRequest]]:
    """Batches of at most `batch_size` rows, longest prompts first; a request with more samples than that is a
    batch of its own. A pure function of its arguments, and of the requests' ids rather than of their order."""
    batches: list[list[ReadyRequest]] = []
    room = 0
    for job in sorted(jobs, key=lambda job: (-job.length, job.request.id)):
        if job.request.n > room:
            batches.append([])
            room = options.batch_size
        batches[-1].append(job)
        room -= job.request.n
    return batches


def _positions(batch: Sequence[ReadyRequest]) -> int:
    """Positions in the cache once every row is as long as it may become; all rows are as long as the longest."""
    longest = max(job.length + job.request.sampling.max_tokens for job in batch)
    return longest * sum(job.request.n for job in batch)


def _row(place: int, request: Request, sample: int) -> Row:
    sampling = request.sampling
    seed = row_seed(request.seed, request.id, sample)
    return Row(place, sampling.temperature, sampling.top_p, sampling.max_tokens, seed)


def _numbered(rows: list[Row]) -> Iterator[tuple[int, Row]]:
    """Each row with its sample number within its prompt."""
    seen: dict[int, int] = {}
    for row in rows:
        seen[row.prompt] = seen.get(row.prompt, -1) + 1
        yield seen[row.prompt], row


def _cut(text: str, stops: Sequence[str]) -> str | None:
    """The text before the earliest stop string, None if it has none."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def _choice_logprobs(job: ReadyRequest, logits: torch.Tensor) -> dict[str, float] | None:
    if not job.choice_ids:
        return None
    logprobs = logits.float().log_softmax(-1)[list(job.choice_ids)].tolist()
    return dict(zip(job.request.choices, logprobs, strict=True))


def _refusals(jobs: list[ReadyRequest]) -> list[Completion]:
    return [
        Completion(
            request_id=job.request.id,
            sample=sample,
            text="",
            finish_reason="error",
            n_tokens=0,
            n_prompt_tokens=job.length,
            seed=row_seed(job.request.seed, job.request.id, sample),
            error=job.prompt.error,
        )
        for job in jobs
        for sample in range(job.request.n)
    ]


# -------------------------------------------------------------------------------------- opening


def _device(options: EngineOptions) -> torch.device:
    unknown = options.extra.keys() - OPTIONS
    if unknown:
        raise ConfigError(
            f"hf: knows no option {min(unknown)!r}; its options are {', '.join(sorted(OPTIONS))}"
        )
    wanted = str(options.extra.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"hf: device {wanted!r} was requested, but torch finds no GPU on this machine")
    return torch.device(wanted)


def _load(folder: Path, device: torch.device, dtype: torch.dtype, pack_weights: bool) -> Any:
    # "Loading weights" beside our own bars, where Python code, and not the command line, opened the engine
    library_logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (
        Exception
    ) as error:  # the folder's files are the model's author's; the library raises what it likes
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise EngineError(
            f"model folder {folder} cannot be loaded: {type(error).__name__}: {reason}"
        ) from error
    if report["missing_keys"] or report["mismatched_keys"]:
        absent = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        raise EngineError(
            f"model folder {folder} lacks {len(absent)} of the weights that its config.json calls for, the first is "
            f"{absent[0]}: the folder is incomplete, or the configuration belongs to another model"
        )
    model = model.to(device).eval()
    if model.config._attn_implementation == "sdpa" and model._supports_attention_backend:
        model.set_attn_implementation(ATTENTION)
    if device.type == "cpu" and pack_weights:
        pack_linears(model)
    return model


def _generation_eos(model: Any) -> frozenset[int]:
    eos = model.generation_config.eos_token_id if model.generation_config else None
    return frozenset([eos] if isinstance(eos, int) else eos or [])
