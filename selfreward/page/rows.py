"""Five real rows of every kind, kept and dropped, always the same ones and nobody's choice: those with the smallest hash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from selfreward.page.figures import Fold, RealRow, RealRows, Source, literal
from selfreward.sql.queries import quoted

N_ROWS = 5


@dataclass(frozen=True)
class Behind:
    """A text of another dataset that a row names: `column` holds the id, `text` is what is shown."""

    kind: str
    column: str
    text: str
    said: str


@dataclass(frozen=True)
class Sample:
    """What is shown of one kind of row."""

    id: str
    title: str
    kind: str
    key: str
    facts: Sequence[str]
    texts: Sequence[str]
    where: str = ""
    behind: Sequence[Behind] = ()
    folded: Sequence[str] = ()
    """Texts that are shown when asked for."""


# Columns whose name says too little on a page.
_WORDS = {"output_1": "reference answer", "output_2": "the model's answer", "n_chars": "characters", "n_tokens": "tokens",
          "nearest_rouge_l": "ROUGE-L to the nearest", "preference": "preference (1 reference, 2 model)"}  # fmt: skip
_PROMPT = Behind("prompts", "prompt_id", "prompt", "the prompt")
_ANSWER = Behind("candidates", "candidate_id", "response", "the answer that it judges")
_RANKED = (
    Behind("eft", "eft_id", "prompt", "the prompt"),
    Behind("eft", "eft_id", "response", "the reply that it judges"),
)
_JUDGEMENT = ("score", "status", "injection_suspected", "finish_reason", "judge", "template", "attempts")
_PROMPT_FACTS = ("generator", "round", "nearest_rouge_l", "nearest_id")
_CANDIDATE = ("finish_reason", "n_tokens", "n_chars", "model", "sample")

BETTER = (
    Sample("rows-judge_eval", "judgements of ranked replies", "judge_eval", "eft_id",
           ("human_rank", "score", "status", "judge", "n_chars"), ("judgement",), behind=_RANKED),
    Sample("rows-annotations", "verdicts on answers to evaluation prompts", "annotations", "output_id",
           ("preference", "status", "order", "disagree", "annotator"), ("instruction", "output_1", "output_2")),
)  # fmt: skip
JUDGE = (
    Sample("rows-judgements", "judgements", "judgements", "judgement_id", _JUDGEMENT, ("judgement",), "score IS NOT NULL",
           (_ANSWER, _PROMPT)),
    Sample("rows-unscored", "judgements without a score", "judgements", "judgement_id", _JUDGEMENT, ("judgement",),
           "score IS NULL", (_ANSWER, _PROMPT)),
    Sample("rows-flagged", "judgements of answers that seem to speak to the judge", "judgements", "judgement_id", _JUDGEMENT,
           ("judgement",), "injection_suspected", (_ANSWER, _PROMPT)),
    Sample("rows-scores", "scores", "scores", "candidate_id",
           ("score", "score_variance", "n_judgements", "n_scored", "injection_suspected", "judge"), (),
           behind=(Behind("candidates", "candidate_id", "response", "the answer"), _PROMPT)),
)  # fmt: skip
DATA = (
    Sample("rows-seeds", "seeds", "seeds", "seed_id", ("human_rank", "quality", "source", "lang"), ("prompt", "response"),
           folded=("judgement",)),
    Sample("rows-ift", "instruction rows (ift)", "ift", "ift_id", ("human_rank", "quality", "source_id"),
           ("prompt", "response")),
    Sample("rows-eft", "judging rows to train on (eft)", "eft", "eft_id", ("split", "human_rank", "target_score", "source_id"),
           ("prompt", "response", "target"), "accepted AND split = 'train'", folded=("judge_prompt",)),
    Sample("rows-eft-dropped", "judging rows that were not accepted", "eft", "eft_id",
           ("reason", "split", "human_rank", "target_score"), ("prompt", "response", "target"), "NOT accepted"),
    Sample("rows-prompts", "prompts with their demonstrations", "prompts", "prompt_id", _PROMPT_FACTS, ("prompt",), "kept"),
    Sample("rows-prompts-dropped", "prompts that were dropped, with the reason", "prompts", "prompt_id",
           ("reason", *_PROMPT_FACTS), ("prompt",), "NOT kept"),
    Sample("rows-candidates", "candidates", "candidates", "candidate_id", _CANDIDATE, ("response",), "finish_reason = 'stop'",
           (_PROMPT,)),
    Sample("rows-candidates-dropped", "candidates that were cut off or failed", "candidates", "candidate_id",
           (*_CANDIDATE, "error"), ("response",), "finish_reason != 'stop'", (_PROMPT,)),
)  # fmt: skip


def real_rows(source: Source, samples: Sequence[Sample]) -> list[RealRows]:
    """Rows of the last iteration that has some; kinds without a row are left out."""
    found = [
        source.shown_rows(sample.id, sample.title.capitalize(), partial(_rows, source, sample))
        for sample in samples
        if source.last(sample.kind)
    ]
    return [rows for rows in found if rows.rows or rows.note]


def _rows(source: Source, sample: Sample) -> RealRows:
    dataset = source.last(sample.kind) or sample.kind
    iteration = dataset.rpartition("/")[0]
    queries: list[str] = []

    def ask(query: str, *needed: str) -> list[tuple[Any, ...]]:
        if not source.has(*needed):
            return []
        queries.append(query)
        return source.rows(query)

    linked = [one.column for one in sample.behind]
    columns = list(dict.fromkeys((sample.key, *sample.facts, *sample.texts, *sample.folded, *linked)))
    rows = f"{dataset.replace('/', '.')}{f' WHERE {sample.where}' if sample.where else ''}"
    # All columns, too: several rows may have one id, as those of one reply judged twice.
    listed = ", ".join(quoted(name) if name == "order" else name for name in columns)
    query = f"SELECT {listed} FROM {rows} ORDER BY md5({sample.key}), {listed} LIMIT {N_ROWS}"
    found = [dict(zip(columns, values, strict=True)) for values in ask(query)]
    texts = [_behind(ask, iteration, one, found) for one in sample.behind]
    shown = []
    for row in found:
        folds = [Fold(_word(name), [_text(row[name])]) for name in sample.folded if row[name] is not None]
        folds += [
            Fold(one.said, [_text(text[row[one.column]])])
            for one, text in zip(sample.behind, texts, strict=True)
            if row[one.column] in text
        ]
        if sample.kind == "prompts":
            demonstrations = demonstrations_of(ask, iteration, row[sample.key])
            folds.append(
                Fold(f"{len(demonstrations)} demonstrations that it was written from", demonstrations)
            )
        facts = [(_word(name), row[name]) for name in sample.facts if row[name] is not None]
        shown.append(
            RealRow(
                str(row[sample.key]), facts, [(_word(name), row[name]) for name in sample.texts], folds=folds
            )
        )
    where = f", iteration {iteration.removeprefix('iter')}" if iteration else ""
    n = {1: "One", 2: "Two", 3: "Three", 4: "Four", 5: "Five"}.get(len(shown), str(len(shown)))
    title = sample.title.removesuffix("s") if len(shown) == 1 and " " not in sample.title else sample.title
    return RealRows(sample.id, f"{n} {title}{where}", shown, queries)


def _word(column: str) -> str:
    return _WORDS.get(column, column.replace("_", " "))


def _text(text: object) -> RealRow:
    return RealRow("", texts=(("", str(text)),))


def _behind(
    ask: Callable[..., list[tuple[Any, ...]]], iteration: str, one: Behind, rows: Sequence[dict[str, Any]]
) -> dict[Any, str]:
    """Id -> text, of the rows that these rows name."""
    dataset = one.kind if one.kind == "eft" else f"{iteration}/{one.kind}"
    ids = ", ".join(literal(str(row[one.column])) for row in rows)
    if not ids:
        return {}
    query = f"SELECT {one.column}, {one.text} FROM {dataset.replace('/', '.')} WHERE {one.column} IN ({ids})"
    return dict(ask(query, dataset))


def demonstrations_of(
    ask: Callable[..., list[tuple[Any, ...]]], iteration: str, prompt_id: str
) -> list[RealRow]:
    """What the generator was shown when it wrote a prompt."""
    asked = f"SELECT demonstration_ids FROM {iteration}.prompts WHERE prompt_id = {literal(prompt_id)}"
    found = ask(asked, f"{iteration}/prompts")
    ids = [str(id) for id in (found[0][0] or [])] if found else []
    if not ids:
        return []
    listed = ", ".join(map(literal, ids))
    texts = dict(ask(f"SELECT ift_id, prompt FROM ift WHERE ift_id IN ({listed})", "ift"))
    texts |= dict(ask(f"SELECT prompt_id, prompt FROM prompts WHERE prompt_id IN ({listed})"))
    return [RealRow(id, texts=(("", texts.get(id, "(this row is missing)")),)) for id in ids]
