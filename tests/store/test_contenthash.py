"""The content hash: two implementations agree, chunks and column order do not matter, every cell and type does."""

from __future__ import annotations

import json
import re
import struct
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from content_hash_reference import reference_sha256
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selfreward.errors import InputError
from selfreward.store.contenthash import ContentHasher, content_sha256

GOLDEN = Path(__file__).parents[1] / "data" / "content_hash_golden.json"
PAGE = Path(__file__).parents[2] / "docs" / "content-hash.md"

_INTEGERS = {f"{sign}int{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits - (not sign)) - 1)
             for sign in ("", "u") for bits in (8, 16, 32, 64)}  # fmt: skip
_ARROW = {"timestamp[us]": pa.timestamp("us"), "timestamp[ms, UTC]": pa.timestamp("ms", "UTC"),
          "duration[s]": pa.duration("s"), "bool": pa.bool_()}  # fmt: skip
_TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
_SCALARS = {
    **{name: st.integers(*bounds) for name, bounds in _INTEGERS.items()},
    "bool": st.booleans(),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "date32": st.integers(-1000, 20_000),
    "timestamp[us]": st.integers(0, 2**50),
    "timestamp[ms, UTC]": st.integers(0, 2**40),
    "duration[s]": st.integers(0, 2**40),
    "string": _TEXT,
    "large_string": _TEXT,
    "binary": st.binary(max_size=6),
    "null": st.nothing(),
}
_NAMES = st.sampled_from(["a", "b", "item", "validity", "a.b", "values", "", "é"])


def _structs(inner):
    fields = st.lists(st.tuples(_NAMES, inner), min_size=1, max_size=3, unique_by=lambda field: field[0])
    return st.tuples(st.just("struct"), fields.map(tuple))


_TYPES = st.recursive(
    st.sampled_from(sorted(_SCALARS)),
    lambda inner: st.tuples(st.sampled_from(["list", "large_list"]), inner) | _structs(inner),
    max_leaves=4,
)


def slots_of(kind):
    if isinstance(kind, str):
        return st.none() | _SCALARS[kind]
    if kind[0] == "struct":
        return st.none() | st.fixed_dictionaries({name: slots_of(inner) for name, inner in kind[1]})
    return st.none() | st.lists(slots_of(kind[1]), max_size=3)


def arrow_type(kind) -> pa.DataType:
    if isinstance(kind, str):
        return _ARROW[kind] if kind in _ARROW else getattr(pa, kind)()
    if kind[0] == "struct":
        return pa.struct([(name, arrow_type(inner)) for name, inner in kind[1]])
    return (pa.list_ if kind[0] == "list" else pa.large_list)(arrow_type(kind[1]))


def arrow_table(columns) -> pa.Table:
    schema = pa.schema([(name, arrow_type(kind)) for name, kind, _ in columns])
    return pa.table([pa.array(slots, arrow_type(kind)) for _, kind, slots in columns], schema=schema)


@st.composite
def tables(draw, min_rows: int = 0):
    n_rows = draw(st.integers(min_rows, 6))
    columns = draw(st.lists(st.tuples(_NAMES, _TYPES), min_size=1, max_size=3, unique_by=lambda c: c[0]))
    return [
        (name, kind, draw(st.lists(slots_of(kind), min_size=n_rows, max_size=n_rows)))
        for name, kind in columns
    ]


@settings(deadline=None, max_examples=150)
@given(tables())
def test_arrow_and_the_plain_python_of_the_page_agree(columns):
    assert content_sha256(arrow_table(columns)) == reference_sha256(columns)


@settings(deadline=None, max_examples=80)
@given(tables(), st.data())
def test_chunks_slices_and_column_order_do_not_matter(columns, data):
    """The table is cut at random rows, and every cut is a slice out of a longer one (so it has an offset)."""
    table = arrow_table(columns)
    cuts = sorted({0, table.num_rows, *data.draw(st.lists(st.integers(0, table.num_rows), max_size=4))})
    longer = pa.concat_tables([table, table]).combine_chunks()
    pieces = [longer.slice(table.num_rows + a, b - a) for a, b in pairwise(cuts)]
    order = data.draw(st.permutations(table.column_names))
    again = pa.concat_tables([table.slice(0, 0), *pieces]).select(order)
    assert content_sha256(again) == content_sha256(table)


@settings(deadline=None, max_examples=150)
@given(tables(min_rows=1), st.data())
def test_any_changed_cell_changes_the_hash(columns, data):
    number = data.draw(st.integers(0, len(columns) - 1))
    name, kind, slots = columns[number]
    row = data.draw(st.integers(0, len(slots) - 1))
    other = data.draw(slots_of(kind))
    assume(not _same(kind, other, slots[row]))
    changed = [*columns]
    changed[number] = (name, kind, [*slots[:row], other, *slots[row + 1 :]])
    assert content_sha256(arrow_table(changed)) != content_sha256(arrow_table(columns))


