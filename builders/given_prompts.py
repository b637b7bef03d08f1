"""`prompts` from a file or a Hub dataset, in disjoint portions by iteration, in place of self-instruction.

    {"prompt_id": "p-…", "iteration": 1, "prompt": "Suggest three …", "demonstration_ids": [], "generator": "prompts@3f0c…",
     "kept": True, "reason": None, "nearest_id": "ift-…", "nearest_rouge_l": 0.31, "round": 0, "seed": 17}

The source's rows are put into an order by a hash of text and seed. Each iteration goes on where the one before stopped,
until `prompts.n` are kept; the filters and the novelty test are those of generated prompts, and what they refuse stays as
a row with its reason. A row that is a chat (a system turn, several turns) keeps it in a column `messages`; `prompt` is its
last turn (docs/chats.md). `seed` is the row's number in the source, `round` the portion in which it was looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfreward.builders.self_instruct.filters import filter_prompt
from selfreward.builders.self_instruct.screening import Screen, held_out
from selfreward.builders.self_instruct.words import FilterWords, keyed_words, words_of
from selfreward.chats import Chat, judge_text, judge_texts, problem_with, with_chats
from selfreward.config.data import PromptsConfig
from selfreward.config.run import RunConfig
from selfreward.errors import EmptyResultError, InputError
from selfreward.judging.rules.files import EMBEDDED as RULES
from selfreward.judging.rules.prompts import ITERATION_TOPICS, iteration_prompts
from selfreward.notes import PromptsNotes
from selfreward.progress import say
from selfreward.reading.files import read_rows
from selfreward.reading.hub import hub_commit, hub_rows, is_local
from selfreward.reading.messages import as_messages
from selfreward.similarity.evaluation_sets import evaluation_files
from selfreward.steps.reuse import differs_only_unused
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.recipe import Recipe
from selfreward.store.run import Counts, Run
from selfreward.store.version import Version, file_sha256
from selfreward.tables import DatasetName, Message, Prompt, row_id, to_table

NAME = "builders.given_prompts"
VERSION = 1
_COLUMNS = ("prompt", "instruction", "question", "messages")


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each iteration; None unless `prompts.source` is given."""
    settings = config.prompts
    if settings.source is None:
        return None
    embedded = settings.source == RULES
    local = embedded or is_local(settings.source)
    used = {"n", "max_rouge_l", "column", *(() if local else ("source", "hub_split", "revision"))} | (
        {"source"} if embedded else set()
    )
    used |= {"system"} if settings.system is not None else set()
    return Plan(
        name=str(DatasetName("prompts", iteration)),
        module=__name__,
        inputs={
            "ift": "ift",
            **({"eft": "eft"} if config.eft else {}),
            **{f"prompts{k}": str(DatasetName("prompts", k)) for k in range(1, iteration)},
        },
        # A file counts by its content, a Hub dataset by its name and revision.
        files={
            **evaluation_files(settings.evaluation_sets),
            **({"source": ITERATION_TOPICS if embedded else Path(settings.source)} if local else {}),
        },
        texts=keyed_words(settings.lang),
        params={
            "iteration": iteration,
            "seed": config.seed,
            "prompts": settings.model_dump(mode="json", include=used),
        },
    )


def reusable(run: Run, recipe: Recipe) -> Version | None:
    """A version whose EFT differs only in its targets, not in its held-out prompts."""
    return differs_only_unused(run, recipe, "eft", held_out)


def build(job: Job) -> Rows:
    """Look at portion after portion until enough prompts are kept, or the source has no more."""
    settings = job.section("prompts", PromptsConfig)
    lines, generator, commit = _source(job, settings)
    waiting = in_order = _in_order(job, lines, settings, generator)
    screen = Screen(job, settings.max_rouge_l, settings.n)
    words = words_of(job.texts)
    rows: list[Prompt] = []
    n_rounds = 0
    while waiting and screen.n_kept < settings.n:
        # As many as are still wanted: none is looked at that a later iteration could have had.
        wanted = settings.n - screen.n_kept
        portion, waiting = waiting[:wanted], waiting[wanted:]
        rows += screen.take(
            [
                _row(job, number, chat[-1].content, generator, n_rounds, screen, words)
                for number, chat in portion
            ]
        )
        n_rounds += 1
    _tell(job, settings, screen.n_kept, rows, len(lines))
    notes = PromptsNotes(
        generation=None,
        kept=screen.n_kept,
        wanted=settings.n,
        rejected=dict(Counter(row.reason for row in rows if row.reason)),
        rounds=n_rounds,
        revision=commit,
        source_rows=len(lines),
        source_rows_left=len(waiting),
    )
    chats = dict(in_order)
    table = with_chats(to_table(rows, Prompt), [chats[row.seed] for row in rows])
    return Rows(table, Counts(len(rows), len(rows), notes=notes.stored()))


