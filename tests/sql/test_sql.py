"""`selfreward sql`: views, refusals in one sentence, output formats, the file for other DuckDB clients, the prompt."""

from __future__ import annotations

import csv
import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet
import pytest
from sample_run import Candidate, make_sample_run, publish_rows

from selfreward.errors import DamagedError, UsageError
from selfreward.exchange.exporting import export_file
from selfreward.sql.file import write_audit_file
from selfreward.sql.output import repl, run_query
from selfreward.sql.views import OpenRun, open_run
from selfreward.store.run import Run
from selfreward.tables import Score, from_table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two iterations of 24 pairs each."""
    return make_sample_run(tmp_path_factory.mktemp("sample") / "run")


@pytest.fixture
def opened(run: Run):
    with open_run(run.path) as database:
        yield database


def printed(run: Run, query: str, **options) -> str:
    stream = io.StringIO()
    run_query(run.path, query, stream=stream, **options)
    return stream.getvalue()


# -- views ---------------------------------------------------------------------------------------------------


def test_two_judging_setups_of_a_run_are_joined_in_one_query(tmp_path: Path) -> None:
    """96 candidates scored twice; every expected score is half a point above the sampled one it replaced."""
    run = make_sample_run(tmp_path / "run", iterations=1)
    rows = from_table(run.current("iter1/scores").table(), Score)
    other = [
        replace(row, judge_mode="expected", score=None if row.score is None else row.score + 0.5)
        for row in rows
    ]
    publish_rows(run, "iter1/scores", Score, other)
    query = """SELECT count(*), avg(b.score - a.score), bool_and(b.is_current AND NOT a.is_current)
        FROM score_versions a JOIN score_versions b USING (candidate_id)
        WHERE a.judge_mode = 'sampled' AND b.judge_mode = 'expected'"""
    with open_run(run.path) as database:
        assert database.sql(query).fetchall() == [(96, pytest.approx(0.5), True)]
        assert database.sql("SELECT count(*) FROM scores").fetchall() == [(96,)]


def test_a_dataset_is_a_view_over_all_iterations_and_one_for_each(opened: OpenRun) -> None:
    by_iteration = opened.sql("SELECT iteration, count(*) FROM pairs GROUP BY ALL ORDER BY ALL").fetchall()
    assert by_iteration == [(1, 24), (2, 24)]
    assert opened.sql("SELECT count(*) FROM iter2.pairs").fetchall() == [(24,)]
    assert opened.sql('SELECT count(*) FROM "iter1"."pairs" p JOIN ift ON true').fetchall() == [(24 * 40,)]


def test_only_the_datasets_that_a_query_names_are_read(
    opened: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(type(opened), "table", _remembering(type(opened).table, read))
    opened.sql("SELECT 'scores' FROM iter1.pairs").fetchall()
    assert set(read) <= {"iter1/pairs", "iter1/scores", "iter2/scores"}
    assert "iter2/pairs" not in read
    assert "ift" not in read


def _remembering(table, read: list[str]):
    def remember(self: OpenRun, name: str):
        read.append(name)
        return table(self, name)

    return remember


def test_iterations_with_other_columns_are_matched_by_name(tmp_path: Path) -> None:
    import pyarrow as pa

    from selfreward.store.run import Counts, Recipe

    run = Run.create(tmp_path / "run")
    row = Candidate("c-1", 1, "p-1", 0, "Yes.", "stop", 1, 4, "M1", 0, None)
    publish_rows(run, "iter1/candidates", Candidate, [row])
    foreign = pa.table({"mark": [7], "candidate_id": ["c-2"]})
    run.publish_table(Recipe("iter2/candidates", "tests 1"), foreign, Counts(1, 1))
    with open_run(run.path) as database:
        rows = database.sql(
            "SELECT candidate_id, iteration, n_chars, mark FROM candidates ORDER BY 1"
        ).fetchall()
    assert rows == [("c-1", 1, 4, None), ("c-2", 2, None, 7)]


def test_versions_and_their_origin_can_be_asked_for(run: Run, opened: OpenRun) -> None:
    ((version, n_rows, n),) = opened.sql(
        "SELECT version, n_rows, (params ->> '$.candidates.n')::INT FROM dataset_versions WHERE dataset = 'candidates' AND iteration = 1"
    ).fetchall()
    assert (version, n_rows, n) == (run.current("iter1/candidates").version, 96, 4)


def test_lineage_can_be_followed_in_sql_from_a_pair_to_its_seeds(run: Run, opened: OpenRun) -> None:
    """A pair rests on 2 candidates, 6 judgements, 1 prompt, its 8 demonstrations and their 8 seed rows."""
    pair_id = run.current("iter1/pairs").table()["pair_id"][0].as_py()
    rows = opened.sql(
        f"""SELECT split_part(id, '-', 1), count(DISTINCT id) FROM lineage('{pair_id}')
        WHERE id NOT LIKE 'i_%' OR id LIKE 'ift%' GROUP BY ALL ORDER BY 1"""
    ).fetchall()
    assert rows == [("c", 2), ("ift", 8), ("j", 6), ("p", 1), ("pair", 1)]
    seeds = opened.sql(f"SELECT count(*) FROM lineage('{pair_id}') JOIN seeds ON id = seed_id").fetchall()
    assert seeds == [(8,)]
    by_hand = opened.sql(
        f"""WITH RECURSIVE origin AS (
            SELECT '{pair_id}' AS id UNION SELECT parent_id FROM lineage_edges JOIN origin ON child_id = id)
        SELECT count(*) FROM origin"""
    ).fetchall()
    assert by_hand == [(2 + 8 + 6 + 1 + 1 + 8,)]


def test_the_connection_holds_every_view(opened: OpenRun) -> None:
    assert opened.connection.execute("SELECT count(*) FROM judgements").fetchall() == [(576,)]


def test_a_damaged_dataset_is_not_read(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1)
    (shard,) = run.current("iter1/pairs").folder.glob("data-*.arrow")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    with open_run(run.path) as database:
        assert database.sql("SELECT count(*) FROM scores").fetchall() == [(96,)]
        with pytest.raises(DamagedError):
            database.sql("SELECT count(*) FROM pairs")


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM pairs", "a run is read-only, and this is a DELETE statement"),
        ("INSERT INTO pairs FROM pairs", "read-only, and this is an INSERT statement"),
        ("CREATE TABLE x AS FROM pairs", "read-only, and this is a CREATE"),
        ("COPY pairs TO 'x.csv'", "read-only, and this is a COPY"),
        ("ATTACH 'x.db'", "read-only, and this is an ATTACH"),
        ("SET threads = 1", "read-only, and this is a SET"),
        ("EXPLAIN ANALYZE DELETE FROM pairs", "read-only, and this is a DELETE"),
        ("WITH d AS (DELETE FROM pairs RETURNING *) FROM d", "read-only"),
        ("SELECT 1; DROP VIEW pairs", "found 2 statements"),
        ("", "found 0 statements"),
        ("SELEC 1", "syntax error"),
        ("FROM iter1/pairs", "in SQL iter1/pairs is iter1.pairs"),
        ("SELECT * FROM pair", "no dataset 'pair'; nearest: pairs"),
        ("SELECT * FROM itr1.pairs", "nearest: iter1.pairs"),
        ("SELECT chosen_scor FROM pairs", "pairs has no column 'chosen_scor'; nearest: chosen_score"),
        (
            "SELECT p.margins FROM pairs p JOIN scores USING (prompt_id)",
            "no column 'margins'; nearest: margin",
        ),
        ("SELECT * FROM 'pairs.csv'", "there is no dataset 'pairs.csv'"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT sqroot(margin) FROM pairs", "sqroot"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(
    opened: OpenRun, query: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        opened.sql(query)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_python_variables_are_out_of_reach(opened: OpenRun) -> None:
    import pyarrow as pa

    secret = pa.table({"x": [1]})
    with pytest.raises(UsageError, match="no dataset 'secret'"):
        opened.sql("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_an_error_while_rows_are_computed_is_one_sentence_too(run: Run) -> None:
    for format in ("table", "json", "csv"):
        with pytest.raises(UsageError, match="Could not convert") as caught:
            printed(run, "SELECT chosen[1].content::INT FROM pairs", format=format)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("query", ["PIVOT pairs ON rule USING count(*)", "DESCRIBE pairs", "SHOW TABLES", "FROM pairs",
                                   "SUMMARIZE scores", "VALUES (1)", "EXPLAIN SELECT 1", "(SELECT 1)"])  # fmt: skip
def test_every_kind_of_reading_is_let_through(run: Run, query: str) -> None:
    assert printed(run, query)


# -- output --------------------------------------------------------------------------------------------------


def test_a_table_says_what_it_does_not_show(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(run, "SELECT * FROM pairs", max_rows=5)
    assert "48 rows, 43 of them not shown, columns not shown: " in text
    assert max(map(len, text.splitlines()[:-1])) <= 80
    assert "…" in text
    assert "(2 rows)" in printed(run, "SELECT DISTINCT iteration FROM pairs")


def test_json_keeps_every_row_and_nan_is_null(run: Run) -> None:
    rows = json.loads(
        printed(run, "SELECT pair_id, chosen, 'NaN'::DOUBLE AS n, NULL AS u FROM pairs", format="json")
    )
    assert len(rows) == 48
    assert rows[0]["chosen"][0]["role"] == "assistant"
    assert (rows[0]["n"], rows[0]["u"]) == (None, None)
    assert json.loads(printed(run, "SELECT 1 WHERE false", format="json")) == []
    (big,) = json.loads(printed(run, "SELECT sum(i) AS s FROM range(3) t(i)", format="json"))
    assert big == {"s": 3}


def test_csv_has_a_header_and_quotes_what_needs_it(run: Run) -> None:
    rows = list(
        csv.DictReader(io.StringIO(printed(run, "SELECT judgement, score FROM judgements", format="csv")))
    )
    assert len(rows) == 576
    assert "\nScore: " in rows[0]["judgement"]


FORMULAS = "SELECT '=1+1' AS \"@x\", '-2' AS b, -2 AS c, 'a=b' AS d, NULL AS e"


def test_csv_for_spreadsheets_has_no_formulas_and_other_csv_is_as_it_is(run: Run, tmp_path: Path) -> None:
    assert printed(run, FORMULAS, format="csv") == "@x,b,c,d,e\n=1+1,-2,-2,a=b,\n"
    inert = "'@x,b,c,d,e\n'=1+1,'-2,-2,a=b,\n"
    assert printed(run, FORMULAS, format="csv", spreadsheet=True) == inert
    run_query(run.path, FORMULAS, out=tmp_path / "x.csv", spreadsheet=True)
    assert (tmp_path / "x.csv").read_text() == inert
    for options in ({"format": "json"}, {"out": tmp_path / "x.parquet"}):
        with pytest.raises(UsageError, match="--spreadsheet is for CSV"):
            printed(run, FORMULAS, spreadsheet=True, **options)


def test_an_exported_csv_for_spreadsheets_has_no_formulas_either(tmp_path: Path) -> None:
    bad = Candidate("c-0", 1, "p-0", 0, "=HYPERLINK(1)", "stop", 3, 13, "m", 0, None)
    run = make_sample_run(tmp_path / "run", iterations=1)
    publish_rows(run, "iter1/candidates", Candidate, [bad])
    export_file(run, "iter1/candidates", tmp_path / "plain.csv")
    export_file(run, "iter1/candidates", tmp_path / "inert.csv", spreadsheet=True)
    (plain,), (inert,) = (list(csv.DictReader((tmp_path / f"{n}.csv").open())) for n in ("plain", "inert"))
    assert plain | {"response": "'=HYPERLINK(1)"} == inert
    with pytest.raises(UsageError, match=r"--spreadsheet is for files that end in \.csv"):
        export_file(run, "iter1/candidates", tmp_path / "x.jsonl", spreadsheet=True)


def test_rows_go_to_a_file_by_its_ending_and_replace_it_whole(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert run_query(run.path, "SELECT pair_id, chosen FROM pairs", out=tmp_path / "x.parquet") == 48
    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").num_rows == 48
    run_query(run.path, "SELECT 1 AS one", out=tmp_path / "x.csv")
    run_query(run.path, "SELECT 1 AS one", out=tmp_path / "x.json")
    assert (tmp_path / "x.csv").read_text() == "one\n1\n"
    assert json.loads((tmp_path / "x.json").read_text()) == [{"one": 1}]
    with pytest.raises(UsageError, match="Could not convert"):
        run_query(run.path, "SELECT chosen[1].content::INT AS i FROM pairs", out=tmp_path / "x.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").num_rows == 48
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.json", "x.parquet"]
    for bad in (tmp_path / "x.docx", tmp_path / "no" / "x.csv", tmp_path / "no" / "x.duckdb"):
        with pytest.raises(UsageError, match="--out"):
            run_query(run.path, "SELECT 1", out=bad)


def test_columns_of_one_name_keep_their_values(run: Run, tmp_path: Path, capsys) -> None:
    """1, 2, 3 under a, b, a; an object needs other names, and gets them with a word on stderr."""
    query = "SELECT 1 AS a, 2 AS b, 3 AS a"
    assert printed(run, query, format="csv") == "a,b,a\n1,2,3\n"
    assert json.loads(printed(run, query, format="json")) == [{"a": 1, "b": 2, "a_1": 3}]
    assert "a_1" in capsys.readouterr().err
    assert printed(run, query).splitlines()[-2].split() == ["1", "2", "3"]
    run_query(run.path, query, out=tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "a,b,a\n1,2,3\n"


def test_decimals_are_written_as_numbers_that_every_reader_has(run: Run, tmp_path: Path, capsys) -> None:
    """0 + 1 + 2 = 3 and 0.5 fit int64 and double; twice 2^63 does not fit and becomes a double, said on stderr."""
    query = (
        "SELECT sum(i) AS n, 0.5 AS h, [0.25] AS l, '18446744073709551616'::HUGEINT AS b FROM range(3) t(i)"
    )
    run_query(run.path, query, out=tmp_path / "x.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert [str(field.type) for field in table.schema][:2] == ["int64", "double"]
    assert table.to_pylist() == [{"n": 3, "h": 0.5, "l": [0.25], "b": 2.0**64}]
    assert "'b'" in capsys.readouterr().err


def test_json_lines_are_written_too(run: Run, tmp_path: Path) -> None:
    assert run_query(run.path, "SELECT unnest([1, 2]) AS n", out=tmp_path / "x.jsonl") == 2
    assert (tmp_path / "x.jsonl").read_text() == '{"n": 1}\n{"n": 2}\n'


def test_a_table_does_not_fetch_the_rows_that_it_does_not_show(run: Run) -> None:
    """A hundred million rows would take minutes and memory; DuckDB counts them without making them."""
    assert "(100,000,000 rows, 99,999,960 of them not shown)" in printed(run, "FROM range(100000000)")


def test_the_file_for_other_clients_holds_the_run_in_the_storage_of_duckdb_1_0(
    run: Run, tmp_path: Path
) -> None:
    """The main header of a DuckDB file: checksum (8 bytes), `DUCK`, storage version (64 up to DuckDB 1.1)."""
    path = tmp_path / "audit.duckdb"
    assert run_query(run.path, "SELECT pair_id FROM pairs LIMIT 3", out=path) == 3
    assert struct.unpack_from("<8x4sQ", path.read_bytes()) == (b"DUCK", 64)
    with duckdb.connect(str(path), read_only=True) as client:
        assert client.execute("SELECT count(*) FROM pairs").fetchall() == [(48,)]
        assert client.execute("SELECT count(*) FROM iter1.judgements").fetchall() == [(288,)]
        assert client.execute("SELECT count(*) FROM result").fetchall() == [(3,)]
        assert client.execute("SELECT count(*) FROM dataset_versions").fetchall() == [(len(run.names()),)]
        assert client.execute("SELECT count(*) FROM lineage_edges").fetchall()[0][0] > 1000
        pair_id = client.execute("SELECT pair_id FROM pairs LIMIT 1").fetchall()[0][0]
        reached = client.execute("SELECT count(DISTINCT id) FROM lineage(?)", [pair_id]).fetchall()
        assert reached == [(26,)]
        (stored,) = client.execute("SELECT chosen FROM iter1.pairs ORDER BY pair_id LIMIT 1").fetchall()[0]
    first = min(run.current("iter1/pairs").table().to_pylist(), key=lambda row: row["pair_id"])
    assert stored == first["chosen"]
    assert write_audit_file(run.path, path) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["audit.duckdb"]


def test_the_prompt_outlives_a_value_that_python_cannot_hold(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["SELECT 'infinity'::TIMESTAMP;", "SELECT 41 + 1 AS answer;", ".quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    stream = io.StringIO()
    repl(run.path, stream)
    assert "query: " in stream.getvalue()
    assert "42" in stream.getvalue()


def test_the_prompt_answers_until_it_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(
        [".tables", "SELECT count(*) AS n", "FROM iter1.pairs;", "SELECT nope FROM pairs;", "", ".quit"]
    )
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    stream = io.StringIO()
    repl(run.path, stream)
    text = stream.getvalue()
    assert "iter2.scores" in text
    assert "24" in text
    assert "pairs has no column 'nope'" in text


def test_the_prompt_ends_with_the_input_and_drops_a_line_on_ctrl_c(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = iter(["SELECT", KeyboardInterrupt, "SELECT 7;", EOFError])

    def typed(prompt: str) -> str:
        event = next(events)
        if isinstance(event, str):
            return event
        raise event

    monkeypatch.setattr("builtins.input", typed)
    stream = io.StringIO()
    repl(run.path, stream)
    assert "7" in stream.getvalue()
