"""The paper's five measures as sums per prompt (defined in `selfreward.judging.agreement.agreement`).

`Ratings` holds the responses as arrays and lists every pair within a prompt once; everything else is counted from
those pairs with numpy, per prompt, so that a bootstrap over prompts only repeats the additions.
Not promised: prompts with tens of thousands of responses, whose pairs would not fit into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from selfreward.judging.agreement.rating_tables import Columns
from selfreward.statistics import Floats, Share, count_by, ratio

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Ratings:
    """Responses in canonical order, and all their pairs."""

    prompt: Index
    n_prompts: int
    human: Floats
    """Higher is better."""
    score: Floats
    """NaN is unscored."""
    n_chars: Floats
    """All NaN if the table has no lengths."""
    one: Index
    other: Index
    """Positions of the two responses of each pair within a prompt, each pair once."""

    @classmethod
    def of(cls, columns: Columns) -> Ratings:
        human_rank = columns.get("human_rank")
        human = np.array(columns["human_score"] if human_rank is None else human_rank, dtype=np.float64)
        # Means of samples differ in their last bits; scores closer than 1e-9 must tie.
        score = np.array(columns["score"], dtype=np.float64).round(9)
        n_chars = _lengths(columns)
        codes = prompt_codes(columns)
        # Sums of floats depend on their order: sorted, the order of rows in the file cannot change a result.
        order = np.lexsort((n_chars, score, human, codes))
        human = human if human_rank is None else -human
        return cls.build(codes[order], human[order], score[order], n_chars[order])

    @classmethod
    def build(cls, prompt: Index, human: Floats, score: Floats, n_chars: Floats) -> Ratings:
        """From arrays sorted by prompt, the prompts being 0, 1, 2, …"""
        sizes = np.bincount(prompt)
        one, other = _pairs(sizes)
        return cls(prompt, sizes.size, human, score, n_chars, one, other)

    @property
    def has_lengths(self) -> bool:
        return not bool(np.isnan(self.n_chars).any())

    def only_prompts(self, wanted: NDArray[np.bool_]) -> Ratings:
        rows = wanted[self.prompt]
        codes = np.cumsum(wanted) - 1
        return Ratings.build(codes[self.prompt[rows]], self.human[rows], self.score[rows], self.n_chars[rows])

    def count(self, pairs: NDArray[np.bool_]) -> Floats:
        """How many of the marked pairs each prompt has."""
        return count_by(self.prompt[self.one], pairs, self.n_prompts)

    def ordered_pairs(self) -> Floats:
        return self.count(self.human[self.one] != self.human[self.other])


def prompt_codes(columns: Columns) -> Index:
    return np.unique(np.array(columns["prompt_id"], dtype=object), return_inverse=True)[1].astype(np.intp)


def _lengths(columns: Columns) -> Floats:
    if "n_chars" in columns:
        return np.array(columns["n_chars"], dtype=np.float64)
    if "response" in columns:
        return np.array([len(text) for text in columns["response"]], dtype=np.float64)
    return np.full(len(columns["score"]), np.nan)


def _pairs(sizes: Index) -> tuple[Index, Index]:
    """Positions of all pairs within blocks of these sizes; blocks of one size are done together."""
    starts = np.cumsum(sizes) - sizes
    one, other = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
    for size in np.unique(sizes):
        first, second = np.triu_indices(size, k=1)
        offsets = starts[sizes == size][:, None]
        one.append((offsets + first).ravel())
        other.append((offsets + second).ravel())
    return np.concatenate(one), np.concatenate(other)


def outcomes(ratings: Ratings, score: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Per prompt, of the pairs that people order: right, tied, wrong, unscored."""
    human_gap = ratings.human[ratings.one] - ratings.human[ratings.other]
    gap = (score[ratings.one] - score[ratings.other]) * np.sign(human_gap)
    ordered = human_gap != 0
    kinds = (gap > 0, gap == 0, gap < 0, np.isnan(gap))
    right, tied, wrong, unscored = (ratings.count(ordered & kind) for kind in kinds)
    return right, tied, wrong, unscored


def judge_shares(
    ratings: Ratings, perfect: NDArray[np.bool_], *, unscored_wrong: bool = False
) -> dict[str, Share]:
    """The measures of `ratings.score`, as sums per prompt; every prompt has a pair that people order."""
    right, tied, wrong, unscored = outcomes(ratings, ratings.score)
    failed = unscored if unscored_wrong else np.zeros_like(unscored)
    complete = unscored == 0
    counted = np.ones_like(right) if unscored_wrong else complete.astype(np.float64)
    scored = right + tied + wrong
    shares = {
        # Left out is the variant that fits the paper's own figures: were ties half right, its 78.7 % would
        # put tau near 0.57 (2 * 0.787 - 1), not 0.253.
        "pairwise_ties_left_out": Share(right, right + wrong + failed, "pairs"),
        "pairwise_ties_half": Share(right + tied / 2, scored + failed, "pairs"),
        "pairwise_ties_wrong": Share(right, scored + failed, "pairs"),
        "five_best": _five_best(ratings, perfect),
        "exact_match": Share((complete & (tied + wrong == 0)).astype(np.float64), counted, "prompts"),
    }
    eligible = np.ones_like(complete) if unscored_wrong else scored > 0
    for name, correlation in correlations(ratings, ratings.human, ratings.score).items():
        # A judge must not gain by refusing the responses that are hard to rank.
        if unscored_wrong:
            correlation = np.where(complete, correlation, 0.0)
        shares |= mean_correlation(name, correlation, eligible)
    return shares


