"""A small run built from rows, without a model: clean in the eyes of every audit, unless a test plants a defect.

    run = make_sample_run(tmp_path, iter1_pairs=lambda rows: [replace(rows[0], margin=9.0), *rows[1:]])

Two iterations of 30 prompts (24 kept), 4 candidates each, 3 judgements each, pairs by the paper's rule; 40 `ift` rows,
20 `eft` prompts with 2 ranked replies each, and the seeds of both. Everything is drawn from one seeded generator.
With `meta=True` also the datasets of meta-rewarding (tests/helpers/sample_meta.py); the others stay as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sample_meta import judge_pairs, meta_judgements

from selfreward import tables
from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import (
    Candidate,
    Eft,
    Ift,
    Judgement,
    JudgePair,
    Message,
    MetaJudgement,
    Pair,
    Prompt,
    Score,
    Seed,
    row_id,
    to_table,
)

SAMPLES = 4
JUDGEMENTS = 3
Change = Callable[[list[Any]], list[Any]]


def _words(text: str) -> list[str]:
    return text.split()


_NOUNS = _words(
    "river bridge garden teacher engine letter market winter doctor island kitchen library mountain neighbour orchard "
    "painter quarry railway sailor theatre umbrella village window yoghurt bicycle candle dragon elephant feather "
    "glacier harbour insect jacket kettle lantern mirror needle ocean pepper rabbit saddle ticket uncle valley wagon"
)
_VERBS = _words(
    "carries follows repairs admires measures teaches paints covers finds protects warms cleans borrows describes "
    "improves notices opens praises questions reaches sells trusts uses visits weighs answers builds collects"
)
_ADJECTIVES = _words(
    "quiet narrow bright ancient careful distant eager famous gentle heavy icy jolly keen loyal modest noble odd plain "
    "quick rough silver tidy useful vivid wooden young angry brave clever damp early"
)
_QUESTIONS = (
    "Explain why the {a} {n} {v} the {b} {m}",
    "Write a story in which a {n} {v} every {a} {m}",
    "How would you compare the {a} {n} with the {b} {m}",
    "Which {b} {n} {v} its {a} {m}, and what for",
    "Summarise what is known about the {a} {n} that {v} a {b} {k}",
    "What should I ask the {a} {m} before it {v} my {b} {n}",
)
_STATEMENTS = (
    "The {a} {n} {v} the {b} {m} in the morning.",
    "It is known that a {n} {v} every {m} with the {b} {k}.",
    "You can see this when the {k} {v} that {a} {n}.",
    "For the {b} {m} there is a {a} {k}, and the {n} {v} it.",
    "If one {a} {n} {v} your {m}, the {k} is {b}.",
    "Nothing {v} this {m} as {b} as a {a} {n}.",
)


class Words:
    """Seeded English of a sort: grammatical, varied, about nothing."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def _slots(self) -> dict[str, str]:
        pick = self._rng.choice
        return {"n": pick(_NOUNS), "m": pick(_NOUNS), "k": pick(_NOUNS), "v": pick(_VERBS), "a": pick(_ADJECTIVES),
                "b": pick(_ADJECTIVES)}  # fmt: skip

    def prompt(self) -> str:
        return f"{self._sentences(1, 3)} {self._rng.choice(_QUESTIONS).format(**self._slots())}?"

    def answer(self) -> str:
        return self._sentences(3, 7)

    def _sentences(self, low: int, high: int) -> str:
        pick = self._rng.choice
        return " ".join(
            pick(_STATEMENTS).format(**self._slots()) for _ in range(self._rng.randint(low, high))
        )

    def number(self, low: int, high: int) -> int:
        return self._rng.randint(low, high)


