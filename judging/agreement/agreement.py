"""How well a judge's scores agree with people: the paper's five measures, and what they hide.

The measures (paper section 3.1.2 and table 4), each over responses to one prompt at a time:

pairwise accuracy   of the pairs that people order strictly, those the judge orders the same way
5-best              of the responses the judge gives a perfect score, those that people rank best
exact match         of the prompts, those whose whole human order the scores reproduce
Spearman, Kendall   rank correlation of the scored responses to a prompt (midranks; tau-b), averaged over prompts

`TREATMENT`, part of every record, lists the choices that the paper leaves open. Unscored responses are never dropped
silently: `judge` covers the scored ones, `judge_unscored_wrong` counts a pair with an unscored side and a prompt with
an unscored response as a failure (correlation 0).

Baselines on the same rows: a judge that prefers the longer answer, and the expected result of a random order; each
gives the perfect score to its first choice of each prompt.
Not promised: anything about unrated responses, or about several raters (see `selfreward.judging.agreement.human`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.judging.agreement.measures import (
    Ratings,
    correlations,
    judge_shares,
    longest_shares,
    mean_correlation,
    outcomes,
    prompt_codes,
    random_shares,
    similar_length_share,
)
from selfreward.judging.agreement.rating_files import read_joined, read_rows
from selfreward.judging.agreement.rating_tables import Columns, join_rows, rating_columns
from selfreward.judging.agreement.text import format_agreement
from selfreward.statistics import (
    Figure,
    Floats,
    Resampler,
    SelfConsistency,
    Share,
    make_figure,
    ratio,
    self_consistency,
    share_figures,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "Agreement",
    "Coverage",
    "Measures",
    "format_agreement",
    "join_rows",
    "measure_agreement",
    "read_joined",
    "read_rows",
]

TREATMENT = {
    "score_ties": "pairwise accuracy is given three times: ties half right, wrong, left out",
    "human_ties": "no order: such pairs are left out and counted; any score order of them is an exact match",
    "exact_match": "every pair that people order is ordered the same by the scores; a tie is a miss",
    "undefined_correlation": "counts 0 (all scores of the prompt tie); *_defined is the mean over the others",
    "correlations": "Spearman on midranks and Kendall tau-b within a prompt, mean over prompts",
    "unscored": "left out of `judge`; in `judge_unscored_wrong` a failure, correlation 0",
    "equal_scores": "scores closer than 1e-9 are equal",
    "interval": "95 % percentile bootstrap over prompts",
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """The counts behind the measures. `n_pairs` = tied by people + right + tied + wrong + unscored."""

    n_rows: int
    n_scored: int
    n_unscored: int
    n_prompts: int
    n_prompts_one_response: int
    n_prompts_human_tied: int
    """Two or more responses, all rated the same: nothing to order."""
    n_prompts_measured: int
    n_prompts_fully_scored: int
    """Of the measured ones."""
    n_pairs: int
    n_pairs_human_tied: int
    n_pairs_right: int
    n_pairs_score_tied: int
    n_pairs_wrong: int
    n_pairs_unscored: int


@dataclass(frozen=True, slots=True)
class Measures:
    """The five measures, as fractions (correlations in [-1, 1]); only the printed table uses percentages."""

    pairwise_ties_left_out: Figure
    pairwise_ties_half: Figure
    pairwise_ties_wrong: Figure
    five_best: Figure
    exact_match: Figure
    spearman: Figure
    kendall_tau: Figure
    spearman_defined: Figure
    kendall_tau_defined: Figure


@dataclass(frozen=True, slots=True)
class Agreement:
    """The whole measurement; None if the table lacks a column (lengths, samples)."""

    counts: Coverage
    judge: Measures
    judge_unscored_wrong: Measures
    longest: Measures | None
    """The longest-answer judge on all rows: compare with `judge_unscored_wrong`."""
    longest_where_scored: Measures | None
    """The same on the rows that the judge scored: compare with `judge`."""
    random: Measures
    score_length: Figure | None
    """Spearman of score and length over all scored responses together."""
    score_length_within: Figure | None
    """The same within a prompt, averaged like `judge.spearman`."""
    similar_length: Figure | None
    """`judge.pairwise_ties_half` over the pairs whose lengths differ by at most a tenth of the longer."""
    self_consistency: SelfConsistency | None
    perfect_score: float
    n_above_perfect: int
    n_bootstrap: int
    seed: int
    treatment: dict[str, str] = field(default_factory=lambda: dict(TREATMENT))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, numbers, text and None, for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        return format_agreement(self)


def measure_agreement(
    rows: pd.DataFrame | pa.Table, *, n_bootstrap: int = 1000, seed: int = 0, perfect_score: float = 5.0
) -> Agreement:
    """Measure the scores of a table against its human ranks.

    Columns as in `selfreward.judging.agreement.rating_tables`, one row per response. `perfect_score` is the five of
    5-best; n_bootstrap=0 gives figures without intervals. Raises InputError for a table that cannot be measured;
    a table without a single score is measured and reports exactly that.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"prompt_id": ["p"] * 3, "human_rank": [0, 1, 2], "score": [5.0, 3.0, 3.0]})
    >>> measure_agreement(rows).judge.pairwise_ties_half.value  # two pairs right, one tied
    0.8333333333333334
    """
    columns = rating_columns(rows)
    ratings = Ratings.of(columns)
    ordered = ratings.only_prompts(ratings.ordered_pairs() > 0)
    resampler = Resampler(ordered.n_prompts, n_bootstrap, seed)
    # The mean of three fives may miss five by a rounding error.
    perfect = ordered.score >= perfect_score - 1e-9
    of_all = Resampler(ratings.n_prompts, n_bootstrap, seed)
    lengths = ratings.has_lengths
    longest_of_scored = longest_shares(ordered, where_scored=True)
    return Agreement(
        counts=_counts(ratings, ordered),
        judge=_measures(judge_shares(ordered, perfect), resampler),
        judge_unscored_wrong=_measures(judge_shares(ordered, perfect, unscored_wrong=True), resampler),
        longest=_measures(longest_shares(ordered), resampler) if lengths else None,
        longest_where_scored=_measures(longest_of_scored, resampler) if lengths else None,
        random=_measures(random_shares(ordered), resampler),
        score_length=_score_length(ratings, of_all) if lengths else None,
        score_length_within=_score_length_within(ratings, of_all) if lengths else None,
        similar_length=_similar_length(ordered, resampler) if lengths else None,
        self_consistency=_self_consistency(columns, of_all) if "scores" in columns else None,
        perfect_score=perfect_score,
        n_above_perfect=int(np.sum(ratings.score > perfect_score + 1e-9)),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def _measures(shares: dict[str, Share], resampler: Resampler) -> Measures:
    return Measures(**share_figures(shares, resampler))


def _similar_length(ratings: Ratings, resampler: Resampler) -> Figure:
    return share_figures({"similar": similar_length_share(ratings)}, resampler)["similar"]


def _score_length_within(ratings: Ratings, resampler: Resampler) -> Figure:
    several = ratings.count(~np.isnan(ratings.score[ratings.one] - ratings.score[ratings.other])) > 0
    spearman = correlations(ratings, ratings.n_chars, ratings.score)["spearman"]
    return share_figures(mean_correlation("spearman", spearman, several), resampler)["spearman"]


def _score_length(ratings: Ratings, resampler: Resampler) -> Figure:
    """Spearman over all scored responses together, ranked anew in every resample."""
    scored = ~np.isnan(ratings.score)
    prompt, score, n_chars = ratings.prompt[scored], ratings.score[scored], ratings.n_chars[scored]

    def of_weights(prompt_weights: Floats) -> Floats:
        weights = prompt_weights[:, prompt]
        return _weighted_pearson(_midranks(score, weights), _midranks(n_chars, weights), weights)

    if not scored.any():
        return make_figure(math.nan, None, n=0, of="responses", n_units=0)
    value = float(of_weights(np.ones((1, ratings.n_prompts)))[0])
    resampled = resampler.apply(of_weights) if resampler.n_resamples else None
    return make_figure(
        value, resampled, n=int(scored.sum()), of="responses", n_units=int(np.unique(prompt).size)
    )


def _midranks(values: Floats, weights: Floats) -> Floats:
    """Midrank of each value if value k occurs weights[b, k] times; (b, n)."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    group_weight = np.add.reduceat(weights[:, order], starts, axis=1)
    midrank = np.cumsum(group_weight, axis=1) - (group_weight - 1) / 2
    return midrank[:, np.searchsorted(values[order][starts], values)]


