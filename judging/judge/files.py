"""Judging and score reading over files: `selfreward judge parse` and `selfreward judge score`.

Rows come from jsonl, json, csv (each plain or .gz), parquet or a dataset folder, and are written as jsonl with columns
added, in order and complete. An interrupted judging resumes from its journal (`OUT.work/`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfreward.config.files import check_config
from selfreward.config.judging import JudgingConfig
from selfreward.engines import open_engine
from selfreward.engines.base import EngineOptions
from selfreward.errors import InputError
from selfreward.judging.agreement.rating_files import read_columns
from selfreward.judging.judge.judge import Item, Judged, judge_items
from selfreward.judging.parsing.scores import ParsedScore, parse_score
from selfreward.judging.prompts.templates import JudgeTemplate, load_template
from selfreward.progress import say
from selfreward.reading.files import read_rows
from selfreward.reading.opening import kind_of
from selfreward.steps.generation import Generation
from selfreward.store import durable
from selfreward.store.sealed import digest

_ADDED = ("score", "scores", "statuses", "judgements", "finish_reasons", "errors")
"""Columns that `judge score` adds to those of its input."""


def read_records(path: Path) -> list[dict[str, Any]]:
    """The rows of a file or of a dataset folder; a CSV's scores and ranks as numbers."""
    if path.is_dir() or kind_of(path) == "csv":
        columns, _ = read_columns(path)
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return [record for _, record in read_rows(path)]


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write jsonl; an existing file is replaced whole."""
    text = "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
    durable.replace_file(path, text.encode())


def parse_file(path: Path, field: str, minimum: float, maximum: float, out: Path | None) -> dict[str, Any]:
    """Read the score of every row's `field`, a reply or a list of replies; returns counts by status and by score.

    A NULL reply is `empty`. Rows with lists (what `judge score` and `evaluate judge` write) get `scores`, `statuses`
    and their mean as `score`; their `finish_reasons` say which replies were cut. A column of the file with
    another value is kept, and the score that was read gets another name.
    """
    records = read_records(path)
    if not any(field in record for record in records):
        known = ", ".join(sorted({str(name) for record in records for name in record})) or "none"
        raise InputError(f"{path}: has no column {field!r}, its columns are {known}")
    rows, every = [], []
    for number, record in enumerate(records, 1):
        replies = record.get(field)
        if isinstance(replies, list):
            ends = record.get("finish_reasons") or ["stop"] * len(replies)
            if not isinstance(ends, list) or len(ends) != len(replies):
                raise InputError(
                    f"{path}: row {number}: column 'finish_reasons' holds {ends!r:.60}, expected a list with one reason "
                    f"for each of the {len(replies)} replies in {field!r}"
                )
            parsed = [
                _parsed(reply, end, minimum, maximum, f"{path}: row {number}: column {field!r}")
                for reply, end in zip(replies, ends, strict=True)
            ]
            rows.append(mean_score([p.score for p in parsed], [p.status for p in parsed]))
        else:
            end = record.get("finish_reason")
            parsed = [_parsed(replies, end, minimum, maximum, f"{path}: row {number}: column {field!r}")]
            rows.append({"score": parsed[0].score, "status": parsed[0].status})
        every += parsed
    if out is not None:
        write_records(out, _beside(records, rows))
    scores = Counter(p.score for p in every if p.score is not None)
    return {
        "rows": len(records),
        "replies": len(every),
        "by_status": dict(Counter(p.status for p in every).most_common()),
        "by_score": {f"{score:g}": n for score, n in sorted(scores.items())},
    }


def _beside(records: list[dict[str, Any]], added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with columns added, under a free name if the records have another value under theirs."""
    names = {}
    for name in dict.fromkeys(name for row in added for name in row):
        names[name] = name
        while any(
            names[name] in record and name in row and record[names[name]] != row[name]
            for record, row in zip(records, added, strict=True)
        ):
            names[name] = f"parsed_{names[name]}"
    if moved := {name: new for name, new in names.items() if new != name}:
        kept = ", ".join(f"{name!r} (what was read now is {new!r})" for name, new in moved.items())
        say(f"columns of the file that were kept: {kept}")
    return [
        {**record, **{names[name]: value for name, value in row.items()}}
        for record, row in zip(records, added, strict=True)
    ]


def _parsed(reply: Any, finish_reason: Any, minimum: float, maximum: float, where: str) -> ParsedScore:
    if reply is not None and not isinstance(reply, str):
        raise InputError(f"{where}: expected a judge's reply as text, found {reply!r:.60}")
    return parse_score(reply or "", str(finish_reason or "stop"), minimum, maximum)


