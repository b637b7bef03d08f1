"""Settings of judging: how the judge is asked, what a score is, and which pairs are made of scores."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from selfreward.text import check_pattern
from selfreward.unkeyed import Arm, Count, KeyedApart, Section, Share


class JudgingConfig(Section):
    """LLM-as-a-Judge (paper: three sampled judgements, averaged)."""

    judge: KeyedApart[str | list[str]] = "current"
    """`current` (M_k, the paper's), `previous` (M_k-1), `first` (M1) or a model string; a list: each of them judges every
    candidate."""
    template: KeyedApart[str] = "additive"
    """`additive`, `additive-short`, `multiple-choice`, or the path of a template file."""
    more_templates: KeyedApart[list[str]] = Field(default_factory=list)
    """Further templates that each judge uses on the same candidates."""
    combine: KeyedApart[Literal["mean", "median", "majority", "worst", "first"]] = "mean"
    """With several judges or templates: a candidate's score from theirs. `majority`: the whole score nearest to most;
    `first`: the first judge's with the first template, the others are for rules and SQL."""
    mode: Literal["sampled", "expected"] = "sampled"
    """`sampled`: mean of sampled judgements. `expected`: mean score under the token probabilities at the score
    position, after a greedy justification (`justify: true`) or none."""
    justify: bool = True
    """Mode `expected`: a justification before the score."""
    samples: Count = 3
    """Judgements of each candidate (`sampled`)."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 400
    """New tokens of a judgement."""
    max_attempts: Count = 2
    """Completions asked for until a judgement has a score; the last one stands, scored or not."""
    score_pattern: Arm[str | None] = None
    """Regular expression (RE2) for a rubric with another ending, such as `Points: (?P<score>[0-9.]+)`; its last match in a
    judgement is the score. Null: the forms in docs/judging.md."""
    min_score: float = 0.0
    """Lowest score in range; what is below is `out_of_range`."""
    max_score: float = 5.0
    """Highest score in range."""
    collapse_share: KeyedApart[Share] = 0.98
    """The run stops with the histogram if one score holds more than this share of the scored judgements."""
    collapse_tied_share: KeyedApart[Share] = 0.98
    """Likewise if more than this share of the prompts with two or more scored candidates is tied."""

    @field_validator("judge")
    @classmethod
    def _some_judge(cls, judge: str | list[str]) -> str | list[str]:
        if not judge:
            raise ValueError("is an empty list; name at least one judge, such as current")
        return judge

    @field_validator("score_pattern")
    @classmethod
    def _readable_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _pattern_is_read(self) -> JudgingConfig:
        if self.score_pattern and self.mode == "expected":
            raise ValueError("score_pattern: mode expected reads no text; leave it out, or use mode: sampled")
        return self

    @property
    def judges(self) -> list[str]:
        """All of them."""
        return [self.judge] if isinstance(self.judge, str) else self.judge

    @property
    def templates(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([self.template, *self.more_templates]))


class ScoresConfig(Section):
    """What a candidate's score is; anything but the default is a control, to show what the judge's signal is worth."""

    source: Literal["judge", "shuffled", "rules"] = "judge"
    """`judge`: the mean of its judgements (the paper's). `shuffled`: the same scores, exchanged at random among the
    candidates of a prompt (negative control). `rules`: the highest score if a program finds the prompt's rules kept, else the
    lowest, NULL for a prompt without a rule it knows (gold control)."""


class PairsConfig(Section):
    """Preference pairs (paper: highest against lowest mean score; equal scores drop the prompt)."""

    rule: KeyedApart[str] = "max_min"
    """`max_min` (the paper's), `margin`, `margin_in_errors`, `near_ties`, `length_controlled`, `positive_only`, `all_pairs`,
    `consistent`, `past_future` (docs/arms.md), or the path of an .sql file over `scores`."""
    min_margin: float = Field(0.0, ge=0)
    """Rules `margin`, `all_pairs`: chosen beats rejected by more points than this; `margin_in_errors`: by more standard
    errors of the judge."""
    length_band: float = Field(0.5, ge=0)
    """Rule `length_controlled`: scores this close to the top (bottom) count as near it."""
    positive_score: float = 5.0
    """Rule `positive_only`: the mean score a response needs."""
    allow_injection_suspected: bool = False
    """Whether a candidate flagged `injection_suspected` may be chosen."""
    reasoning: Arm[bool] = False
    """With `candidates.reasoning: apart`: put the reasoning back before the answers, so that it is trained on."""
    min_pairs: KeyedApart[Count] = 8
    """Fewer pairs than this and the run stops before training, with the funnel."""
    use: KeyedApart[str] = "current"
    """Pairs that M_k is trained on: of the `current` iteration (the paper's), `all` so far, or of the `last 2` (3, …)."""
    min_scored: Arm[Count] = 1
    """A candidate with fewer scored judgements than this enters no pair (`too_few_scored`)."""
    max_similarity: Arm[Share] = 1.0
    """A pair whose answers are more alike than this is dropped (`near_identical`): Jaccard index of their runs of five
    words, as in the audit `near_duplicates`, which warns from 0.8."""
    per_prompt: Arm[Count] = 1
    """Pairs of a prompt at most. The rule `all_pairs` makes several."""
    level: Arm[float] = Field(0.05, gt=0, lt=1)
    """Rule `near_ties`: level of the test whether a prompt's scores differ by more than the judge's sampling error."""
    min_consistency: Arm[float] = Field(0.0, ge=-1, le=1)
    """Rule `consistent`: least rank correlation between the scores of the first two judges of a prompt's answers."""

    @field_validator("use")
    @classmethod
    def _known_use(cls, use: str) -> str:
        if not re.fullmatch(r"current|all|last [1-9]\d?", use):
            raise ValueError(f"found {use!r}; expected current, all, or last N, such as last 2")
        return use

    def n_used(self, iteration: int) -> int:
        """Iterations whose pairs are trained on, this one included."""
        wanted = {"current": 1, "all": iteration}.get(self.use) or int(self.use.removeprefix("last "))
        return min(wanted, iteration)
