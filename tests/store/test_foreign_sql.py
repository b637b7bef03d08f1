"""Queries, pair rules, names of columns and rows from elsewhere: nothing of it is executed, reads or writes elsewhere."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from foreign_run import one_sentence, snapshot
from sample_run import make_sample_run

from selfreward.builders import pairs
from selfreward.config.judging import PairsConfig
from selfreward.config.run import RunConfig
from selfreward.errors import GateError, InputError, SelfrewardError, UsageError
from selfreward.judging.audits.runner import gate, run_audits
from selfreward.sql.diff import diff
from selfreward.sql.lineage import lineage
from selfreward.sql.output import run_query
from selfreward.sql.queries import check_reads, connect, quoted
from selfreward.sql.views import OpenRun
from selfreward.store.run import Counts, Recipe, Run

ROOT = Path(__file__).parents[2]
PACKAGES = ("selfreward", "builders", "judging", "training", "evaluation", "data_cards")
HOSTILE = [
    "x\"; COPY (SELECT 1) TO 'marker.csv'; --",
    "a",
    "b",
    "key",
    'q"',
    "n_both",
    "select",
    "é",
    "x'y",
    "a b",
    "\n",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_sample_run(tmp_path_factory.mktemp("whole") / "run", iterations=1).path


@pytest.fixture
def run(whole, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "secret.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path / "cwd")
    path = Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
    before = snapshot(tmp_path, (path,))
    yield Run(path)
    assert snapshot(tmp_path, (path,)) == before


def replace_rows(run: Run, name: str, table: pa.Table, setting: int = 1) -> None:
    run.publish_table(
        Recipe(name, "import 1", {}, {"setting": setting}), table, Counts(len(table), len(table))
    )


# -- every connection, every name ----------------------------------------------------------------------------


def _sources() -> list[tuple[Path, ast.Module]]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in paths]


def test_there_is_one_way_to_duckdb():
    """`selfreward.queries.connect`, and within it the only `duckdb.connect`; files may be written by the audit file alone."""
    found, with_files = [], []
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                text = ast.unparse(node.func)
                found += [str(path)] if text == "duckdb.connect" else []
                with_files += (
                    [str(path)] if any(k.arg == "files" and text == "connect" for k in node.keywords) else []
                )
            if isinstance(node, ast.ImportFrom) and node.module == "duckdb":
                found.append(f"{path}: from duckdb import")
    assert found == ["selfreward/sql/queries.py"]
    assert with_files == ["selfreward/sql/file.py"]


_SQL = re.compile(r"\b(SELECT|FROM|CREATE|ATTACH|DESCRIBE|WHERE|INSERT|DROP|JOIN)\b")
_SAFE_CALLS = {
    "quoted",
    "_literal",
    "literal",
    "_is",
    "_joined",
    "_match",
    "_differ",
    "union_query",
    "_edges_query",
    "int",
}
_SAFE_VALUES = {
    # made of `quoted`, of numbers, or of this project's own constants
    "selfreward/sql/diff.py": {"columns", "per_column", "order", "keys", "values", "equal"},
    "selfreward/sql/views.py": {"view", "table"},
    "selfreward/sql/pair_outcomes.py": {"parts", "_query(one, table_of)"},
    "selfreward/sql/file.py": {"STORAGE_VERSION"},
    "selfreward/sql/lineage_queries.py": {
        "LINEAGE",
        "EDGES",
        "dataset.key[0]",
        "_parents(dataset, link)",
        "link.relation",
        "dataset.kind",
    },
    # The page: numbers of iterations, kinds and columns named in the source; ids of rows stand as `literal`s, joined in `listed`.
    "selfreward/page/bins.py": {"column", "lower", "rows", "value"},
    "selfreward/page/data.py": {"_MAX_DOTS", "number", "sides", "view"},
    "selfreward/page/evaluated.py": {"EVALUATIONS", "same_judge"},
    "selfreward/page/made.py": {"changes", "columns"},
    "selfreward/page/measures.py": {
        "_LABEL.format(name=_text('counts', 'notes.alpaca.model'))",
        "_LABEL.format(name=_text('inputs', 'model.name'))",
        "_number('notes.agreement.judge.pairwise_ties_half.n')",
        "_number('notes.alpaca.avg_length')",
        "_number('notes.alpaca.avg_length_reference')",
        "kind",
        "parts",
    },
    "selfreward/page/pairs.py": {"N_ROWS", "iteration"},
    "selfreward/page/rows.py": {
        "N_ROWS",
        "dataset.replace('/', '.')",
        "ids",
        "iteration",
        "listed",
        "one.column",
        "one.text",
        "rows",
        "sample.key",
        "sample.where",
    },
    "selfreward/page/scores.py": {"_MAX_DOTS", "joined", "number"},
    "judging/audits/runner.py": {"rows"},
    "judging/audits/contamination.py": {"where"},
    "judging/audits/near.py": {"query"},
    "judging/audits/data.py": {"kind", "query"},
    "judging/audits/tables.py": {
        "dataset.key[0]",
        "kind",
        "iteration",
        "hashed",
        "key",
        "VERSIONS",
        "seed",
        "n",
        "place",
        "low",
        # numbers of iterations, and a text of our own
        "', '.join(map(str, others)) or 'NULL'",
        "dataset.iteration",
        "thought",
    },
    # conditions made of quoted names and parameters
    "selfreward/view/filters.py": {
        "name",
        "text",
        "'NOT ' if one.operation == 'set' else ''",
        "'NOT ' if one.operation == 'is' else ''",
        "'>=' if one.operation == 'min' else '<='",
    },
    "selfreward/view/orders.py": {"where"},
    "selfreward/view/shelf.py": {"where"},
    "judging/audits/tokens.py": {
        "long",
        "seed",
        "_BYTES[dataset]",
        "drawn",
        "dataset",
        "key",
        "is_long",
        "n",
    },
}


def test_no_name_stands_unquoted_in_a_query():
    """Every f-string of SQL: what is put in is `quoted`, a number, or listed above with its reason."""
    wrong = []
    for path, tree in _sources():
        told = {id(n) for r in ast.walk(tree) if isinstance(r, ast.Raise) for n in ast.walk(r)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr) or id(node) in told:
                continue
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if not _SQL.search(text) or "Example:" in text or "selfreward sql" in text:
                continue
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    value = part.value
                    safe = isinstance(value, ast.Call) and ast.unparse(value.func) in _SAFE_CALLS
                    if not safe and ast.unparse(value) not in _SAFE_VALUES.get(str(path), ()):
                        wrong.append(f"{path}:{node.lineno}: {ast.unparse(value)}")
    assert "\n".join(wrong) == ""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_quoted_name_is_that_name(name):
    with connect() as connection:
        connection.execute(f"CREATE TABLE t ({quoted(name)} INT)")
        assert connection.execute("DESCRIBE t").fetchall()[0][0] == name


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM read_csv('secret.csv')", "SELECT * FROM 'secret.csv'", "SELECT * FROM read_text('secret.csv')",
     "SELECT * FROM glob('*')", "COPY (SELECT 1) TO 'marker.csv'", "ATTACH 'marker.db'", "INSTALL httpfs", "LOAD httpfs",
     "SET enable_external_access = true", "SET lock_configuration = false", "RESET enable_external_access",
     "EXPORT DATABASE 'marker'", "SELECT * FROM sniff_csv('secret.csv')", "SELECT * FROM parquet_metadata('x.parquet')",
     "PRAGMA enable_external_access = true", "SELECT * FROM secret", "CREATE SECRET s (TYPE s3)"],
)  # fmt: skip
def test_a_connection_of_ours_reaches_no_file_and_cannot_be_opened(run, query):
    import duckdb

    secret = pa.table({"x": [1]})
    with connect() as connection, pytest.raises(duckdb.Error):
        connection.execute(query).fetchall()
    assert secret.num_rows == 1


@pytest.mark.parametrize(
    "query",
    ["", ";", "-- nothing", "SELECT 1; SELECT 2", "UPDATE EXTENSIONS", "SELECT '\udc80'", "CREATE TABLE z AS SELECT 1",
     "CREATE TABLE z AS PIVOT pairs ON rule USING count(*)", "DELETE FROM pairs", "CALL pragma_version()", "CHECKPOINT",
     "BEGIN", "VACUUM", "PREPARE p AS SELECT 1", "EXECUTE p", "SET threads = 1", "USE x", "DROP VIEW pairs",
     "EXPLAIN DROP VIEW pairs", "EXPLAIN ANALYZE CREATE TABLE z AS SELECT 1", "WITH d AS (DELETE FROM pairs RETURNING *) FROM d",
     "ALTER TABLE pairs ADD COLUMN x INT", "COMMENT ON TABLE pairs IS 'x'", "(((", "SELECT", "\0", "LOAD x"],
)  # fmt: skip
def test_what_is_not_one_reading_query_is_a_sentence(run, query):
    with OpenRun(run.path) as opened, one_sentence(UsageError):
        opened.sql(query)


@pytest.mark.parametrize("format", ["--json", "--csv", ""])
@pytest.mark.parametrize(
    "query", ["SELECT * FROM test_all_types()", "SELECT 'infinity'::TIMESTAMP", "SELECT DATE '-infinity'",
              "SELECT '290000-01-01'::TIMESTAMP", "SELECT 1::INT / 0, 'a'::INT", "SELECT * FROM range(3) t(i), pairs.x"]
)  # fmt: skip
def test_values_beyond_python_are_a_sentence(run, query, format, monkeypatch, capsys):
    from selfreward.cli.ask import sql

    with one_sentence(SelfrewardError):
        sql(run.path, query, as_json=format == "--json", as_csv=format == "--csv")


# -- pair rules ----------------------------------------------------------------------------------------------


def build_pairs(run: Run, rule: str):
    plan = pairs.plan(RunConfig(), 1)
    job = SimpleNamespace(
        iteration=1,
        texts={"rule": rule},
        table=lambda role: run.current(plan.inputs[role]).table(),
        section=lambda name, kind: PairsConfig(),
    )
    return pairs.build(job)


_GOOD_RULE = (ROOT / "builders" / "pair_rules" / "max_min.sql").read_text()
_RULES = {
    "empty": "",
    "comment": "-- nothing\n",
    "two": f"{_GOOD_RULE}; SELECT 1",
    "drops": f"DROP VIEW eligible; {_GOOD_RULE}",
    "updates": f"UPDATE eligible SET score = 5; {_GOOD_RULE}",
    "replaces": f"CREATE OR REPLACE VIEW judged AS SELECT 1; {_GOOD_RULE}",
    "reads-file": "SELECT a AS prompt_id, a AS chosen_id, a AS rejected_id FROM read_csv('secret.csv')",
    "writes-file": "COPY (SELECT 1) TO 'marker.csv'",
    "attaches": "ATTACH 'marker.db' AS m",
    "installs": "INSTALL httpfs",
    "integers": "SELECT 1 AS prompt_id, 2 AS chosen_id, 3 AS rejected_id FROM eligible",
    "lists": "SELECT [prompt_id] AS prompt_id, candidate_id AS chosen_id, candidate_id AS rejected_id FROM eligible",
    "other-columns": "SELECT prompt_id FROM eligible",
    "twin-columns": "SELECT prompt_id, candidate_id AS chosen_id, candidate_id AS chosen_id, candidate_id AS rejected_id FROM eligible",
    "half-a-pair": "SELECT DISTINCT prompt_id, NULL::VARCHAR AS chosen_id, any_value(candidate_id) AS rejected_id FROM eligible GROUP BY ALL",
    "no-prompt": "SELECT NULL::VARCHAR AS prompt_id, candidate_id AS chosen_id, candidate_id AS rejected_id FROM eligible",
    "invented": "SELECT 'p' AS prompt_id, 'c' AS chosen_id, 'd' AS rejected_id",
    "syntax": "SELEC 1",
    "explain": f"EXPLAIN {_GOOD_RULE}",
    "unknown-setting": "SELECT $secret AS prompt_id, 'c' AS chosen_id, 'd' AS rejected_id",
    "python-variable": "SELECT * FROM picked",
}


@pytest.mark.parametrize("rule", _RULES.values(), ids=_RULES)
def test_a_rule_is_one_select_that_keeps_its_contract(run, rule):
    with one_sentence(InputError) as told:
        build_pairs(run, rule)
    assert told[0].startswith("pair rule max_min: ")


def test_a_rule_that_keeps_it_gives_pairs(run):
    assert build_pairs(run, _GOOD_RULE).table.num_rows > 5
    assert build_pairs(run, f"{_GOOD_RULE.rstrip()} AND false;").table.num_rows == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_rule_that_is_no_text_is_a_sentence(tmp_path, content):
    path = tmp_path / "my.sql"
    path.mkdir() if content is None else path.write_bytes(content)
    with one_sentence(UsageError):
        pairs.rule_text(str(path))


def test_a_tie_does_not_hinge_on_the_order_in_which_scores_were_added_up(run):
    """[5,5,4] and [4,5,5] have the same variance, 2/9, but not to the last bit; sample 0 comes first, as documented."""
    scores = run.current("iter1/scores").table().to_pylist()
    candidates = {row["candidate_id"]: row for row in run.current("iter1/candidates").table().to_pylist()}
    prompt = next(row["prompt_id"] for row in scores if row["score"] is not None)
    a, b = 0.2222222222222222, 0.22222222222222224
    for row in scores:
        if row["prompt_id"] == prompt:
            sample = candidates[row["candidate_id"]]["sample"]
            row |= {"score": [14 / 3, 14 / 3, 1.0, 2.0][sample], "score_variance": [b, a, 0.0, 0.0][sample]}
            row |= {"injection_suspected": False}
    replace_rows(
        run, "iter1/scores", pa.Table.from_pylist(scores, run.current("iter1/scores").table().schema)
    )
    built = build_pairs(run, _GOOD_RULE).table.to_pylist()
    (pair,) = [row for row in built if row["prompt_id"] == prompt]
    assert candidates[pair["chosen_id"]]["sample"] == 0


@pytest.mark.parametrize(("first", "second", "same"), [("42.", "42. ", True), ("  42.", "42.\u3000", True), ("42.", "42.\n", False),
                                                       ("42.", "42", False)])  # fmt: skip
def test_builder_and_audit_agree_on_which_answers_are_the_same(run, first, second, same):
    table = run.current("iter1/candidates").table()
    before = build_pairs(run, _GOOD_RULE).table.to_pylist()[0]
    rows = table.to_pylist()
    for row in rows:
        if row["candidate_id"] in (before["chosen_id"], before["rejected_id"]):
            row["response"] = first if row["candidate_id"] == before["chosen_id"] else second
            row["n_chars"] = len(row["response"])
    replace_rows(run, "iter1/candidates", pa.Table.from_pylist(rows, table.schema))
    built = build_pairs(run, _GOOD_RULE)
    assert (before["prompt_id"] not in built.table["prompt_id"].to_pylist()) == same
    replace_rows(run, "iter1/pairs", built.table)
    (result,) = run_audits(run, checks=["pairs_differ"], save=False).results
    assert result.verdict == "pass"


# -- names of columns and values -----------------------------------------------------------------------------


@pytest.mark.parametrize("column", HOSTILE)
def test_diff_compares_columns_of_any_name(run, column):
    """The first row of two differs, in that column."""
    for setting, value in ((1, "old"), (2, "new")):
        replace_rows(run, "my_rows", pa.table({"my_id": ["1", "2"], column: [value, "same"]}), setting)
    found = diff(run, "my_rows")
    assert (found.n_same, found.n_changed, found.changed_by_column) == (1, 1, {column: 1})
    assert found.changed[0].values == {column: ("old", "new")}


@pytest.mark.parametrize("key", ['my"_id', "x; DROP TABLE a; --_id", "select_id"])
def test_diff_matches_by_a_key_of_any_name(run, key):
    for setting, ids in ((1, ["1", "2"]), (2, ["2", "3"])):
        replace_rows(run, "my_rows", pa.table({key: ids}), setting)
    found = diff(run, "my_rows")
    assert (found.n_same, found.n_added, found.n_removed) == (1, 1, 1)


def test_diff_without_its_key_is_a_sentence(run):
    for setting in (1, 2):
        replace_rows(run, "iter1/pairs", pa.table({"x": [setting]}), setting)
    with one_sentence(InputError):
        diff(run, "iter1/pairs")


@pytest.mark.parametrize(
    "table",
    [pa.table({"pair_id": ["pair-1"]}), pa.table({"x": [1]}), pa.table({"pair_id": [1]}),
     pa.table({"pair_id": ["pair-1"], "prompt_id": [1], "chosen_id": [[1]], "rejected_id": [None]}),
     pa.table({"pair_id": pa.array([[1]])})],
)  # fmt: skip
def test_lineage_of_rows_that_are_no_pairs_is_a_sentence(run, table):
    replace_rows(run, "iter1/pairs", table)
    with one_sentence(SelfrewardError):
        lineage(run, "pair-1")


@pytest.mark.parametrize(
    "kind", ["select", "order", "table", "main", "result", "temp", "user", "iteration", "v0"]
)
def test_a_dataset_may_be_called_like_a_word_of_sql(run, kind, tmp_path):
    replace_rows(run, f"iter1/{kind}", pa.table({"x_id": ["1"]}))
    with OpenRun(run.path) as opened:
        assert opened.sql(f"SELECT count(*) FROM {quoted('iter1', kind)}").fetchall() == [(1,)]
        assert opened.sql("SELECT count(*) FROM pairs").fetchall()[0][0] > 0
    if kind != "result":
        run_query(run.path, "SELECT 1", out=run.path / "all.duckdb")


def test_iterations_whose_columns_do_not_fit_together_are_a_sentence(run):
    replace_rows(run, "iter1/pairs", pa.table({"pair_id": pa.array([[1]])}))
    replace_rows(run, "iter2/pairs", pa.table({"pair_id": pa.array([{"a": 1}])}))
    with OpenRun(run.path) as opened, one_sentence(SelfrewardError):
        opened.sql("SELECT pair_id.a FROM pairs").fetchall()


# -- the gate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["iter1/prompts", "iter1/candidates", "iter1/judgements", "iter1/scores", "ift", "seeds"]
)
def test_an_emptied_dataset_does_not_pass(run, name):
    replace_rows(run, name, run.current(name).table().slice(0, 0))
    report = run_audits(run, checks=["contract"], save=False)
    assert report.by_verdict("fail")
    with pytest.raises(GateError):
        gate(run, 1, "training")


@pytest.mark.parametrize(
    "said", [pa.array([7] * 1), pa.array(["1"]), pa.array([None], pa.int64()), pa.array([1.0])]
)
def test_rows_of_another_iteration_do_not_pass_and_sql_goes_by_the_name(run, said):
    table = run.current("iter1/prompts").table()
    column = pa.chunked_array([pa.array(said.to_pylist() * len(table), said.type)])
    place = table.column_names.index("iteration")
    replace_rows(run, "iter1/prompts", table.set_column(place, "iteration", column))
    with OpenRun(run.path) as opened:
        assert opened.sql("SELECT count(*) FROM prompts WHERE iteration = 1").fetchall() == [(len(table),)]
    (result,) = run_audits(run, checks=["values_in_range"], save=False).results
    assert result.verdict == "fail"
    assert result.rows[0]["problem"] == f"{len(table)} rows say that they are of another iteration"


_PACK_HEAD = "-- name: mine\n-- protects from: x\n-- severity: warn\n-- needs: pairs\n"
_PACK = {
    "iteration-text": "SELECT 'one' AS iteration, pair_id AS id FROM pairs",
    "iteration-list": "SELECT [1] AS iteration, pair_id AS id FROM pairs",
    "date-out-of-range": "SELECT 'infinity'::TIMESTAMP AS t, pair_id AS id FROM pairs",
    "division": "SELECT error('no') AS id FROM pairs",
    "reads-file": "SELECT * FROM read_csv('secret.csv')",
    "writes": "CREATE TABLE x AS SELECT 1",
    "three": "SELECT 1; SELECT 2; SELECT 3",
    "no-figure": "SELECT 1 AS x; SELECT 2 AS id",
    "figure-text": "SELECT 'a' AS figure; SELECT 2 AS id",
    "syntax": "SELEC",
    "struct": "SELECT {'a': 1} AS id, pair_id FROM pairs",
}


@pytest.mark.parametrize("query", _PACK.values(), ids=_PACK)
def test_one_broken_audit_is_an_error_of_its_own_and_hides_no_other(run, query, tmp_path):
    pack = run.path / "pack"  # inside the run, where nothing is compared
    pack.mkdir()
    (pack / "mine.sql").write_text(_PACK_HEAD + query)
    report = run_audits(run, checks=["mine", "contract"], pack=pack)
    verdicts = {result.name: result.verdict for result in report.results}
    assert verdicts.pop("mine") in ("error", "warn")
    # The run is without meta-rewarding.
    skipped = {name for name, verdict in verdicts.items() if verdict == "skipped"}
    assert skipped <= {"judge_pairs_hold"}
    assert {verdict for name, verdict in verdicts.items() if name not in skipped} == {"pass"}
    assert len(verdicts) > 8
    assert report.not_saved == ""
    assert all("\n" not in result.reason for result in report.results)


def test_a_template_that_raises_is_a_reason_to_skip(run, monkeypatch):
    class Tokenizer:
        chat_template, all_special_tokens = "x", ()
        bos_token_id = eos_token_id = None

        def apply_chat_template(self, *args, **options):
            raise RuntimeError("broken\ntemplate")

    monkeypatch.setattr("selfreward.judging.audits.tokens._folder", lambda data: Path("nowhere"))
    monkeypatch.setattr("selfreward.judging.audits.tokens.load_tokenizer", lambda folder: Tokenizer())
    report = run_audits(run, save=False)
    assert not report.by_verdict("error")
    skipped = [result.reason for result in report.by_verdict("skipped")]
    assert "the chat template refuses a row: RuntimeError: broken template" in skipped


def test_a_run_that_cannot_be_written_to_is_audited_all_the_same(run, capsys):
    import typer

    from selfreward.judging.cli import audit
    from selfreward.store import durable

    def hook(name, path):
        raise OSError(30, "Read-only file system")

    for save, code in ((True, 1), (False, 0)):
        durable.hook = hook
        try:
            with pytest.raises(typer.Exit) as left:
                audit(run.path, ["contract"], None, None, None, None, save, False)
        finally:
            durable.hook = None
        out, err = capsys.readouterr()
        assert left.value.exit_code == code
        assert "values_in_range" in out
        assert ("not saved" in err) == save


def test_check_reads_says_what_it_read(run):
    with connect() as connection, one_sentence(UsageError) as told:
        check_reads(connection, "", "pair rule x")
    assert told == ["pair rule x: found 0 statements, expected one"]
