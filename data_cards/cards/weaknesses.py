"""The "known weaknesses" of a card: what anybody who trains on these rows should hear first, with the run's figures.

General ones (no person has read the rows) stand for every run; the others only where the figures show them. A limit
below is where a reader should look, not where the data becomes bad; the audits decide that.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfreward.data_cards.cards.facts import RunFacts
from selfreward.data_cards.cards.iterations import IterationFacts
from selfreward.funnel import PAPER_PAIRS

_LONGER_CHOSEN = 0.6
_ONE_SCORE = 0.5
_UNSCORED = 0.05
_FEW_PAIRS = 1000
_FEW_PROMPTS = 200
_WEAK_JUDGE = 0.65
"""The paper's SFT baseline, which never saw judging data, agrees with people on 65.1 % of the pairs (table 4)."""


def weaknesses(facts: RunFacts) -> list[str]:
    """One sentence each."""
    found = list(_general(facts))
    for iteration in facts.iterations:
        found += _of_iteration(iteration)
    found += _of_judges(facts)
    found += _of_evaluation(facts)
    return found


def _general(facts: RunFacts) -> Iterator[str]:
    if facts.iterations:
        yield (
            "Prompts, answers and scores were written by language models, and no person has read them one by one; they "
            "can be wrong, unsafe or unfair."
        )
    if facts.iterations and facts.judges_itself:
        yield (
            "The judge is the model that is being trained (or its ancestor), so its preferences feed back into "
            "its own training data; errors it shares with the answers are not seen."
        )
    if "embedded" in facts.sources:
        yield (
            "The embedded seeds were written, ranked and judged for the selfreward project, not by independent people; "
            "agreement with their ranking is agreement with that."
        )
    if facts.imported:
        yield f"Rows of {', '.join(facts.imported)} were brought from outside; how they were made is not recorded here."
    if facts.languages:
        yield f"Seeds are in {', '.join(facts.languages)} only; nothing is known about other languages."


def _of_iteration(iteration: IterationFacts) -> Iterator[str]:
    where = f"Iteration {iteration.number}"
    total = sum(iteration.statuses.values())
    unscored = total - iteration.statuses.get("ok", 0)
    if total and unscored / total > _UNSCORED:
        yield (
            f"{where}: {unscored:,} of {total:,} judgements ({_percent(unscored / total)}) carry no readable score; their "
            "candidates' means rest on fewer judgements."
        )
    n_scored = sum(n for _, n in iteration.histogram)
    if n_scored:
        score, n = max(iteration.histogram, key=lambda entry: entry[1])
        if n / n_scored > _ONE_SCORE:
            yield f"{where}: {_percent(n / n_scored)} of the scores are {score:g}; the judge tells few answers apart."
    longer = iteration.lengths.longer_chosen
    if longer is not None and longer > _LONGER_CHOSEN:
        yield f"{where}: the chosen answer is the longer one in {_percent(longer)} of the pairs (50 % would be no preference)."
    n_pairs = len(iteration.lengths.chosen)
    if 0 < n_pairs < _FEW_PAIRS:
        paper = PAPER_PAIRS.get(iteration.number)
        beside = f"; the paper has {paper:,} here" if paper else ""
        yield f"{where}: {n_pairs:,} pairs are a small set{beside}."


def _of_judges(facts: RunFacts) -> Iterator[str]:
    if facts.iterations and not facts.judges:
        yield "The judge was not compared with a ranking that it was not trained on."
    for judge in facts.judges:
        if judge.agreement and judge.agreement.get("value") is not None:
            value, n = judge.agreement["value"], judge.agreement.get("n", 0)
            if value < _WEAK_JUDGE:
                yield (
                    f"{judge.model} as a judge orders {_percent(value, 1)} of {n:,} pairs as they are ranked (ties count "
                    "half; a coin gets 50 %)."
                )
        elif judge.judgements:
            yield f"{judge.model} as a judge gave too few readable scores to be compared with the ranking."


def _of_evaluation(facts: RunFacts) -> Iterator[str]:
    for row in facts.alpaca:
        n = row.get("n_annotated")
        if n == 0:
            failed = f" ({row['failed']})" if row.get("failed") else ""
            yield (
                f"{row['model']} has no win rate: none of the judge's {row.get('n_total')} verdicts could be read{failed}."
            )
        elif n is not None and n < _FEW_PROMPTS:
            yield f"The win rate of {row['model']} rests on {n} prompts; read its interval, not the figure."


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"
