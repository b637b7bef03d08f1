"""The rows that travel through the project: one frozen class per dataset.

The classes are the contract: dataset and column names are relied on from outside (users' SQL, published
datasets). A column that may be NULL is written `T | None`; everything else may not be (the store checks it at
publish, because `datasets` forgets Arrow's own nullability flag). A column with a closed set of values is a
`Literal`.

Ids join: `pairs.chosen_id` -> `candidates.candidate_id` -> `prompts.prompt_id` -> `prompts.demonstration_ids`
-> `ift.ift_id` -> `ift.source_id`. They are deterministic (`row_id`), so that a rerun names the same thing
the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Why a judgement has a score (`ok`) or lacks one. Unscored is NULL with a `status` or `reason` next to it,
# never a number and never NaN, which DuckDB ranks above every number.
Status = Literal["ok", "no_score", "out_of_range", "truncated", "empty", "engine_error"]

# `length`: cut off at the token limit; such an answer stays as a row, but enters no pair.
FinishReason = Literal["stop", "length", "error"]
# `sampled` (the paper's) or `expected` (from token probabilities at the score position).
JudgeMode = Literal["sampled", "expected"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat, as chat templates take it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Seed:
    """One human-ranked reply to a first-turn prompt; `ift` and `eft` are cut from these."""

    seed_id: str
    """The reply's id in its source."""
    prompt_id: str
    prompt: str
    response: str
    human_rank: int | None
    """0 is the best reply of its prompt; NULL where nobody ranked it."""
    quality: float | None
    lang: str
    judgement: str | None
    """A written judgement (justification and `Score: n`), where the source has one."""
    source: str


@dataclass(frozen=True, slots=True)
class Ift:
    """Instruction fine-tuning row (paper section 2.1): a prompt and its best human reply."""

    ift_id: str
    prompt: str
    response: str
    messages: list[Message]
    source: str
    source_id: str
    human_rank: int | None
    quality: float | None
    lang: str


@dataclass(frozen=True, slots=True)
class Eft:
    """Evaluation fine-tuning row (paper section 2.1): judge prompt in, justification and score out."""

    eft_id: str
    split: Literal["train", "eval"]
    """Disjoint by prompt from each other and from `ift`."""
    prompt_id: str
    prompt: str
    response_id: str
    response: str
    human_rank: int
    """0 is the best reply of its prompt."""
    judge_prompt: str
    target: str | None
    """Justification and `Score: n`; NULL where no judgement exists (eval rows need none)."""
    target_score: float | None
    accepted: bool
    """Trained on, if split is `train`."""
    reason: str | None
    """Why not accepted; NULL where accepted."""
    source: str
    source_id: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A self-instructed prompt (paper section 2.2, step 1); rejected ones stay with their reason."""

    prompt_id: str
    iteration: int
    prompt: str
    demonstration_ids: list[str]
    """`ift_id`s and earlier `prompt_id`s shown to the generator, in the order shown."""
    generator: str
    kept: bool
    reason: str | None
    nearest_id: str | None
    nearest_rouge_l: float | None
    """ROUGE-L F against the nearest earlier prompt, in [0, 1]."""
    round: int
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled response to a prompt (paper section 2.2, step 2)."""

    candidate_id: str
    iteration: int
    prompt_id: str
    sample: int
    response: str
    finish_reason: FinishReason
    n_tokens: int
    n_chars: int
    model: str
    seed: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement of one candidate, raw text kept (paper section 2.2, step 3)."""

    judgement_id: str
    iteration: int
    prompt_id: str
    candidate_id: str
    sample: int
    judge: str
    template: str
    judge_mode: JudgeMode
    judgement: str
    score: float | None
    status: Status
    finish_reason: FinishReason
    n_tokens: int
    attempts: int
    """Completions asked for until this one; more than 1 where an unscored judgement was resampled."""
    injection_suspected: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one candidate: mean of its scored judgements, or NULL."""

    candidate_id: str
    judge: str
    template: str
    judge_mode: JudgeMode
    iteration: int
    prompt_id: str
    score: float | None
    score_variance: float | None
    n_judgements: int
    n_scored: int
    injection_suspected: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair in TRL's conversational form (paper section 2.2, "AI feedback training")."""

    pair_id: str
    iteration: int
    prompt_id: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_id: str
    rejected_id: str
    chosen_score: float
    rejected_score: float
    margin: float
    rule: str
