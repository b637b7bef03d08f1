"""EFT targets without a written justification: the score that a reply's rank or quality stands for.

    ranks      the best rank is the highest score, a prompt's worst rank the lowest, the others evenly between: of three ranks
               5, 2 and 0 (2.5 is rounded down, so that no reply gains by rounding)
    quality    a label of 0 to 1 stretched over the range and rounded

The judgement is the score alone: `Score: 4`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from selfreward.tables import Seed


def worst_ranks(seeds: Iterable[Seed]) -> dict[str, int]:
    """prompt_id -> the largest rank among its replies."""
    worst: dict[str, int] = {}
    for seed in seeds:
        if seed.human_rank is not None:
            worst[seed.prompt_id] = max(seed.human_rank, worst.get(seed.prompt_id, 0))
    return worst


def score_of_rank(rank: int, worst: int, lowest: float, highest: float) -> float:
    """The score of a rank, 0 being the best; of a prompt whose replies share one rank, the middle of the range.

    >>> [score_of_rank(rank, 2, 0.0, 5.0) for rank in (0, 1, 2)]
    [5.0, 2.0, 0.0]
    """
    share = rank / worst if worst else 0.5
    return _whole(highest - share * (highest - lowest))


def score_of_quality(quality: float, lowest: float, highest: float) -> float:
    """The score of a quality label, which counts as 0 or 1 if it lies outside.

    >>> score_of_quality(0.75, 0.0, 5.0)
    4.0
    """
    return _whole(lowest + min(1.0, max(0.0, quality)) * (highest - lowest))


def _whole(score: float) -> float:
    # Halves down; 1e-9 keeps 4.999999999 of a division at 5.
    return float(math.ceil(score - 0.5 - 1e-9))
