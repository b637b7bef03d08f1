"""Settings of meta-rewarding (arXiv 2407.19594): the model judges its own judgements and is trained on the result.

    meta:
      share: 0.5
      rule: bradley_terry

Off unless the section is there: a run without it plans neither step, and none of its keys changes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfreward.unkeyed import Count, KeyedApart, Section, Share


class MetaConfig(Section):
    """Judgements compared with each other, and pairs of judgements to train the judge (docs/meta-rewarding.md)."""

    judge: KeyedApart[str] = "current"
    """`current` (M_k, the paper's) or a model string."""
    template: KeyedApart[str] = "meta-judge"
    """`meta-judge`, or the path of a file with its slots."""
    mode: Literal["written", "choice"] = "written"
    """`written`: the last winner that the answer names. `choice`: the likelier of A and B right after `Winner:`, without
    a reason; for models too small to write one (hf:, vllm:)."""
    share: Share = 1.0
    """Share of the prompts whose judgements are compared: those with the highest variance of scores."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 400
    """New tokens of a comparison."""
    rule: KeyedApart[Literal["bradley_terry", "wins"]] = "bradley_terry"
    """The rating of a judgement: `bradley_terry` (Elo's model, the paper's), or `wins` less losses."""
    positions: KeyedApart[Literal["weighted", "consistent"]] = "weighted"
    """`weighted`: a win counts less in the place that wins more often (the paper's). `consistent`: only pairs of
    judgements with the same winner in both orders count."""
    max_length_ratio: KeyedApart[float] = Field(1.5, gt=0)
    """A chosen judgement may have this many times the characters of the rejected one; longer ones are dropped."""
    max_share_per_score: KeyedApart[Share] = 0.4
    """Pairs whose chosen judgement gives a too common score are dropped until none holds a larger share; 1 turns it
    off."""
    max_share: KeyedApart[Share] = Field(0.5, lt=1)
    """Largest share of pairs of judgements among all pairs of a DPO step; what is more is left out, drawn by hash."""
    min_pairs: KeyedApart[int] = Field(1, ge=0)
    """Fewer pairs of judgements than this and the run stops before training."""

    def picking(self) -> dict[str, object]:
        """The settings that make pairs of compared judgements; `keyed()` has those that compare them."""
        names = {"rule", "positions", "max_length_ratio", "max_share_per_score", "max_share"}
        return self.model_dump(mode="json", include=names)
