"""Answers that outlive the version they were asked for, so that equal requests to an equal model are made once.

A version stores what its step chose of the answers. Where another choice needs the rest (EFT's targets after a change of
the score range or of the agreement rule), the step's journal stays in the run's hidden folder under the hash of what was
asked, until `selfreward gc` finds it untouched for 30 days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from selfreward.engines.base import Request
from selfreward.steps.step import Job
from selfreward.store import durable
from selfreward.store.sealed import digest


@contextmanager
def kept_answers(job: Job, requests: Sequence[Request], role: str = "model") -> Iterator[None]:
    """Begin with the journal of an earlier version that asked the same; keep this one's if the block succeeds."""
    asked = [asdict(request) for request in requests]
    what = digest([job.models[role].content_sha256, job.recipe.params["engine"], asked])
    kept = job.work.parent / f"{job.name.replace('/', '-')}-answers-{what[:16]}" / "journal.jsonl"
    journal = job.work / "journal.jsonl"
    if kept.is_file():
        durable.link_new(kept, journal)
    yield
    if not kept.exists():
        durable.make_folder(kept.parent)
        durable.link_new(journal, kept)
