"""Verdicts on pairs of responses: agreement among people, of a judge with people, of a judge with itself.

A verdict is 0 (tie), 1 (the first response is better), 2 (the second) or None (the judge gave none: unscored).

Promised: every share comes with its n and a bootstrap interval over pairs; a split majority and an unscored
verdict are counted. Not promised: weights for annotators of different care, or more than these three verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreward.errors import InputError
from selfreward.statistics import Figure, Mask, Resampler, Share, alpha_figure, share_figures

Verdict = int | None

VERDICTS = {0: "tie", 1: "first", 2: "second"}


@dataclass(frozen=True, slots=True)
class AnnotatorAgreement:
    """Agreement of annotators with each other: the level that a judge can be expected to reach.

    `pairwise`: of all pairs of annotators' verdicts on the same item, those that are equal.
    `leave_one_out`: of all single verdicts, those equal to the majority of the other annotators, where a split
    among them counts as their tie; `leave_one_out_decided` leaves split ones out. `alpha`: Krippendorff's, nominal.
    """

    n_pairs: int
    n_annotators: int
    majority_counts: dict[str, int]
    n_no_majority: int
    unanimous: Figure
    pairwise: Figure
    leave_one_out: Figure
    leave_one_out_decided: Figure
    alpha: Figure

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class VerdictAgreement:
    """A judge's verdicts against the majority of people; all figures are shares of pairs.

    `accuracy`: of the scored pairs, the same verdict (tie included). `accuracy_unscored_wrong`: of all pairs.
    `accuracy_no_ties`: of the pairs with a winner for both people and judge. `commonest`: the accuracy of a
    judge that always gives the most common human verdict. `confusion[people][judge]` counts pairs.
    """

    n_pairs: int
    n_unscored: int
    accuracy: Figure
    accuracy_unscored_wrong: Figure
    accuracy_no_ties: Figure
    commonest: Figure
    confusion: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PositionFlips:
    """A pairwise judge asked twice, the responses swapped the second time; shares of pairs with both verdicts.

    `flipped`: the two verdicts do not name the same response (or both a tie). Its parts: `first_twice` and
    `second_twice`, the winner was the one shown first (second) both times; the rest is a tie once.
    """

    n_pairs: int
    n_unscored: int
    flipped: Figure
    first_twice: Figure
    second_twice: Figure
    tie_once: Figure

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def majority_verdict(verdicts: Sequence[int]) -> int:
    """The verdict of more than half; a tie (0) if no verdict has more than half.

    >>> majority_verdict([1, 1, 2]), majority_verdict([0, 1, 2])
    (1, 0)
    """
    verdict, count = Counter(verdicts).most_common(1)[0]
    return verdict if 2 * count > len(verdicts) else 0


def has_majority(verdicts: Sequence[int]) -> bool:
    """Whether one verdict has more than half."""
    return 2 * max(Counter(verdicts).values()) > len(verdicts)


def annotator_agreement(
    verdicts: Sequence[Sequence[int]], *, n_bootstrap: int = 1000, seed: int = 0
) -> AnnotatorAgreement:
    """Agreement of the annotators with each other; `verdicts[k]` are all annotators' verdicts on pair k."""
    table = np.array(verdicts, dtype=np.intp)
    if table.ndim != 2 or table.shape[1] < 2:
        raise InputError(
            f"Annotators are compared on a table of pairs by two annotators or more, not {table.shape}."
        )
    n_pairs, n_annotators = table.shape
    resampler = Resampler(n_pairs, n_bootstrap, seed)
    equal = np.stack([table[:, a] == table[:, b] for a, b in combinations(range(n_annotators), 2)], axis=1)
    others = [np.delete(table, left_out, axis=1) for left_out in range(n_annotators)]
    rest = np.stack([_per_row(majority_verdict, other) for other in others], axis=1)
    decided = np.stack([_per_row(has_majority, other) for other in others], axis=1).astype(bool)
    majority = Counter(majority_verdict(row) for row in table.tolist())
    every = np.ones_like(decided)
    unanimous: Mask = np.all(table == table[:, :1], axis=1)
    shares = {
        "unanimous": _share(unanimous[:, None], every[:, :1], "pairs"),
        "pairwise": _share(equal, np.ones_like(equal), "pairs of verdicts"),
        "leave_one_out": _share(table == rest, every, "verdicts"),
        "leave_one_out_decided": _share((table == rest) & decided, decided, "verdicts"),
    }
    return AnnotatorAgreement(
        n_pairs=n_pairs,
        n_annotators=n_annotators,
        majority_counts={name: majority[verdict] for verdict, name in VERDICTS.items()},
        n_no_majority=sum(not has_majority(row) for row in table.tolist()),
        alpha=alpha_figure(table.tolist(), "nominal", np.arange(n_pairs), resampler, "pairs"),
        **share_figures(shares, resampler),
    )


