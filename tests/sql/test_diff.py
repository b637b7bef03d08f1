"""What changed between two versions: every row counted once, changes by column, examples around the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_run import changed, make_sample_run, publish_rows

from selfreward.errors import InputError, UsageError
from selfreward.sql.diff import diff, format_diff
from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import Message, Pair, Score, from_table


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_sample_run(tmp_path / "run", iterations=1)


def rows_of(run: Run, name: str, row_class: type) -> list[Any]:
    return from_table(run.current(name).table(), row_class)


def test_added_removed_and_changed_rows_are_counted_once_each(run: Run) -> None:
    """Of 24 pairs: the first is removed, the second has another text and margin, one is new; 22 stay the same."""
    rows = rows_of(run, "iter1/pairs", Pair)
    text = rows[1].chosen[0].content
    edited = replace(rows[1], margin=9.0, chosen=[Message("assistant", text[:50] + "EDITED" + text[50:])])
    new = replace(rows[2], pair_id="pair-new")
    publish_rows(run, "iter1/pairs", Pair, [edited, *rows[2:], new])
    found = diff(run, "iter1/pairs")
    assert (found.n_a, found.n_b, found.n_same) == (24, 24, 22)
    assert (found.n_added, found.n_removed, found.n_changed) == (1, 1, 1)
    assert found.changed_by_column == {"chosen": 1, "margin": 1}
    assert [row["pair_id"] for row in found.added] == ["pair-new"]
    assert [row["pair_id"] for row in found.removed] == [rows[0].pair_id]
    assert found.changed[0].key == (rows[1].pair_id,)
    assert found.changed[0].values["margin"] == (rows[1].margin, 9.0)
    text = format_diff(found)
    assert "same 22, changed 1, added 1, removed 1 (matched by pair_id)" in text
    assert "EDITED" in text
    assert "+ pair-new" in text


def test_versions_are_named_by_their_first_digits(run: Run) -> None:
    first = run.current("iter1/scores").version
    publish_rows(run, "iter1/scores", Score, rows_of(run, "iter1/scores", Score)[1:])
    second = run.current("iter1/scores").version
    assert diff(run, "iter1/scores", first[:6], second[:6]).n_removed == 1
    assert diff(run, "iter1/scores", second[:6], first[:6]).n_added == 1
    with pytest.raises(UsageError, match="0 versions"):
        diff(run, "iter1/scores", "zzz")


def test_equal_versions_are_the_same_and_null_equals_null(run: Run) -> None:
    found = diff(run, "iter1/candidates", "current", "current")
    assert (found.same, found.n_same) == (True, 96)
    assert "the same rows" in format_diff(found)


def test_null_against_a_number_is_a_change(run: Run) -> None:
    publish_rows(run, "iter1/scores", Score, changed(0, score=None)(rows_of(run, "iter1/scores", Score)))
    assert diff(run, "iter1/scores").changed_by_column == {"score": 1}


def test_two_judging_setups_are_compared_candidate_by_candidate(run: Run) -> None:
    """A version holds one set-up, so another judge changes the candidate's row; two rows a candidate are refused."""
    rows = rows_of(run, "iter1/scores", Score)
    publish_rows(run, "iter1/scores", Score, [replace(row, judge_mode="expected") for row in rows])
    found = diff(run, "iter1/scores")
    assert (found.n_added, found.n_removed, found.n_changed) == (0, 0, 96)
    assert found.changed_by_column == {"judge_mode": 96}
    publish_rows(run, "iter1/scores", Score, [*rows, replace(rows[0], judge="other")])
    with pytest.raises(InputError, match="belongs to 2 rows"):
        diff(run, "iter1/scores")


def test_two_runs_are_compared_the_same_way(run: Run, tmp_path: Path) -> None:
    other = make_sample_run(tmp_path / "other", iterations=1, iter1_pairs=lambda rows: rows[:-2])
    found = diff(run, "iter1/pairs", "current", "current", other)
    assert (found.n_removed, found.n_added, found.n_changed) == (2, 0, 0)
    assert (found.a.partition(":")[0], found.b.partition(":")[0]) == ("run", "other")


def test_columns_that_came_or_went_are_named(run: Run) -> None:
    table = run.current("iter1/scores").table()
    table = table.drop_columns(["judge_mode"]).append_column("judge_mode", table["judge_mode"])
    wider = table.append_column("note", table["judge"]).drop_columns(["injection_suspected"])
    run.publish_table(Recipe("iter1/scores", "tests 2"), wider, Counts(96, 96))
    found = diff(run, "iter1/scores")
    assert (found.columns_added, found.columns_removed, found.same) == (
        ["note"],
        ["injection_suspected"],
        False,
    )
    assert found.n_same == 96
    assert "columns added: note" in format_diff(found)


def test_a_key_that_occurs_twice_is_refused(run: Run) -> None:
    rows = rows_of(run, "iter1/pairs", Pair)
    publish_rows(run, "iter1/pairs", Pair, [*rows, rows[0]])
    with pytest.raises(InputError, match=f"{rows[0].pair_id} belongs to 2 rows"):
        diff(run, "iter1/pairs")


def test_a_model_is_no_dataset(run: Run) -> None:
    with pytest.raises(UsageError, match="is a model"):
        diff(run, "M1")
