"""Judging and score reading over files: `selfreward judge parse` and `selfreward judge score`.

Rows come from jsonl (plain or .gz) or a dataset folder, and go out as jsonl with columns added, in their order; no row is
left out. A judging that was stopped goes on where its journal (`OUT.work/`) ends.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from builders.seeds_reading import read_lines
from judging.judge import Item, Judged, judge_items
from judging.parsing import parse_score
from judging.templates import load_template
from selfreward import durable
from selfreward.config import JudgingConfig
from selfreward.engines import open_engine
from selfreward.errors import InputError
from selfreward.generation import Generation
from selfreward.sealed import digest


def read_records(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file or of a dataset folder."""
    if path.is_dir():
        from selfreward.store import load_rows

        return [dict(row) for row in load_rows(path)]
    return [record for _, record in read_lines(path)]


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write jsonl; an existing file is replaced whole."""
    text = "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
    durable.replace_file(path, text.encode())


def parse_file(path: Path, field: str, minimum: float, maximum: float, out: Path | None) -> dict[str, Any]:
    """Read the score of every row's `field`; returns counts by status and by score."""
    records = read_records(path)
    parsed = []
    for number, record in enumerate(records, 1):
        text = record.get(field)
        if field not in record or not isinstance(text, str):
            known = ", ".join(sorted(record))
            raise InputError(
                f"{path}: row {number}: expected a text in column {field!r}, its columns are {known}"
            )
        parsed.append(parse_score(text, str(record.get("finish_reason") or "stop"), minimum, maximum))
    if out is not None:
        rows = [{**r, "score": p.score, "status": p.status} for r, p in zip(records, parsed, strict=True)]
        write_records(out, rows)
    scores = Counter(p.score for p in parsed if p.score is not None)
    return {
        "rows": len(records),
        "by_status": dict(Counter(p.status for p in parsed).most_common()),
        "by_score": {f"{score:g}": n for score, n in sorted(scores.items())},
    }


def score_file(
    path: Path, model: str, out: Path, template: str, mode: str, samples: int, max_tokens: int, seed: int
) -> dict[str, Any]:
    """Judge every row's `response` to its `prompt`, and write the rows with `scores`, `score` and the judgements."""
    records = read_records(path)
    for number, record in enumerate(records, 1):
        for column in ("prompt", "response"):
            if not isinstance(record.get(column), str):
                raise InputError(
                    f"{path}: row {number}: expected a text in column {column!r}, found {record.get(column)!r}"
                )
    judge_template = load_template(template)
    settings = JudgingConfig.model_validate({"mode": mode, "samples": samples, "max_tokens": max_tokens})
    items = [Item(f"row{number}", r["prompt"], r["response"]) for number, r in enumerate(records)]
    key = digest({"rows": digest(records), "model": model, "template": judge_template.sha256,
                  "settings": settings.model_dump(), "seed": seed})  # fmt: skip
    work = out.with_name(f"{out.name}.work") / key[:16]
    with open_engine(model_target(model)) as engine, Generation(out.name, work, engine) as generation:
        judged = judge_items(generation, engine, items, judge_template, settings, seed)
    rows = _with_judgements(records, judged)
    write_records(out, rows)
    durable.remove_tree(work.parent)
    return {
        "responses": len(rows),
        "scored_responses": sum(row["score"] is not None for row in rows),
        "by_status": dict(Counter(j.status for j in judged).most_common()),
    }


def model_target(model: str) -> str:
    """A model string with known names and folders resolved, as engines take it."""
    from selfreward.models import foreign

    return foreign(model).model_string


def _with_judgements(records: list[dict[str, Any]], judged: list[Judged]) -> list[dict[str, Any]]:
    by_item: dict[str, list[Judged]] = {}
    for judgement in judged:
        by_item.setdefault(judgement.item_id, []).append(judgement)
    rows = []
    for number, record in enumerate(records):
        mine = by_item[f"row{number}"]
        scores = [j.score for j in mine if j.score is not None]
        rows.append({
            **record,
            "scores": [j.score for j in mine],
            "score": sum(scores) / len(scores) if scores else None,
            "statuses": [j.status for j in mine],
            "judgements": [j.text for j in mine],
        })  # fmt: skip
    return rows