def _source(job: Job, settings: PromptsConfig) -> tuple[list[tuple[int, dict[str, Any]]], str, str | None]:
    """The rows, what `generator` calls the source, and the commit of a Hub dataset."""
    if settings.source == RULES:
        return [(n, {"prompt": text}) for n, text in enumerate(iteration_prompts(), 1)], RULES, None
    if "source" in job.files:
        path = job.files["source"]
        return list(read_rows(path)), f"{path.name.split('.')[0]}@{file_sha256(path)[:12]}", None
    assert settings.source is not None
    commit = hub_commit(settings.source, settings.revision)
    lines = hub_rows(settings.source, settings.hub_split, commit or settings.revision, "prompts.source")
    return lines, f"{settings.source}@{(commit or settings.revision or 'unknown')[:12]}", commit or "unknown"


def _in_order(
    job: Job, lines: Sequence[tuple[int, dict[str, Any]]], settings: PromptsConfig, generator: str
) -> list[tuple[int, Chat]]:
    """Number and chat of the rows that no earlier iteration has looked at, in the order of the run's draw."""
    chats = [
        (number, _chat(row, settings.column, settings.system, f"{generator}: row {number}"))
        for number, row in lines
    ]
    earlier = {
        text
        for role in job.inputs
        if role.startswith("prompts")
        for text in judge_texts(job.table(role)).values()
    }
    # By a hash of the text: the same order whatever the order of the file.
    drawn = sorted(chats, key=lambda entry: (row_id("draw", job.seed, judge_text(entry[1])), entry[0]))
    return [(number, chat) for number, chat in drawn if judge_text(chat) not in earlier]


def _chat(row: dict[str, Any], column: str | None, system: str | None, where: str) -> Chat:
    """The prompt of a row: a text, or a chat that ends with the user's turn; `system` where it has no system turn."""
    found = column or next((name for name in _COLUMNS if row.get(name)), None)
    if found is None or found not in row:
        raise InputError(
            f"{where}: found the columns {', '.join(sorted(map(str, row)))}; expected {column or ', '.join(_COLUMNS)}; name "
            "the column of the prompts with prompts.column"
        )
    value = row[found]
    try:
        turns = [{"role": "user", "content": value.strip()}] if isinstance(value, str) else as_messages(value)
    except ValueError as error:
        raise InputError(f"{where}: column {found!r}: {error}; expected a text or a chat") from error
    if not isinstance(value, str) and (problem := problem_with(turns)):
        raise InputError(f"{where}: column {found!r}: {problem}")
    further = row.get("input") if found == "instruction" else None
    if isinstance(further, str) and further.strip():
        turns[-1]["content"] += f"\n\n{further.strip()}"
    if system is not None and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": system}, *turns]
    return tuple(Message(turn["role"], turn["content"].strip()) for turn in turns)


def _row(
    job: Job,
    number: int,
    text: str,
    generator: str,
    round_number: int,
    screen: Screen,
    words: FilterWords,
) -> Prompt:
    reason = filter_prompt(text, "stop", words) if text else "too_short"
    overlap = screen.overlap(text) if reason is None else None
    return Prompt(
        prompt_id=row_id("p", job.iteration, generator, number),
        iteration=job.iteration,
        prompt=text,
        demonstration_ids=[],
        generator=generator,
        kept=False,
        reason="contamination" if overlap else reason,
        nearest_id=overlap.id if overlap else None,
        nearest_rouge_l=overlap.rouge_l if overlap else None,
        round=round_number,
        seed=number,
    )


def _tell(job: Job, settings: PromptsConfig, n_kept: int, rows: Sequence[Prompt], n_source: int) -> None:
    """EmptyResultError if nothing was kept; a line if it is less than wanted."""
    if n_kept >= settings.n:
        return
    counts = Counter(row.reason for row in rows if row.reason)
    reasons = (
        ", ".join(f"{reason} {n}" for reason, n in counts.items())
        or "earlier iterations have had all of them"
    )
    told = f"{job.name}: kept {n_kept} of {settings.n} prompts wanted, and the source's {n_source} rows are used up ({reasons})"
    if not n_kept:
        raise EmptyResultError(
            f"{told}; bring a larger prompts.source, or lower prompts.n in the iterations before"
        )
    say(told)


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