def mean_score(scores: list[float | None], statuses: list[str]) -> dict[str, Any]:
    """The columns of a reply judged several times; `score` is the mean of the scored judgements, NULL without one."""
    known = [score for score in scores if score is not None]
    return {"score": sum(known) / len(known) if known else None, "scores": scores, "statuses": statuses}


def score_file(
    path: Path,
    model: str,
    out: Path,
    template: str,
    mode: str,
    samples: int,
    max_tokens: int,
    seed: int,
    justify: bool = True,
    temperature: float = 0.7,
    options: EngineOptions | None = None,
) -> dict[str, Any]:
    """Judge every row's `response` to its `prompt`, and write the rows with `scores`, `score` and the judgements."""
    records = read_records(path)
    check_records(records, str(path))
    judge_template = load_template(template)
    settings = template_settings(
        judge_template,
        mode=mode,
        samples=samples,
        max_tokens=max_tokens,
        justify=justify,
        temperature=temperature,
    )
    # Everything that shapes an answer: after a changed setting, nothing resumes from the old journal.
    key = digest({"rows": digest(records), "model": model, "template": judge_template.sha256,
                  "settings": settings.model_dump(), "seed": seed,
                  **({"engine": asdict(options)} if options else {})})  # fmt: skip
    work = out.with_name(f"{out.name}.work") / key[:16]
    rows, judged = judge_records(records, model, judge_template, settings, seed, options, work, out.name)
    write_records(out, rows)
    # Only after the output is complete on disk: until then the journal is the only copy of the answers.
    durable.remove_tree(work.parent)
    summary = {
        "responses": len(rows),
        "scored_responses": sum(row["score"] is not None for row in rows),
        "by_status": dict(Counter(j.status for j in judged).most_common()),
    }
    return {**summary, "first_engine_error": first} if (first := first_error(judged)) else summary


def check_records(records: list[dict[str, Any]], where: str) -> None:
    """InputError for rows without the texts to be judged, or with a column that the judge would replace."""
    for column in _ADDED:
        if any(column in record for record in records):
            raise InputError(
                f"{where}: has a column {column!r} already, which the judge's would replace; rename it (people's scores "
                "are called human_score) or leave it out"
            )
    for number, record in enumerate(records, 1):
        for column in ("prompt", "response"):
            if not isinstance(record.get(column), str):
                raise InputError(
                    f"{where}: row {number}: expected a text in column {column!r}, found {record.get(column)!r:.60}"
                )


def judge_records(
    records: list[dict[str, Any]],
    model: str,
    template: JudgeTemplate,
    settings: JudgingConfig,
    seed: int,
    options: EngineOptions | None,
    work: Path,
    name: str,
) -> tuple[list[dict[str, Any]], list[Judged]]:
    """The records with their judgements, and the judgements; answers are kept in `work`, which the caller removes."""
    items = [Item(f"row{number}", r["prompt"], r["response"]) for number, r in enumerate(records)]
    with open_engine(model_target(model), options) as engine, Generation(name, work, engine) as generation:
        judged = judge_items(generation, engine, items, template, settings, seed)
    return with_judgements(records, [item.id for item in items], judged), judged


def first_error(judged: Sequence[Judged]) -> str | None:
    """The error of the first judgement that failed in the engine; None if all were answered."""
    return next((j.error or "unknown" for j in judged if j.status == "engine_error"), None)


def model_target(model: str) -> str:
    """A model string with known names and folders resolved, as engines take it."""
    from selfreward.engines.references import foreign

    return foreign(model).model_string


def template_settings(template: JudgeTemplate, **settings: Any) -> JudgingConfig:
    """Settings for judging outside a run, with the score range of the template."""
    limits = {"min_score": template.minimum, "max_score": template.maximum}
    return check_config({"judging": {**limits, **settings}}, "judge").judging


def with_judgements(
    records: Sequence[dict[str, Any]], item_ids: Sequence[str], judged: Sequence[Judged]
) -> list[dict[str, Any]]:
    """The records with the judgements of their items: `score` (mean), `scores`, `statuses`, `judgements`, …

    `errors` is present if any judgement failed in the engine.
    """
    failed = first_error(judged) is not None
    by_item: dict[str, list[Judged]] = {}
    for judgement in judged:
        by_item.setdefault(judgement.item_id, []).append(judgement)
    return [
        {
            **record,
            **mean_score([j.score for j in by_item[item]], [j.status for j in by_item[item]]),
            "judgements": [j.text for j in by_item[item]],
            "finish_reasons": [j.finish_reason for j in by_item[item]],
            **({"errors": [j.error for j in by_item[item]]} if failed else {}),
        }
        for record, item in zip(records, item_ids, strict=True)
    ]