def verdict_agreement(
    judge_verdicts: Sequence[Verdict], majority: Sequence[int], *, n_bootstrap: int = 1000, seed: int = 0
) -> VerdictAgreement:
    """A judge against the majority of people, pair by pair; None is an unscored verdict."""
    judge, people = _codes(judge_verdicts, "judge"), _codes(majority, "majority")
    _same_length(judge, people, "judge's verdicts", "majority verdicts")
    scored, same = judge >= 0, judge == people
    winners = scored & (judge != 0) & (people != 0)
    every = np.ones_like(scored)
    shares = {
        "accuracy": _share(same & scored, scored, "pairs"),
        "accuracy_unscored_wrong": _share(same & scored, every, "pairs"),
        "accuracy_no_ties": _share(same & winners, winners, "pairs"),
        "commonest": _share(people == np.argmax(np.bincount(people, minlength=3)), every, "pairs"),
    }
    names = {**VERDICTS, -1: "unscored"}
    counts = Counter(zip(people.tolist(), judge.tolist(), strict=True))
    return VerdictAgreement(
        n_pairs=people.size,
        n_unscored=int(np.sum(~scored)),
        confusion={VERDICTS[p]: {name: counts[p, j] for j, name in names.items()} for p in VERDICTS},
        **share_figures(shares, Resampler(people.size, n_bootstrap, seed)),
    )


def verdicts_from_scores(first: Sequence[float | None], second: Sequence[float | None]) -> list[Verdict]:
    """A pointwise judge's verdicts: the higher score wins, equal (within 1e-9) is a tie, None if either is unscored.

    >>> verdicts_from_scores([4.0, 3.0, 2.0, None], [3.0, 3.0, 5.0, 1.0])
    [1, 0, 2, None]
    """
    return [_compare(one, other) for one, other in zip(first, second, strict=True)]


def position_flips(
    verdicts_ab: Sequence[Verdict], verdicts_ba: Sequence[Verdict], *, n_bootstrap: int = 1000, seed: int = 0
) -> PositionFlips:
    """How often a pairwise judge changes its mind when the two responses change places.

    Both lists name the *position* that won (1: shown first), as a judge says it: a consistent judge says 1, then 2.
    """
    ab, ba = _codes(verdicts_ab, "verdicts_ab"), _codes(verdicts_ba, "verdicts_ba")
    _same_length(ab, ba, "verdicts in the first order", "in the swapped one")
    both = (ab >= 0) & (ba >= 0)
    # In the second order position 1 shows the other response; ties and unscored have no position.
    swapped = np.where(ba > 0, 3 - ba, ba)
    shares = {
        "flipped": _share(both & (ab != swapped), both, "pairs"),
        "first_twice": _share(both & (ab == 1) & (ba == 1), both, "pairs"),
        "second_twice": _share(both & (ab == 2) & (ba == 2), both, "pairs"),
        "tie_once": _share(both & ((ab == 0) != (ba == 0)), both, "pairs"),
    }
    figures = share_figures(shares, Resampler(ab.size, n_bootstrap, seed))
    return PositionFlips(n_pairs=ab.size, n_unscored=int(np.sum(~both)), **figures)


def _per_row(of_row: Callable[[Sequence[int]], int], table: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.array([of_row(row) for row in table.tolist()], dtype=np.intp)


def _share(counted: Mask, among: Mask, of: str) -> Share:
    """Row sums as a share; a single column is its own sum."""
    counted, among = np.atleast_2d(counted.T).T, np.atleast_2d(among.T).T
    return Share(counted.sum(axis=1, dtype=np.float64), among.sum(axis=1, dtype=np.float64), of)


def _codes(verdicts: Sequence[Verdict], name: str) -> NDArray[np.intp]:
    """Verdicts as an array, unscored as -1 (within this module only)."""
    for row, verdict in enumerate(verdicts, start=1):
        if verdict is not None and verdict not in VERDICTS:
            raise InputError(
                f"{name}, row {row}: found {verdict!r:.60}; a verdict is 0 (tie), 1, 2 or None (unscored)."
            )
    return np.array([-1 if verdict is None else int(verdict) for verdict in verdicts], dtype=np.intp)


def _same_length(one: NDArray[np.intp], other: NDArray[np.intp], name: str, other_name: str) -> None:
    if one.size != other.size or not one.size:
        raise InputError(
            f"There are {one.size} {name} and {other.size} {other_name}; one of each per pair was expected."
        )


def _compare(one: float | None, other: float | None) -> Verdict:
    if one is None or other is None or one != one or other != other:
        return None
    # As in `Ratings`: means closer than 1e-9 tie.
    gap = round(one, 9) - round(other, 9)
    return 0 if gap == 0 else 1 if gap > 0 else 2