def make_sample_run(
    path: Path, iterations: int = 2, model: str = "scripted:none", meta: bool = False, **defects: Change
) -> Run:
    """Publish the sample run under `path`; a defect is a function from a dataset's rows to its rows.

    `model` is what its configuration names as M0; audits of the tokenizer are skipped without one. A defect's name is the dataset's, `ift` or `iter1_pairs`; datasets made from a defective one see the defect, as in life,
    and a dataset for which the function returns no rows at all is not published.
    """
    kinds = ["prompts", "candidates", "judgements", "scores", "pairs"]
    kinds += ["meta_judgements", "judge_pairs"] if meta else []
    known = {"seeds", "ift", "eft", *(f"iter{k}_{kind}" for k in range(1, iterations + 1) for kind in kinds)}
    assert set(defects) <= known, f"no such datasets in the sample run: {set(defects) - known}"
    run = Run.create(path)
    (path / "config.yaml").write_text(f"model: {model}\n")
    words = Words(1)
    seeds = _seeds(words)
    _publish(run, "seeds", Seed, seeds, defects)
    ift = _publish(run, "ift", Ift, [_ift(seed) for seed in seeds if seed.seed_id.startswith("i")], defects)
    _publish(run, "eft", Eft, [_eft(seed) for seed in seeds if seed.seed_id.startswith("e")], defects)
    for k in range(1, iterations + 1):
        _publish_iteration(run, k, [row.ift_id for row in ift], words, defects, meta)
    return run


def publish_rows(
    run: Run, name: str, row_class: type, rows: list[Any], params: dict[str, Any] | None = None
) -> None:
    """Rows as the current version of `name`; the same rows are the same version."""
    table = to_table(rows, row_class)
    content = {"rows": {"name": "rows", "content_sha256": row_id("rows", str(table.to_pylist()))}}
    recipe = Recipe(name, "tests 1", content, params or {})
    found = run.find(recipe)
    if found is None:
        run.publish_table(recipe, table, Counts(len(rows), len(rows)))
    else:
        run.make_current(found)


def _publish(
    run: Run, name: str, row_class: type, rows: list[Any], defects: dict[str, Change], params: Any = None
) -> list[Any]:
    change = defects.get(name.replace("/", "_"))
    rows = change(rows) if change else rows
    if rows:
        publish_rows(run, name, row_class, rows, params)
    return rows


def _publish_iteration(
    run: Run, k: int, shown: list[str], words: Words, defects: dict[str, Change], meta: bool
) -> None:
    prompts = [_prompt(k, i, shown, words) for i in range(30)]
    prompts = _publish(run, f"iter{k}/prompts", Prompt, prompts, defects)
    kept = [p for p in prompts if p.kept]
    candidates = [_candidate(k, p.prompt_id, i, words) for p in kept for i in range(SAMPLES)]
    params = {"candidates": {"n": SAMPLES}}
    candidates = _publish(run, f"iter{k}/candidates", Candidate, candidates, defects, params)
    judgements = [j for c in candidates for j in _judgements(k, c, words)]
    params = {"judging": {"samples": JUDGEMENTS, "mode": "sampled"}}
    judgements = _publish(run, f"iter{k}/judgements", Judgement, judgements, defects, params)
    scores = _publish(run, f"iter{k}/scores", Score, _scores(judgements), defects)
    pairs = _pairs(k, kept, candidates, scores)
    _publish(run, f"iter{k}/pairs", Pair, pairs, defects)
    if meta:
        compared = meta_judgements(k, kept, candidates, judgements)
        compared = _publish(run, f"iter{k}/meta_judgements", MetaJudgement, compared, defects)
        of_judgements = judge_pairs(k, kept, candidates, judgements, compared)
        _publish(run, f"iter{k}/judge_pairs", JudgePair, of_judgements, defects)


def _seeds(words: Words) -> list[Seed]:
    def seed(seed_id: str, prompt_id: str, prompt: str, rank: int) -> Seed:
        return Seed(
            seed_id, prompt_id, prompt, words.answer(), rank, 0.5, "en", "It is fine.\nScore: 3", "sample"
        )

    ift = [seed(f"i{n}", f"sp{n}", words.prompt(), 0) for n in range(40)]
    eft_prompts = [words.prompt() for _ in range(20)]
    return ift + [
        seed(f"e{n}-{rank}", f"ep{n}", text, rank) for n, text in enumerate(eft_prompts) for rank in (0, 1)
    ]


def _ift(seed: Seed) -> Ift:
    messages = [Message("user", seed.prompt), Message("assistant", seed.response)]
    return Ift(
        row_id("ift", seed.seed_id),
        seed.prompt,
        seed.response,
        messages,
        "sample",
        seed.seed_id,
        0,
        0.5,
        "en",
    )


