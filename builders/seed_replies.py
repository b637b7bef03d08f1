"""`seeds`: the human-ranked replies everything starts from (paper section 3.1.1: Open Assistant).

    {"seed_id": "7d05…", "prompt_id": "e0cf…", "prompt": "What do you think …", "response": "As an …",
     "human_rank": 0, "quality": 0.75, "lang": "en", "judgement": None, "source": "oasst1-en-validation"}

One row for each first-turn reply that survives the funnel: language, deleted, failed review, empty, duplicate. `ift`
and `eft` are cut from it, so that lineage ends at a seed row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.builders.seeds.tables import looks_like_table, read_table
from selfreward.config.data import SeedsConfig
from selfreward.config.run import RunConfig
from selfreward.errors import EmptyResultError, InputError, UsageError
from selfreward.judging.rules.prompts import TOPICS, ranked_replies
from selfreward.notes import SeedsNotes
from selfreward.progress import say
from selfreward.reading.files import read_rows
from selfreward.reading.hub import hub_commit, hub_rows, is_local
from selfreward.reading.oasst import (
    EMBEDDED,
    SeedReading,
    looks_like_messages,
    looks_like_trees,
    read_messages,
    read_trees,
)
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import Seed, to_table

NAME = "builders.seed_replies"
VERSION = 1
RULES = "rules"
"""The source of the control experiment: prompts with one rule each, ranked by a program."""


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each source; a local file counts by content, a Hub dataset by name and revision."""
    settings = config.seeds
    params: dict[str, Any] = {"seeds": settings.keyed(), "seed": 0}
    if config.eft is None:
        params["ranks"] = "not needed"
    files: dict[str, Path] = {}
    if settings.source == "embedded":
        files = {path.stem: path for path in sorted(EMBEDDED.glob("*.jsonl"))}
    elif settings.source == RULES:
        files = {"topics": TOPICS}
    elif is_local(settings.source):
        if Path(settings.source).is_dir():
            raise UsageError(f"seeds.source {settings.source}: is a folder; give one of the files in it")
        files = {"seed_file": Path(settings.source)}
        # The file counts by its content: with its path in the key, a moved file would rebuild everything.
        params["seeds"]["source"] = _source_name(settings.source)
    return Plan(name="seeds", module=__name__, files=files, params=params)


def build(job: Job) -> Rows:
    """Read, then drop a prompt's repeated replies."""
    settings = job.section("seeds", SeedsConfig)
    commit = None if job.files else hub_commit(settings.source, settings.revision)
    reading = _read(settings, job.files, commit, needs_ranks="ranks" not in job.recipe.params)
    rows = _without_duplicates(reading)
    if not rows:
        raise EmptyResultError(
            f"seeds: none of the {reading.n_in} replies in {settings.source} is left: "
            + ", ".join(f"{reason} {n}" for reason, n in reading.dropped.items())
        )
    unranked = sum(seed.human_rank is None for seed in rows)
    if unranked:
        say(f"seeds: {unranked} of {len(rows)} replies have no rank; neither IFT nor EFT uses them")
    revision = None if job.files else commit or "unknown"
    notes = SeedsNotes(prompts=len({seed.prompt_id for seed in rows}), unranked=unranked, revision=revision)
    return Rows(to_table(rows, Seed), Counts(reading.n_in, len(rows), dict(reading.dropped), notes.stored()))


def _source_name(source: str) -> str:
    return Path(source).name.split(".")[0]


def _read(
    settings: SeedsConfig, files: dict[str, Path], commit: str | None, needs_ranks: bool
) -> SeedReading:
    if "seed_file" in files:
        path = files["seed_file"]
        return _read_lines(list(read_rows(path)), settings, str(path), needs_ranks)
    if settings.source == RULES:
        return read_table(ranked_replies(), {}, RULES, settings.lang, RULES)
    if files:
        lines = [line for path in files.values() for line in read_rows(path)]
        return read_trees(lines, "embedded", settings.lang, "builders/seeds")
    lines = hub_rows(settings.source, settings.hub_split, commit or settings.revision, "seeds.source")
    return _read_lines(lines, settings, settings.source, needs_ranks)


def _read_lines(
    lines: list[tuple[int, dict[str, Any]]], settings: SeedsConfig, where: str, needs_ranks: bool
) -> SeedReading:
    """Trees, messages or a table: as the configuration says, or by the first row's columns."""
    if not lines:
        raise InputError(
            f"{where}: has no rows; expected Open Assistant messages or trees, or a ranked table"
        )
    kind: str = settings.format
    first = lines[0][1]
    if kind == "auto":
        found = (
            ("trees", looks_like_trees(first)),
            ("messages", looks_like_messages(first)),
            ("table", looks_like_table(first, settings.columns)),
        )
        # The first that fits, most specific first: a tree or a message could pass for a table.
        kind = next((name for name, looks in found if looks), "auto")
    if kind == "table":
        if not needs_ranks and not _is_ranked(lines, settings):
            say(f"seeds: {where} ranks no replies; with eft: null each counts as the best of its prompt")
            lines = [(number, {**row, settings.columns.get("rank", "rank"): 0}) for number, row in lines]
        return read_table(lines, settings.columns, settings.source, settings.lang, where)
    if kind == "auto":
        raise InputError(
            f"{where}: found the columns {', '.join(sorted(map(str, first)))}; expected Open Assistant messages "
            "(message_id, parent_id, role, text, rank), trees (prompt.replies), or a table with prompt, response and rank or "
            "score, or with prompt, chosen and rejected; name its columns with seeds.columns, e.g. {prompt: question}"
        )
    read = read_trees if kind == "trees" else read_messages
    return read(lines, settings.source, settings.lang, where)


def _is_ranked(lines: list[tuple[int, dict[str, Any]]], settings: SeedsConfig) -> bool:
    ranking = {settings.columns.get(role, role) for role in ("rank", "score")} | {"chosen"}
    return any(ranking & row.keys() for _, row in lines)


def _without_duplicates(reading: SeedReading) -> list[Seed]:
    """A reply that repeats another one of its prompt, and a seed id seen before, are dropped and counted."""
    kept: list[Seed] = []
    seen: set[tuple[str, str]] = set()
    ids: set[str] = set()
    for seed in reading.rows:
        place = (seed.prompt_id, seed.response.strip())
        if place in seen or seed.seed_id in ids:
            reading.dropped["duplicate"] += 1
        else:
            kept.append(seed)
        seen.add(place)
        ids.add(seed.seed_id)
    return kept


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
