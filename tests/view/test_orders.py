"""Any page of a table in any order is what DuckDB gives for the same question."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import parse_qsl

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import UsageError
from selfreward.sql.queries import connect
from selfreward.view.filters import Filter, RowsWanted, selection
from selfreward.view.orders import RowOrders

TEXTS = st.one_of(
    st.none(), st.text(st.sampled_from("abz-0é𝄞\x00"), max_size=20), st.just("j-0123456789abcdef0")
)
NUMBERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
SCORES = st.one_of(st.none(), st.sampled_from([0.0, 1.5, 3.0, 5.0]))


def chunked(rows: list[tuple], size: int = 3) -> pa.Table:
    """Rows in several chunks, as a version has them."""
    schema = pa.schema(
        [("id", pa.string()), ("n", pa.int64()), ("score", pa.float64()), ("kept", pa.bool_())]
    )
    batches = [
        pa.record_batch([list(column) for column in zip(*rows[at : at + size], strict=True)], schema=schema)
        for at in range(0, len(rows), size)
    ]
    return pa.Table.from_batches(batches, schema)


def in_duckdb(table: pa.Table, column: str, descending: bool) -> list[int]:
    """Row numbers by a column, NULL last; equal values in the order of the rows (backwards if descending)."""
    with connect() as connection:
        numbered = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
        connection.register("t", numbered)
        way = "DESC" if descending else "ASC"
        # NULLs keep the order of the rows either way.
        query = f"SELECT row FROM t ORDER BY {column} {way} NULLS LAST, CASE WHEN {column} IS NULL THEN row END, row {way}"
        return [row for (row,) in connection.execute(query).fetchall()]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, NUMBERS, SCORES, st.one_of(st.none(), st.booleans())), max_size=14),
    st.booleans(),
)
def test_a_sorted_table_is_the_one_that_duckdb_sorts(rows, descending):
    table = chunked(rows)
    with tempfile.TemporaryDirectory() as folder:
        orders = RowOrders(table, Path(folder))
        for column in ("n", "score", "kept", "id"):
            found = orders.rows(RowsWanted(sort=column, descending=descending)).tolist()
            if column == "id" and any("\x00" in (row[0] or "") for row in rows):
                # NUL pads the words that are compared: such texts may stand among those they begin with.
                assert sorted(found) == list(range(len(rows)))
            else:
                assert found == in_duckdb(table, column, descending)


ROWS = [
    ("j-1", 5, 3.0, True),
    ("j-2", None, None, False),
    ("j-3", 7, 3.0, None),
    ("k harbour", -1, 5.0, True),
    ("", 0, 0.0, False),
]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ([("f", "score:is:3")], [0, 2]),
        ([("f", "score:not:3")], [1, 3, 4]),
        ([("f", "score:min:3")], [0, 2, 3]),
        ([("f", "n:max:0")], [3, 4]),
        ([("f", "kept:is:yes")], [0, 3]),
        ([("f", "n:null:")], [1]),
        ([("f", "n:set:"), ("f", "score:is:3"), ("sort", "-n")], [2, 0]),
        ([("f", "id:has:arb")], [3]),
        ([("f", "id:hasi:HARB")], [3]),
        ([("column", "id"), ("operation", "is"), ("value", "")], [4]),
        ([("q", "j-2")], [1]),
        ([("q", "nothing")], []),
        ([("f", "id:has:%")], []),
    ],
)
def test_filters_keep_the_rows_that_they_name_in_order(tmp_path, address, expected):
    orders = RowOrders(chunked(ROWS), tmp_path)
    assert orders.rows(selection(address)).tolist() == expected


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ([("f", "score:is:many")], "expected a number"),
        ([("f", "kept:is:perhaps")], "expected yes or no"),
        ([("f", "nothing:is:1")], "there is no column 'nothing'"),
        ([("f", "n:like:1")], "expected COLUMN:OPERATION:VALUE"),
        ([("sort", "nothing")], "no column that can be sorted"),
    ],
)
def test_a_wrong_filter_is_one_sentence(tmp_path, address, said):
    with pytest.raises(UsageError, match=said):
        RowOrders(chunked(ROWS), tmp_path).rows(selection(address))


def test_long_texts_sort_by_their_length_and_lists_not_at_all(tmp_path):
    table = pa.table({"text": ["x" * 200, "z", "y" * 150], "many": [[1], [2], [3]]})
    orders = RowOrders(table, tmp_path)
    assert orders.by_length("text")
    assert orders.rows(RowsWanted(sort="text")).tolist() == [1, 2, 0]
    assert not orders.sortable("many")
    assert orders.fetch([2, 0], ["many"]) == [{"many": [3]}, {"many": [1]}]


def test_an_address_says_what_is_wanted_and_back():
    wanted = RowsWanted((Filter("reason", "has", "a:b&c"),), "two words", "score", True)
    address = wanted.query(7)
    assert selection(parse_qsl(address[1:])) == wanted
    assert dict(parse_qsl(address[1:]))["page"] == "7"