def mean_correlation(name: str, correlation: Floats, eligible: NDArray[np.bool_]) -> dict[str, Share]:
    """The mean with undefined as 0, and the mean over the defined ones."""
    # Undefined where all scores of a prompt tie. It counts 0, since a judge that gives everything the same
    # score knows nothing; left out, such a judge would look better than one that tries.
    defined = eligible & np.isfinite(correlation)
    total = np.where(defined, correlation, 0.0)
    n_undefined = int(np.sum(eligible & ~defined))
    return {
        name: Share(total, eligible.astype(np.float64), "prompts", n_undefined),
        f"{name}_defined": Share(total, defined.astype(np.float64), "prompts", n_undefined),
    }


def _five_best(ratings: Ratings, perfect: NDArray[np.bool_]) -> Share:
    """Of the responses with a perfect score, those that no other answer to the prompt outranks."""
    best = ratings.human == _largest(ratings, ratings.human)
    given = count_by(ratings.prompt, perfect, ratings.n_prompts)
    return Share(count_by(ratings.prompt, perfect & best, ratings.n_prompts), given, "responses")


def _largest(ratings: Ratings, values: Floats) -> Floats:
    """For each response the largest value of its prompt, NaN ignored."""
    largest = np.full(ratings.n_prompts, -np.inf)
    np.fmax.at(largest, ratings.prompt, values)
    return largest[ratings.prompt]


def correlations(ratings: Ratings, x: Floats, y: Floats) -> dict[str, Floats]:
    """Spearman and Kendall tau-b of x and y within each prompt, over responses that have both; NaN if undefined."""
    present = ~np.isnan(x) & ~np.isnan(y)
    pairs = present[ratings.one] & present[ratings.other]
    one, other = ratings.one[pairs], ratings.other[pairs]
    prompt = ratings.prompt[one]
    x_gap, y_gap = np.sign(x[one] - x[other]), np.sign(y[one] - y[other])
    agreeing = count_by(prompt, x_gap * y_gap, ratings.n_prompts)
    x_ordered = count_by(prompt, x_gap != 0, ratings.n_prompts)
    y_ordered = count_by(prompt, y_gap != 0, ratings.n_prompts)
    # A response's midrank, measured from the mean rank of its prompt, is half the number of responses it
    # beats minus those that beat it: Pearson's correlation of midranks is that of these sums (mean 0).
    x_rank, y_rank = (_net_wins(one, other, gap, ratings.prompt.size) for gap in (x_gap, y_gap))
    covariance = count_by(ratings.prompt, x_rank * y_rank, ratings.n_prompts)
    x_variance = count_by(ratings.prompt, x_rank**2, ratings.n_prompts)
    y_variance = count_by(ratings.prompt, y_rank**2, ratings.n_prompts)
    return {
        "spearman": ratio(covariance, np.sqrt(x_variance * y_variance)),
        "kendall_tau": ratio(agreeing, np.sqrt(x_ordered * y_ordered)),
    }


def _net_wins(one: Index, other: Index, gap: Floats, n_rows: int) -> Floats:
    return count_by(one, gap, n_rows) - count_by(other, gap, n_rows)


def similar_length_share(ratings: Ratings) -> Share:
    """Agreement, ties half, over the pairs whose lengths differ by at most a tenth of the longer: no rule of length helps."""
    one, other = ratings.n_chars[ratings.one], ratings.n_chars[ratings.other]
    alike = np.abs(one - other) <= 0.1 * np.maximum(one, other)
    right, tied, wrong, _ = outcomes(
        replace(ratings, one=ratings.one[alike], other=ratings.other[alike]), ratings.score
    )
    return Share(right + tied / 2, right + tied + wrong, "pairs")


def longest_shares(ratings: Ratings, *, where_scored: bool = False) -> dict[str, Share]:
    """The judge whose score is the length; its five goes to the longest answer, to all of them if several are."""
    hidden = np.isnan(ratings.score) if where_scored else np.zeros(ratings.score.size, dtype=np.bool_)
    n_chars = np.where(hidden, np.nan, ratings.n_chars)
    return judge_shares(replace(ratings, score=n_chars), n_chars == _largest(ratings, n_chars))


def random_shares(ratings: Ratings) -> dict[str, Share]:
    """Expected values for a random strict order: 1/2, the share of best responses, 1/orders, 0 and 0."""
    ordered = ratings.ordered_pairs()
    one = np.ones(ratings.n_prompts)
    size = np.bincount(ratings.prompt)
    best = count_by(ratings.prompt, ratings.human == _largest(ratings, ratings.human), ratings.n_prompts)
    half = Share(ordered / 2, ordered, "pairs")
    nothing = Share(0 * one, one, "prompts")
    return {
        "pairwise_ties_left_out": half,
        "pairwise_ties_half": half,
        "pairwise_ties_wrong": half,
        "five_best": Share(best / size, one, "responses"),
        "exact_match": Share(_chance_of_exact_match(ratings), one, "prompts"),
        **dict.fromkeys(("spearman", "kendall_tau", "spearman_defined", "kendall_tau_defined"), nothing),
    }


def _chance_of_exact_match(ratings: Ratings) -> Floats:
    """Share of all n! orders that fit the human one: free order within each group tied by people."""
    groups = np.unique(np.column_stack([ratings.prompt, ratings.human]), axis=0, return_counts=True)
    # In logarithms: 171! overflows a float.
    log_factorial = np.vectorize(lambda n: math.lgamma(n + 1), otypes=[np.float64])
    fitting = count_by(groups[0][:, 0].astype(np.intp), log_factorial(groups[1]), ratings.n_prompts)
    chance: Floats = np.exp(fitting - log_factorial(np.bincount(ratings.prompt)))
    return chance
