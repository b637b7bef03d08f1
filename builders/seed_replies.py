"""`seeds`: the human-ranked replies everything starts from (paper section 3.1.1: Open Assistant).

    {"seed_id": "7d05…", "prompt_id": "e0cf…", "prompt": "What do you think …", "response": "As an …",
     "human_rank": 0, "quality": 0.75, "lang": "en", "judgement": None, "source": "oasst1-en-validation"}

One row for each first-turn reply that survives the funnel: language, deleted, failed review, empty, duplicate. `ift`
and `eft` are cut from it, so that lineage ends at a seed row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.config.run import RunConfig, SeedsConfig
from selfreward.errors import EmptyResultError, InputError
from selfreward.reading.oasst import (
    EMBEDDED,
    SeedReading,
    looks_like_trees,
    read_lines,
    read_messages,
    read_table,
    read_trees,
)
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import Seed, to_table

NAME = "builders.seed_replies"
VERSION = 1
_TABLE_SUFFIXES = (".csv", ".parquet", ".csv.gz")


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each source; a local file counts by content, a Hub dataset by name and revision."""
    settings = config.seeds
    params: dict[str, Any] = {"seeds": settings.keyed(), "seed": 0}
    files: dict[str, Path] = {}
    if settings.source == "embedded":
        files = {path.stem: path for path in sorted(EMBEDDED.glob("*.jsonl"))}
    elif _is_local(settings.source):
        files = {"seed_file": Path(settings.source)}
        params["seeds"]["source"] = _source_name(settings.source)
    return Plan(name="seeds", module=__name__, files=files, params=params)


def build(job: Job) -> Rows:
    """Read, then drop a prompt's repeated replies."""
    settings = job.section("seeds", SeedsConfig)
    reading = _read(settings, job.files)
    rows = _without_duplicates(reading)
    if not rows:
        raise EmptyResultError(
            f"seeds: none of the {reading.n_in} replies in {settings.source} is left: "
            + ", ".join(f"{reason} {n}" for reason, n in reading.dropped.items())
        )
    notes = {"prompts": len({seed.prompt_id for seed in rows})}
    return Rows(to_table(rows, Seed), Counts(reading.n_in, len(rows), dict(reading.dropped), notes))


def _is_local(source: str) -> bool:
    """A name such as `OpenAssistant/oasst1` is the Hub's, unless a file of that path exists."""
    return Path(source).exists() or source.count("/") != 1 or Path(source).suffix != ""


def _source_name(source: str) -> str:
    return Path(source).name.split(".")[0]


def _read(settings: SeedsConfig, files: dict[str, Path]) -> SeedReading:
    if "seed_file" in files:
        return _read_file(files["seed_file"], settings)
    if files:
        lines = [line for path in files.values() for line in read_lines(path)]
        return read_trees(lines, "embedded", settings.lang, "builders/seeds")
    return _read_hub(settings)


def _read_file(path: Path, settings: SeedsConfig) -> SeedReading:
    if settings.format == "table" or path.name.endswith(_TABLE_SUFFIXES):
        return read_table(_table_records(path), settings.columns, settings.source, settings.lang)
    lines = list(read_lines(path))
    if not lines:
        raise InputError(f"{path}: is empty; expected one message or tree a line")
    trees = settings.format == "trees" or (settings.format == "auto" and looks_like_trees(lines[0][1]))
    read = read_trees if trees else read_messages
    return read(lines, settings.source, settings.lang, str(path))


def _table_records(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    try:
        if path.name.endswith(".parquet"):
            frame = pd.read_parquet(path)
        elif ".csv" in path.suffixes:
            frame = pd.read_csv(path)
        else:
            return [record for _, record in read_lines(path)]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}") from error
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in record.items()} for record in plain.to_dict("records")]


def _read_hub(settings: SeedsConfig) -> SeedReading:
    import datasets

    try:
        loaded = datasets.load_dataset(settings.source, split=settings.hub_split, revision=settings.revision)
    except Exception as error:  # the Hub client raises many unrelated classes; all mean "not to be had"
        raise InputError(
            f"seeds.source {settings.source!r}: is no local file, and the Hub did not give it "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'})"
        ) from error
    if "message_id" in loaded.column_names:
        lines = enumerate((dict(row) for row in loaded), 1)
        return read_messages(lines, settings.source, settings.lang, settings.source)
    return read_table((dict(row) for row in loaded), settings.columns, settings.source, settings.lang)


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