def _same(kind, one, other) -> bool:
    """Equal as logical values: NaN is NaN, 0.0 is not -0.0."""
    return reference_sha256([("x", kind, [one])]) == reference_sha256([("x", kind, [other])])


@settings(deadline=None, max_examples=50)
@given(tables(min_rows=2), st.data())
def test_any_other_order_of_rows_changes_the_hash(columns, data):
    n_rows = len(columns[0][2])
    order = data.draw(st.permutations(range(n_rows)))
    moved = [(name, kind, [slots[i] for i in order]) for name, kind, slots in columns]
    assume(any(not _same(k, x, y) for (_, k, a), (_, _, b) in zip(columns, moved, strict=True)
               for x, y in zip(a, b, strict=True)))  # fmt: skip
    assert content_sha256(arrow_table(moved)) != content_sha256(arrow_table(columns))


def test_every_type_name_and_number_of_rows_has_a_hash_of_its_own():
    """The same numbers 0 and 1 (or nothing at all) under every type, and under another name: all hashes differ."""
    kinds = [
        *_INTEGERS,
        "float16",
        "float32",
        "float64",
        "date32",
        "date64",
        "timestamp[us]",
        "timestamp[ms, UTC]",
    ]
    hashes = {
        content_sha256(arrow_table([("a", kind, slots)]))
        for kind in kinds
        for slots in ([], [0, 1], [0, 1, 1])
    }
    texts = ["string", "large_string", "binary"]
    hashes |= {
        content_sha256(arrow_table([("a", kind, slots)])) for kind in texts for slots in ([], ["ab", "c"])
    }
    hashes |= {
        content_sha256(arrow_table([("a", "string", slots)])) for slots in (["a", "bc"], ["", "abc"], ["abc"])
    }
    hashes |= {content_sha256(arrow_table([(name, "int8", [])])) for name in ("b", "c")}
    assert len(hashes) == 3 * len(kinds) + 2 * len(texts) + 3 + 2


def test_metadata_and_nullability_are_no_part_of_the_hash():
    plain = pa.table({"a": ["x"]})
    marked = pa.table(
        [["x"]], schema=pa.schema([pa.field("a", pa.string(), False, {"k": "v"})], {"huggingface": "{}"})
    )
    assert content_sha256(marked) == content_sha256(plain)


def test_every_nan_is_one_value_and_minus_zero_is_another_than_zero():
    quiet, payload = (
        struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8 << 48, 0xFFF8 << 48 | 7)
    )
    assert content_sha256(pa.table({"a": [quiet]})) == content_sha256(pa.table({"a": [payload]}))
    assert content_sha256(pa.table({"a": [0.0]})) != content_sha256(pa.table({"a": [-0.0]}))


def test_the_slots_under_a_null_struct_or_list_do_not_matter():
    """Arrow keeps whatever lies under a NULL; a reader never sees it, so neither does the hash."""
    valid = pa.array([True, False]).buffers()[1]
    for hidden in (7, 8):
        child = pa.array([1, hidden])
        array = pa.StructArray.from_buffers(pa.struct([("a", pa.int64())]), 2, [valid], children=[child])
        assert content_sha256(pa.table({"s": array})) == content_sha256(pa.table({"s": [{"a": 1}, None]}))
        lists = pa.ListArray.from_arrays([0, 1, 2], child, mask=pa.array([False, True]))
        assert content_sha256(pa.table({"l": lists})) == content_sha256(pa.table({"l": [[1], None]}))


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()), ids=lambda case: case["name"])
def test_both_implementations_give_the_golden_hash(case):
    columns = [(name, _frozen(kind), slots) for name, kind, slots in case["columns"]]
    assert reference_sha256(columns) == case["content_sha256"]
    assert content_sha256(arrow_table(columns)) == case["content_sha256"]


def _frozen(kind):
    return tuple(_frozen(part) for part in kind) if isinstance(kind, list) else kind


def test_the_worked_example_of_the_page_is_right():
    table = pa.table({"text": ["hi", "é"], "score": [4.5, None]})
    (shown,) = re.findall(r"content_sha256 = ([0-9a-f]{64})", PAGE.read_text())
    assert content_sha256(table) == shown


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a"]).dictionary_encode(),
        pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
        pa.array([b"ab"], pa.binary(2)),
        pa.array([1], pa.time32("s")),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
        pa.array(["a"], pa.string_view()),
    ],
    ids=lambda array: str(array.type),
)
def test_a_type_that_cannot_be_stored_is_refused_by_column_and_type(array):
    with pytest.raises(InputError, match=r"bad\.inner: type .* cannot be stored"):
        ContentHasher(pa.schema([("bad", pa.struct([("inner", array.type)]))]))


def test_two_columns_of_one_name_and_rows_of_another_schema_are_refused():
    with pytest.raises(InputError, match="2 fields named 'a'"):
        content_sha256(pa.table([[1], [2]], names=["a", "a"]))
    hasher = ContentHasher(pa.schema([("a", pa.int64())]))
    with pytest.raises(InputError, match="expected \\['a'\\]"):
        hasher.update(pa.record_batch({"b": [1]}))
