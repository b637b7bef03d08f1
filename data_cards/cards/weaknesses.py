"""The "known weaknesses" of a card: what to know before training on these rows, with the run's figures.

General weaknesses (no person has read the rows) apply to every run; the others appear only if the figures show them.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfreward.data_cards.cards.facts import RunFacts
from selfreward.summary.facts import Iteration
from selfreward.summary.paper import paper_count, paper_value

# at these limits a reader should look; whether the data is bad is decided by the audits
_LONGER_CHOSEN = 0.6
_ONE_SCORE = 0.5
_UNSCORED = 0.05
_FEW_PAIRS = 1000
_FEW_PROMPTS = 200
_WEAK_JUDGE = (paper_value("judge", "pairwise_ties_left_out", "SFT") or 0) / 100
"""The paper's SFT baseline, which never saw judging data (table 4)."""


def weaknesses(facts: RunFacts) -> list[str]:
    """One sentence each, outdated versions first."""
    outdated = facts.summary.outdated.items()
    found = [
        f"{name} is outdated ({why}); its rows and figures do not belong to the other versions here."
        for name, why in outdated
    ]
    found += _general(facts)
    for iteration in facts.summary.iterations:
        found += _of_iteration(iteration)
    found += _of_judges(facts)
    found += _of_evaluation(facts)
    return found


def _general(facts: RunFacts) -> Iterator[str]:
    if facts.summary.iterations:
        yield (
            "Prompts, answers and scores were written by language models, and no person has read them one by one; they "
            "can be wrong, unsafe or unfair."
        )
    if facts.summary.iterations and facts.judges_itself:
        yield (
            "The judge is the model that is being trained (or its ancestor), so its preferences feed back into "
            "its own training data; errors it shares with the answers go unnoticed."
        )
    if "embedded" in facts.origin.sources:
        yield (
            "The embedded seeds were written, ranked and judged for the selfreward project, not by independent people; "
            "agreement with their ranking is not agreement with humans."
        )
    if facts.imported:
        yield f"Rows of {', '.join(facts.imported)} were imported; how they were made is not recorded here."
    if facts.origin.languages:
        yield f"Seeds are in {', '.join(facts.origin.languages)} only; nothing is known about other languages."


def _of_iteration(iteration: Iteration) -> Iterator[str]:
    where = f"Iteration {iteration.number}"
    total = sum(iteration.statuses.values())
    unscored = total - iteration.statuses.get("ok", 0)
    if total and unscored / total > _UNSCORED:
        yield (
            f"{where}: {unscored:,} of {total:,} judgements ({_percent(unscored / total)}) have no readable score; their "
            "candidates' means use fewer judgements."
        )
    n_scored = sum(n for _, n in iteration.histogram)
    if n_scored:
        score, n = max(iteration.histogram, key=lambda entry: entry[1])
        if n / n_scored > _ONE_SCORE:
            yield f"{where}: {_percent(n / n_scored)} of the scores are {score:g}; the judge distinguishes few answers."
    longer = iteration.lengths.longer_chosen
    if longer is not None and longer > _LONGER_CHOSEN:
        yield f"{where}: the chosen answer is the longer one in {_percent(longer)} of the pairs (50 % means no preference)."
    n_pairs = len(iteration.lengths.chosen)
    if 0 < n_pairs < _FEW_PAIRS:
        paper = paper_count("pairs", f"M{iteration.number + 1}")
        beside = f"; the paper has {paper:,} here" if paper else ""
        yield f"{where}: {n_pairs:,} pairs are a small dataset{beside}."


def _of_judges(facts: RunFacts) -> Iterator[str]:
    if facts.summary.iterations and not facts.summary.judges:
        yield "The judge was not compared with a ranking that it was not trained on."
    for judge in facts.summary.judges:
        figure = judge.accuracy
        if figure and figure.value is not None:
            if figure.value < _WEAK_JUDGE:
                yield (
                    f"{judge.model} as a judge agrees with the ranking on {_percent(figure.value, 1)} of {figure.n:,} pairs "
                    "(ties count half; chance is 50 %)."
                )
        elif judge.judgements:
            yield f"{judge.model} as a judge gave too few readable scores to be compared with the ranking."


def _of_evaluation(facts: RunFacts) -> Iterator[str]:
    for rate in facts.summary.win_rates:
        n = rate.figures.n_annotated
        if n == 0:
            failed = f" ({rate.notes.failures})" if rate.notes.failures else ""
            yield (
                f"{rate.model} has no win rate: none of the judge's {rate.figures.n_total} verdicts could be read{failed}."
            )
        elif n is not None and n < _FEW_PROMPTS:
            yield f"The win rate of {rate.model} is based on {n} prompts; rely on its interval, not the point estimate."


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"
