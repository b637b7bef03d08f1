"""A person's verdicts on rows, kept as the dataset `reviews` of the run: each change is a version of its own.

    reviews = Reviews(shelf, "ann")
    reviews.save("iter1/judgements", row, "disagree", note="the sum is wrong", human_score=2.0)

A verdict is stored before the reader sees that it is. Several people may review one run at the same time: a version that
another process published in between is merged, not replaced. `selfreward gc` removes the earlier versions.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from selfreward.errors import UsageError
from selfreward.store.run import Counts, Recipe, Run
from selfreward.store.sealed import digest
from selfreward.store.version import Version
from selfreward.store.writer import Rules
from selfreward.tables import (
    BY_KIND,
    DatasetName,
    Review,
    accepted_values,
    required_columns,
    row_id,
    to_table,
)
from selfreward.view.shelf import Shelf

if TYPE_CHECKING:
    import pyarrow as pa

DATASET = "reviews"
BUILDER = "selfreward.view 1"
WITHDRAWN = "withdrawn"
"""Not a verdict: the reviewer takes theirs back."""


class Reviews:
    """The verdicts of a run, and those of the reader among them."""

    def __init__(self, shelf: Shelf, reviewer: str) -> None:
        self._shelf = shelf
        self.reviewer = reviewer
        self._lock = threading.Lock()

    def of(self, id: str) -> list[dict[str, Any]]:
        """All verdicts on a row, the reader's own first."""
        if not self._shelf.run.has(DATASET):
            return []
        found = self._shelf.find(DATASET, "row_id", id)
        return sorted(found, key=lambda row: row["reviewer"] != self.reviewer)

    def own(self, id: str) -> dict[str, Any] | None:
        """The reader's verdict on a row."""
        return next((row for row in self.of(id) if row["reviewer"] == self.reviewer), None)

    def save(
        self, name: str, row: dict[str, Any], verdict: str, note: str, human_score: float | None
    ) -> None:
        """Store the reader's verdict on a row in place of an earlier one; `withdrawn` removes it."""
        review = self._review(name, row, verdict, note, human_score)
        run = self._shelf.run
        with self._lock:
            base, ours = run.current(DATASET) if run.has(DATASET) else None, set[str]()
            while True:
                made = _publish(run, _merged(base, review, verdict == WITHDRAWN)).version
                entry, ours = run.state().current[DATASET], ours | {made}
                others = [version for version in (entry.version, *entry.previous) if version not in ours]
                if (base is not None and made == base.version) or others[:1] == (
                    [base.version] if base else []
                ):
                    break
                # Another process published its own verdicts since `base` was read: ours goes on top of them.
                base = run.version(DATASET, others[0])
        self._shelf.refresh()

    def _review(self, name: str, row: dict[str, Any], verdict: str, note: str, score: float | None) -> Review:
        parsed = DatasetName.parse(name)
        dataset = BY_KIND.get(parsed.kind)
        known = (*accepted_values(Review)["verdict"], WITHDRAWN)
        if verdict not in known:
            raise UsageError(f"verdict {verdict!r}: expected one of {', '.join(known)}")
        if dataset is None or not dataset.key or parsed.kind == DATASET:
            raise UsageError(f"{name}: its rows have no ids of their own, so they cannot be reviewed")
        id = str(row[dataset.key[0]])
        judged = {
            column: row.get(column) for column in ("prompt_id", "candidate_id", "judge", "template", "score")
        }
        return Review(
            review_id=row_id("rev", parsed.kind, id, self.reviewer),
            dataset=parsed.kind,
            iteration=parsed.iteration,
            row_id=id,
            reviewer=self.reviewer,
            verdict=verdict,  # type: ignore[arg-type]
            note=note,
            human_score=score,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            **judged,
        )


def _merged(base: Version | None, review: Review, withdrawn: bool) -> pa.Table:
    """The verdicts of a version with this one in place of the same reviewer's earlier one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    own = to_table([] if withdrawn else [review], Review)
    if base is None:
        return own
    table = base.table()
    others = table.filter(pc.not_equal(table["review_id"], review.review_id))
    # Imported reviews may have columns of their own.
    return pa.concat_tables([others, own], promote_options="default")


def _publish(run: Run, table: pa.Table) -> Version:
    # The rows themselves are the input: the same verdicts are the same version.
    content = {"rows": {"name": "verdicts", "content_sha256": digest(table.to_pylist())}}
    recipe = Recipe(DATASET, BUILDER, content)
    found = run.find(recipe)
    if found is not None:
        run.make_current(found)
        return found
    rules = Rules(required_columns(Review), unique="review_id")
    return run.publish_table(recipe, table, Counts(table.num_rows, table.num_rows), rules)