def _weighted_pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    # A resample may contain no prompt with a scored response: its weights sum to 0.
    n = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    x = x - (weights * x).sum(axis=1, keepdims=True) / n
    y = y - (weights * y).sum(axis=1, keepdims=True) / n
    spread = (weights * x**2).sum(axis=1) * (weights * y**2).sum(axis=1)
    covariance = (weights * x * y).sum(axis=1)
    # If all values of a resample tie, the spread is rounding error: undefined, not a random correlation.
    return np.clip(ratio(covariance, np.sqrt(np.where(spread > 1e-12, spread, 0))), -1, 1)


def _self_consistency(columns: Columns, resampler: Resampler) -> SelfConsistency:
    return self_consistency(columns["scores"], prompt_codes(columns), resampler)


def _counts(ratings: Ratings, ordered: Ratings) -> Coverage:
    by_outcome = outcomes(ordered, ordered.score)
    right, tied, wrong, unscored = (int(outcome.sum()) for outcome in by_outcome)
    size = np.bincount(ratings.prompt)
    return Coverage(
        n_rows=ratings.prompt.size,
        n_scored=int(np.sum(~np.isnan(ratings.score))),
        n_unscored=int(np.sum(np.isnan(ratings.score))),
        n_prompts=ratings.n_prompts,
        n_prompts_one_response=int(np.sum(size == 1)),
        n_prompts_human_tied=int(np.sum((size > 1) & (ratings.ordered_pairs() == 0))),
        n_prompts_measured=ordered.n_prompts,
        n_prompts_fully_scored=int(np.sum(by_outcome[3] == 0)),
        n_pairs=ratings.one.size,
        n_pairs_human_tied=ratings.one.size - (right + tied + wrong + unscored),
        n_pairs_right=right,
        n_pairs_score_tied=tied,
        n_pairs_wrong=wrong,
        n_pairs_unscored=unscored,
    )