def _eft(seed: Seed) -> Eft:
    number = int(seed.prompt_id.removeprefix("ep"))
    split = "eval" if number % 4 == 0 else "train"
    score = 4.0 if seed.human_rank == 0 else 2.0
    target = None if split == "eval" else f"The answer covers what was asked.\nScore: {score:g}"
    judge_prompt = f"Judge this.\nUser: {seed.prompt}\n<response>{seed.response}</response>"
    return Eft(row_id("eft", seed.seed_id), split, seed.prompt_id, seed.prompt, seed.seed_id, seed.response,
               seed.human_rank or 0, judge_prompt, target, score if target else None, True, None, "sample",
               seed.seed_id)  # fmt: skip


def _prompt(k: int, number: int, shown: list[str], words: Words) -> Prompt:
    kept = number % 5 != 4
    demonstrations = [shown[(number * 8 + i) % len(shown)] for i in range(8)]
    return Prompt(row_id("p", k, number), k, words.prompt(), demonstrations, f"M{k}", kept,
                  None if kept else "not_novel", demonstrations[0], 0.3, 0, number)  # fmt: skip


def _candidate(k: int, prompt_id: str, sample: int, words: Words) -> Candidate:
    text = words.answer()
    return Candidate(row_id("c", prompt_id, sample), k, prompt_id, sample, text, "stop", len(text.split()), len(text),
                     f"M{k}", sample, None)  # fmt: skip


def _judgements(k: int, candidate: Candidate, words: Words) -> list[Judgement]:
    base = words.number(1, 4)
    scores = [float(base + (1 if words.number(0, 3) == 0 else 0)) for _ in range(JUDGEMENTS)]
    return [
        Judgement(
            row_id("j", candidate.candidate_id, i),
            k,
            candidate.prompt_id,
            candidate.candidate_id,
            i,
            f"M{k}",
            "template",
            "sampled",
            f"The response covers some of it.\nScore: {score:g}",
            score,
            "ok",
            "stop",
            12,
            1,
            False,
            i,
        )
        for i, score in enumerate(scores)
    ]


def _scores(judgements: list[Judgement]) -> list[Score]:
    groups: dict[tuple[str, ...], list[Judgement]] = {}
    for row in judgements:
        groups.setdefault((row.candidate_id, row.judge, row.template, row.judge_mode), []).append(row)
    result = []
    for (candidate_id, judge, template, mode), rows in groups.items():
        values = [row.score for row in rows if row.score is not None]
        mean = sum(values) / len(values) if values else None
        variance = sum((v - mean) ** 2 for v in values) / len(values) if values and mean is not None else None
        flagged = any(row.injection_suspected for row in rows)
        result.append(Score(candidate_id, judge, template, mode, rows[0].iteration, rows[0].prompt_id, mean, variance,
                            len(rows), len(values), flagged))  # fmt: skip
    return result


def _pairs(k: int, prompts: list[Prompt], candidates: list[Candidate], scores: list[Score]) -> list[Pair]:
    by_id = {c.candidate_id: c for c in candidates}
    pairs = []
    for prompt in prompts:
        ranked = sorted(
            (s.score, s.candidate_id)
            for s in scores
            if s.prompt_id == prompt.prompt_id and s.score is not None
        )
        if len(ranked) < 2 or ranked[0][0] == ranked[-1][0]:
            continue
        (low, rejected), (high, chosen) = ranked[0], ranked[-1]
        pairs.append(make_pair(k, prompt, by_id[chosen], by_id[rejected], high, low))
    return pairs


def make_pair(
    k: int, prompt: Prompt, chosen: Candidate, rejected: Candidate, high: float, low: float
) -> Pair:
    """A pair of two candidates with their scores."""
    return Pair(row_id("pair", chosen.candidate_id, rejected.candidate_id), k, prompt.prompt_id,
                [Message("user", prompt.prompt)], [Message("assistant", chosen.response)],
                [Message("assistant", rejected.response)], chosen.candidate_id, rejected.candidate_id, high, low,
                high - low, "max_min")  # fmt: skip


def changed(index: int, **values: Any) -> Change:
    """A defect: the row at `index` with other values."""
    return lambda rows: [replace(row, **values) if i == index else row for i, row in enumerate(rows)]


def every(**values: Any) -> Change:
    """A defect: all rows with other values; a callable value is given the row."""
    return lambda rows: [
        replace(row, **{k: v(row) if callable(v) else v for k, v in values.items()}) for row in rows
    ]


__all__ = [
    "JUDGEMENTS",
    "SAMPLES",
    "changed",
    "every",
    "make_pair",
    "make_sample_run",
    "publish_rows",
    "tables",
]
