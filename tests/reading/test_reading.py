"""The one reader of people's files: the same rows from every form, text byte for byte, and errors with a place."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import InputError
from selfreward.reading.files import read_rows
from selfreward.reading.messages import as_messages, only_turn

ROWS = [{"id": "007", "text": "N/A"}, {"id": "1.50", "text": 'line\r\ntwo, with "quotes"'}]


def array(rows):
    return json.dumps(rows).encode()


def lines(rows):
    return "".join(json.dumps(row) + "\n\n" for row in rows).encode()


def by_column(rows):
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}, indent=1).encode()


def comma_separated(rows):
    out = [",".join(rows[0])]
    out += [",".join('"' + value.replace('"', '""') + '"' for value in row.values()) for row in rows]
    return ("\r\n".join(out)).encode()


def parquet(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


FORMS = [
    ("x.json", array),
    ("x.json", lines),
    ("x.json", by_column),
    ("x.jsonl", array),
    ("x.jsonl", lines),
    ("x.jsonl", by_column),
    ("x.csv", comma_separated),
    ("x.parquet", parquet),
    ("x", parquet),
]


@pytest.mark.parametrize(("name", "write"), FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_every_form_gives_the_same_rows(tmp_path, name, write, packed):
    path = tmp_path / (name + ".gz" * packed)
    data = write(ROWS)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert [row for _, row in read_rows(path)] == ROWS


def test_a_one_line_object_by_column_in_json_is_a_table_and_in_jsonl_a_row(tmp_path):
    for name, expected in (("x.json", [{"a": "1"}, {"a": "2"}]), ("x.jsonl", [{"a": ["1", "2"]}])):
        (tmp_path / name).write_text('{"a": ["1", "2"]}')
        assert [row for _, row in read_rows(tmp_path / name)] == expected


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbfa\n1\n")
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "1"}\n')
    for name in ("x.csv", "x.jsonl"):
        assert list(read_rows(tmp_path / name)) == [(1, {"a": "1"})]


def test_csv_keeps_texts_and_tells_an_empty_text_from_nothing(tmp_path):
    (tmp_path / "x.csv").write_text('a,b,c,d\n007,1.50,TRUE,2024-01-01\nNone,NA,,""\n')
    assert list(read_rows(tmp_path / "x.csv")) == [
        (1, {"a": "007", "b": "1.50", "c": "TRUE", "d": "2024-01-01"}),
        (2, {"a": "None", "b": "NA", "c": None, "d": ""}),
    ]


def test_json_keeps_dates_as_texts_and_big_numbers_whole(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"d": "2024-01-01T10:00:00+02:00", "n": 12345678901234567890123}\n')
    assert list(read_rows(tmp_path / "x.jsonl")) == [
        (1, {"d": "2024-01-01T10:00:00+02:00", "n": 12345678901234567890123})
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 2),
        min_size=1,
    )
)
def test_what_pythons_csv_module_writes_is_read_back(tmp_path_factory, cells):
    """An empty text that it writes without quotes is nothing; everything else comes back as it was."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    assert [tuple(row.values()) for _, row in read_rows(path)] == cells


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \n', r"x.jsonl:2: is not valid JSON \(.* at column 7\)"),
        ("x.json", b'[{"a": 1},\n {"a": }]', r"x.json:2: is not valid JSON \(.* at column 8\)"),
        ("x.json", b'[{"a": 1}, 7]', "row 2: expected an object with columns, found 7"),
        (
            "x.json",
            b'{"data": [{"a": 1}, {"a": 2}]}',
            "one JSON object with the keys data; expected an array of rows",
        ),
        ("x.json", b'{"a": [1, 2], "b": [1]}', r"different lengths \(a 2, b 1\)"),
        ("x.json", b'{\n"a": 1}', "one JSON object with the keys a"),
        ("x.jsonl", b'{"a": "\xe9"}\n', "x.jsonl:1: is not UTF-8 text"),
        ("x.jsonl", b"[" * 100_000, "is not valid JSON"),
        ("x.csv", b"a,b\n1,2\n3\n", "row 2 has 1 cells; the header has 2 columns"),
        ("x.csv", b"a,b\n1,\xe9\n", r"row 1.*invalid UTF8"),
        ("x.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("x.parquet", b"not Parquet", "x.parquet: cannot be read"),
        ("x.jsonl.gz", b"not gzip", "gzip file is cut off or damaged"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "gzip file is cut off or damaged"),
        ("x.csv.gz", gzip.compress(b"a\n" + b"1\n" * 99, mtime=0)[:-9], "gzip file is cut off or damaged"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_a_place(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        list(read_rows(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_folder_and_an_absent_file_are_named(tmp_path):
    with pytest.raises(InputError, match="is a folder; give one of the files in it"):
        list(read_rows(tmp_path))
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        list(read_rows(tmp_path / "absent.csv"))


def test_invalid_text_in_parquet_is_refused(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"a": bad}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"rows 1 to 1: contain damaged values \(.*UTF8"):
        list(read_rows(tmp_path / "x.parquet"))


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_rows_of_many_mb_are_read(tmp_path, name):
    rows = [{"a": str(number), "b": f"{number}\n" * 3_000_000} for number in range(2)]
    write = {"x.jsonl": lines, "x.csv": comma_separated, "x.parquet": parquet}[name]
    (tmp_path / name).write_bytes(write(rows))
    assert [len(row["b"]) for _, row in read_rows(tmp_path / name)] == [6_000_000, 6_000_000]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """60 MB of rows in a process that may not take 700 MB of address space more than the libraries do."""
    (tmp_path / "x.jsonl").write_text('{"a": "' + "x" * 290 + '"}\n' * 1)
    with (tmp_path / "x.jsonl").open("a") as file:
        for _ in range(200_000):
            file.write('{"a": "' + "x" * 290 + '"}\n')
    script = (
        "import resource, sys; from pathlib import Path; from selfreward.reading.files import read_chunks\n"
        "chunks = read_chunks(Path(sys.argv[1])); next(chunks)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "n = sum(len(chunk.numbers) for chunk in chunks)\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.jsonl")], capture_output=True, text=True, check=True
    )
    n_rows, grown_kb = map(int, done.stdout.split())
    assert n_rows > 190_000 - 10_000
    assert grown_kb < 40_000


# -- messages ------------------------------------------------------------------------------------------------


def test_both_dialects_of_messages_are_read():
    turns = [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    assert as_messages(turns) == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
    ]
    assert only_turn([{"role": "user", "content": "Q", "name": None}], "user") == "Q"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected a list of messages"),
        ("text", "expected a list of messages"),
        ([{"role": "user"}], "a turn with the keys role, expected role and content"),
        ([{"role": "user", "content": "Q", "tool_calls": []}], "keys content, role, tool_calls"),
        ([{"role": "tool", "content": "Q"}], "a turn of 'tool'"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Q"}]}],
            "as a turn's content, expected a text",
        ),
        (["Q"], "found 'Q', expected role and content"),
    ],
)
def test_what_messages_cannot_hold_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        as_messages(value)
