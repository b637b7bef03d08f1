"""The MT-Bench result: ratings parsed from judgements, mean scores with intervals, and the printed form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from selfreward.engines.base import Completion
from selfreward.evaluation.measure import Result
from selfreward.judging.parsing.scores import parse_score
from selfreward.statistics import Figure, Resampler, Share, share_figures

LOWEST, HIGHEST = 1.0, 10.0
HARD = ("math", "coding", "reasoning")
"""The paper reports these three together, and all others together."""


@dataclass(frozen=True, slots=True)
class MtBenchRow:
    """One answered turn and its grade; row of the table `mt_bench`."""

    evaluation_id: str
    row_id: str
    question_id: str
    category: str
    turn: int
    question: str
    answer: str | None
    n_chars: int | None
    model: str
    judge: str
    template: str
    rating: float | None
    """1 to 10; NULL unless `status` is `ok`."""
    status: str
    """`ok`, `missing_answer`, or why the judgement has no rating."""
    judgement: str | None
    injection_suspected: bool
    """The answer holds a rating or a delimiter of the judge's prompt."""


@dataclass(frozen=True, slots=True)
class MtBenchResult(Result):
    """Mean ratings (1 to 10) with 95 % bootstrap intervals over questions."""

    model: str
    judge: str
    score: Figure
    by_turn: dict[str, Figure]
    by_category: dict[str, Figure]
    hard: Figure
    """Math, coding and reasoning, as the paper groups them."""
    others: Figure
    by_status: dict[str, int]
    avg_length: float | None
    n_suspected: int
    rows: tuple[MtBenchRow, ...]

    def parts(self) -> Iterator[tuple[str | None, Figure]]:
        """(part, figure) for the table of figures; None is the whole."""
        yield None, self.score
        yield from self.by_turn.items()
        yield from self.by_category.items()
        yield "math, coding, reasoning", self.hard
        yield "other categories", self.others

    def text(self) -> str:
        """Scores by turn and category, and the excluded answers."""
        width = max(len(part or "all") for part, _ in self.parts())
        lines = [f"{self.model} on MT-Bench, graded 1 to 10 by {self.judge}"]
        for part, figure in self.parts():
            value = "n/a" if figure.value is None else f"{figure.value:5.2f}"
            has_interval = figure.low is not None and figure.high is not None
            interval = f"  [{figure.low:.2f}, {figure.high:.2f}]" if has_interval else ""
            lines.append(f"  {part or 'all':<{width}}  {value}{interval}  ({figure.n} turns)")
        statuses = ", ".join(f"{status} {n}" for status, n in self.by_status.items())
        lines.append(f"judgements: {statuses}; unrated answers are excluded from the means")
        if self.avg_length is not None:
            lines.append(f"answers: {self.avg_length:,.0f} characters on average")
        if self.n_suspected:
            lines.append(f"warning: {self.n_suspected} answers hold a rating or parts of the judge's prompt")
        return "\n".join(lines)


def parse_rating(completion: Completion) -> tuple[float | None, str]:
    """The last `[[n]]` of a judgement, and its status; read as `judge parse` reads, reasoning and quotations aside.

    >>> parse_rating(Completion("r", 0, "It says [[10]], which is vain. Rating: [[3]]", "stop", 9))
    (3.0, 'ok')
    >>> parse_rating(Completion("r", 0, "Rating: [[11]]", "stop", 9))
    (None, 'out_of_range')
    """
    # the last one: an earlier rating may be quoted from the answer; `[n]` and reasoning blocks are not read
    parsed = parse_score(completion.text, completion.finish_reason, LOWEST, HIGHEST, bracketed=True)
    return parsed.score, parsed.status


def summarise(rows: Sequence[MtBenchRow]) -> MtBenchResult:
    """Means over turns with a rating."""
    # a question is the unit of the bootstrap, so that its two turns, which are dependent, stay together
    questions = {question_id: n for n, question_id in enumerate(dict.fromkeys(r.question_id for r in rows))}

    def mean(turns: Sequence[int] = (1, 2), only: Sequence[str] = (), but: Sequence[str] = ()) -> Share:
        total, n = np.zeros(len(questions)), np.zeros(len(questions))
        meant = [
            row
            for row in rows
            if row.turn in turns and (not only or row.category in only) and row.category not in but
        ]
        for row in meant:
            if row.rating is not None:
                total[questions[row.question_id]] += row.rating
                n[questions[row.question_id]] += 1
        return Share(total, n, "turns", sum(row.rating is None for row in meant))

    categories = list(dict.fromkeys(row.category for row in rows))
    shares = {"score": mean(), "hard": mean(only=HARD), "others": mean(but=HARD)}
    shares |= {f"turn {turn}": mean(turns=(turn,)) for turn in (1, 2)}
    shares |= {f"category {category}": mean(only=(category,)) for category in categories}
    figures = share_figures(shares, Resampler(len(questions), 2000))
    lengths = [row.n_chars for row in rows if row.n_chars is not None]
    return MtBenchResult(
        model=rows[0].model,
        judge=rows[0].judge,
        score=figures["score"],
        by_turn={f"turn {turn}": figures[f"turn {turn}"] for turn in (1, 2)},
        by_category={category: figures[f"category {category}"] for category in categories},
        hard=figures["hard"],
        others=figures["others"],
        by_status=dict(Counter(row.status for row in rows).most_common()),
        avg_length=sum(lengths) / len(lengths) if lengths else None,
        n_suspected=sum(row.injection_suspected for row in rows),
        rows=tuple(rows),
    )
