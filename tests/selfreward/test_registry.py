"""The registry of datasets: what it says of a dataset fits the row class, and everything goes by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
from sample_run import make_sample_run

from selfreward.errors import UsageError
from selfreward.exchange.importing import importable
from selfreward.judging.audits.data import AuditData
from selfreward.judging.audits.tables import PROVIDED
from selfreward.sql.views import OpenRun
from selfreward.tables import (
    BY_KIND,
    DATASETS,
    Annotation,
    DatasetName,
    Eft,
    Judgement,
    accepted_values,
    kind_of,
    required_columns,
)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.kind)
def test_an_entry_names_columns_of_its_rows_and_known_parents(dataset):
    columns = {field.name for field in fields(dataset.row)}
    assert {*dataset.key, *dataset.facts, *(link.column for link in dataset.links)} <= columns
    assert set(dataset.key) <= required_columns(dataset.row)
    assert {link.parent for link in dataset.links} <= BY_KIND.keys()
    assert bool(dataset.key) == dataset.importable


def test_accepted_values_are_those_of_the_type():
    assert accepted_values(Eft) == {"split": ("train", "eval")}
    assert accepted_values(Judgement) == {
        "judge_mode": ("sampled", "expected"),
        "status": ("ok", "no_score", "out_of_range", "truncated", "empty", "engine_error"),
        "finish_reason": ("stop", "length", "error"),
    }
    assert set(accepted_values(Annotation)) == {"status"}


@pytest.mark.parametrize(
    ("name", "kind", "in_place"),
    [
        ("ift", "ift", True),
        ("iter1/ift", "ift", False),
        ("pairs", "pairs", False),
        ("iter1/pairs", "pairs", True),
        ("iter0/pairs", "pairs", False),
        ("iter0/judge_eval", "judge_eval", True),
        ("iter3/my_rows", "my_rows", True),
        ("audits", "audits", True),
    ],
)
def test_a_name_says_kind_and_whether_it_is_where_selfreward_makes_it(name, kind, in_place):
    parsed = DatasetName.parse(name)
    assert (parsed.kind, parsed.in_place, str(parsed), kind_of(name)) == (kind, in_place, name, kind)


def test_a_model_has_no_kind():
    assert kind_of("M1") == kind_of("SFT") == ""


def test_audits_are_not_imported():
    with pytest.raises(UsageError, match=r"no such dataset; known: seeds, .*iterN/annotations"):
        importable("audits")


@pytest.mark.parametrize("name", ["seeds", "ift", "eft", "iter1/prompts", "iter1/candidates", "iter1/judgements",
                                  "iter1/scores", "iter1/pairs"])  # fmt: skip
def test_a_row_that_stands_twice_is_found_in_every_dataset(tmp_path, name):
    """The second row once more: its id, twice (what a sample run makes of such a row may stand twice, too)."""
    parsed = DatasetName.parse(name)
    doubled = {name.replace("/", "_"): lambda rows: [*rows, rows[1]]}
    run = make_sample_run(tmp_path / "run", iterations=1, **doubled)
    key = BY_KIND[parsed.kind].key[0]
    ids = Counter(run.current(name).table([key])[key].to_pylist())
    with OpenRun(run.path) as opened:
        data = AuditData(opened, PROVIDED)
        data.need(["repeated_keys"])
        query = f"SELECT iteration, id, n FROM repeated_keys WHERE dataset = '{parsed.kind}'"
        found = data.connection.execute(query).fetchall()
    assert found == [(parsed.iteration, id, n) for id, n in ids.items() if n > 1]
    assert len(found) == 1
