"""Settings of the datasets that are built: seeds, their split, IFT, EFT, prompts, candidates. Defaults are the paper's (v2)."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import (
    Field,
    field_validator,
)

from selfreward.unkeyed import Arm, Count, KeyedApart, Section, Share

SEED_ROLES = (
    "prompt",
    "response",
    "rank",
    "score",
    "prompt_id",
    "response_id",
    "quality",
    "lang",
    "judgement",
)


class SeedsConfig(Section):
    """Where the human-ranked seed replies come from (paper section 3.1.1: Open Assistant)."""

    source: str = "embedded"
    """`embedded`, `rules` (the control experiment's prompts, each with one rule that a program checks), a local file (message-per-line, tree-per-line or a ranked table; plain or .gz), or the name of a
    Hub dataset such as `OpenAssistant/oasst1`."""
    format: Literal["auto", "messages", "trees", "table"] = "auto"
    """What the file holds; `auto` goes by the columns of its first row."""
    revision: str | None = None
    """Hub revision; the commit that it stood for is in the notes of the manifest of `seeds`."""
    hub_split: str = "train"
    """Split of a Hub dataset."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For a table, `role: column in the file` (`prompt: question`): which of its columns is `prompt`, `response`, `rank`
    (0 best) or `score` (higher is better), and optionally `prompt_id`, `response_id`, `quality`, `lang`, `judgement`."""
    lang: str = "en"
    """Language of the rows that are used, where the source says it."""

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, columns: dict[str, str]) -> dict[str, str]:
        for role in sorted(columns.keys() - set(SEED_ROLES)):
            near = difflib.get_close_matches(role, SEED_ROLES, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ValueError(
                f"{role!r} is no role{hint} Write `role: column in the file`; the roles are {', '.join(SEED_ROLES)}"
            )
        return columns


class SplitConfig(Section):
    """Which seed prompts go where. Disjoint by prompt; drawn by a hash of the prompt's id and the seed."""

    eft_train: Share = 0.4
    """Share of the prompts with at least two ranked replies whose replies become EFT training rows."""
    eft_eval: Share = 0.13
    """Likewise for EFT evaluation rows, which nothing is ever trained on."""
    ift_also_uses_eft_train: bool = False
    """Whether IFT may take the best reply of EFT training prompts too (the paper keeps them apart)."""


class IftConfig(Section):
    """Instruction fine-tuning rows: first turn, best human rank (paper: 3,200)."""

    n_max: int = Field(3200, ge=1)
    """Rows at most; which ones is drawn by hash."""
    min_quality: float | None = None
    """Lowest `quality` label; NULL labels pass."""
    max_chars: int = Field(20_000, ge=1)
    """Of prompt and response together."""


class EftConfig(Section):
    """Evaluation fine-tuning rows (paper: 1,630 train and 541 eval)."""

    targets: Literal["written", "generated", "ranks", "quality"] = "generated"
    """`written`: the seeds' own judgements. `generated`: by the SFT baseline, kept by agreement with people. `ranks`,
    `quality`: the score alone that a reply's rank (best: highest, worst of its prompt: lowest) or quality label stands for;
    no model writes, and no justification is learnt."""
    samples: Count = 4
    """Generated judgements for each response."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 400
    """New tokens of a generated judgement."""
    agreement: Literal["strict", "no_inversion", "best"] = "strict"
    """`strict`: the scores order the prompt's responses exactly as the ranks do, ties count as disagreement;
    `no_inversion`: no worse response scores above a better one, ties are fine; `best`: the human's best alone has the
    highest score."""
    max_share_per_score: Share = 0.4
    """The most common scores are down-sampled until none holds a larger share of the training rows; 1 turns it off."""


class PromptsConfig(Section):
    """Self-instructed prompts (paper section 2.2; filters of Self-Instruct)."""

    n: Count = 5000
    """Prompts to keep in each iteration."""
    source: KeyedApart[str | None] = None
    """Null: the generator writes the prompts. `rules`: the control experiment's, each with one rule. A file (json, jsonl, csv, parquet; .gz is fine) or the name of a Hub dataset:
    each iteration takes its next `n` prompts, none is used twice."""
    column: KeyedApart[str | None] = None
    """With `source`: the column of the prompts; null takes `prompt`, `instruction` (with `input`), `question` or `messages`."""
    hub_split: KeyedApart[str] = "train"
    """With `source`: split of a Hub dataset."""
    revision: KeyedApart[str | None] = None
    """With `source`: Hub revision; the commit that it stood for is in the notes of the manifest of `prompts`."""
    generator: KeyedApart[str] = "fixed"
    """`fixed` (the configured `model`, as the paper's fixed chat model), `current` (M_k), or a model string."""
    n_demonstrations_ift: Count = 6
    """Prompts of IFT rows that are shown."""
    n_demonstrations_generated: int = Field(2, ge=0)
    """Prompts kept earlier that are shown with them."""
    samples_per_draw: Count = 1
    """Completions from one draw of demonstrations; more of them share the prompt's prefix."""
    round_size: Count = 512
    """Requests in a round; later rounds draw demonstrations from what earlier ones kept."""
    max_rounds: Count = 64
    """The step ends here, also with fewer prompts than `n`; the rest is counted."""
    temperature: float = Field(0.6, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 256
    """New tokens of a completion."""
    lang: KeyedApart[str] = "en"
    """Language of the filters' words: en, de, fr, es, it, or the path of a file of your own (docs/chats.md)."""
    system: Arm[str | None] = None
    """A system turn before every generated prompt: candidates, judge and pairs see it."""
    max_rouge_l: Share = 0.7
    """A prompt more like an earlier one than this is dropped (`not_novel`)."""
    evaluation_sets: KeyedApart[list[str]] = Field(default_factory=list)
    """Files of evaluation prompts to keep out (AlpacaEval's, MT-Bench's): json, jsonl or csv with an `instruction`,
    `prompt` or `turns` column; .gz is fine. The EFT eval split is always kept out. All 188 prompts of Open Assistant's
    English validation set are AlpacaEval's: named here they are no IFT or EFT rows."""


class CandidatesConfig(Section):
    """Responses of the current model (paper: N = 4, T 0.7, top-p 0.9)."""

    n: int = Field(4, ge=2)
    """Responses to each prompt."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 1024
    """New tokens of a response."""
    reasoning: Arm[Literal["keep", "apart"]] = "keep"
    """`apart`: the block that a model thinks in (`<think>`, …) becomes the column `reasoning`, which no judge sees."""
    also: KeyedApart[list[str]] = Field(default_factory=list)
    """Further models that answer each prompt `n` times: `previous` (M_k-1), `first` (M1), `M0` or a model string. For the
    rule `past_future`."""
