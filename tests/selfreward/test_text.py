"""Foreign text in a terminal: nothing moves the cursor, changes its state or reverses a line; what is cut is marked."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import make_sample_run
from scripted_run import cli

from selfreward.judging.audits.report import format_report
from selfreward.judging.audits.runner import AuditReport, AuditResult
from selfreward.progress import say
from selfreward.sql.lineage import Node
from selfreward.sql.lineage_text import format_lineage
from selfreward.sql.output import run_query
from selfreward.text import (
    CONTROL,
    format_histogram,
    format_table,
    one_line,
    printable,
    shorten,
    whole_characters,
)

ESCAPES = "\x1b]0;title\x07 \x1b[2J \x9b31m \r \x00 \x7f \u202e \u2066 \u200f \u2028 \ud83d"
HARMLESS = "Grüße, 你好, 👩‍👩‍👧, a\u0301, ─│└ …\n\tנכון"


def is_safe(text):
    return not any(ord(c) in CONTROL for c in text)


def test_control_and_bidirectional_characters_are_written_out_and_nothing_else():
    assert printable("a\x1b[31m\u202eb") == "a\\u001b[31m\\u202eb"
    assert printable(HARMLESS) == HARMLESS
    assert is_safe(printable(ESCAPES))
    printable(ESCAPES).encode()


@given(st.text(st.characters(exclude_categories=())), st.integers(12, 40), st.integers(0, 5))
def test_a_shortened_text_is_one_safe_line_of_the_width(text, width, tail):
    line = shorten(text, width, tail)
    assert len(line) <= width
    assert "\n" not in line
    assert is_safe(line)


@given(
    st.recursive(
        st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )
)
def test_escaped_json_is_the_same_json(value):
    assert json.loads(printable(json.dumps(value, ensure_ascii=False))) == value


@pytest.mark.parametrize(
    ("value", "width", "tail", "shown"),
    [
        ("short", 8, 0, "short"),
        ("exactly8", 8, 0, "exactly8"),
        ("exactly nine", 8, 0, "exactly…"),
        ("one\r\ntwo", 9, 0, "one↵two"),
        ("from start to end", 9, 3, "from …end"),
        (0.123456, 20, 0, "0.1235"),
        ({"a": ["ü"]}, 20, 0, '{"a": ["ü"]}'),
        (None, 8, 0, "None"),
    ],
)
def test_shortening_by_hand(value, width, tail, shown):
    assert shorten(value, width, tail) == shown


def test_secrets_are_masked_before_a_text_is_cut(monkeypatch):
    monkeypatch.setenv("MY_KEY", "0123456789abcdef")
    assert shorten("x" * 10 + "0123456789abcdef", 14) == "x" * 10 + "***"
    assert "0123" not in one_line("x" * 290 + "0123456789abcdef")


def test_halves_of_surrogate_pairs_are_joined_or_replaced():
    assert whole_characters("\ud83d\ude00 and \ud83d") == "😀 and \ufffd"


def test_a_table_is_safe_and_keeps_its_lines():
    table = format_table(("na\x1bme", "n"), [(ESCAPES, 1), ("two\nlines", 22)])
    assert is_safe(table)
    assert len(table.splitlines()) == 4
    assert "two↵lines" in table


def test_bars_are_as_long_as_the_counts():
    """5 of 10 is half of 40 characters; 0 of anything is still one."""
    assert format_histogram([[1, 10], [2.5, 5], [4, 0]]).splitlines() == [
        "      1 " + "█" * 40 + " 10",
        "    2.5 " + "█" * 20 + " 5",
        "      4 █ 0",
    ]


# ---------------------------------------------------------------------------------- where foreign text is shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    def hostile(rows):
        from dataclasses import replace

        return [replace(row, response=f"answer {ESCAPES[:-1]}") for row in rows]

    return make_sample_run(tmp_path_factory.mktemp("text") / "run", iterations=1, iter1_candidates=hostile)


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_rows_in_a_terminal_are_safe(run, format):
    terminal = Terminal()
    run_query(
        run.path, 'SELECT response AS "a\u202eb" FROM candidates LIMIT 3', format=format, stream=terminal
    )
    assert is_safe(terminal.getvalue())
    assert "\\u001b[2J" in terminal.getvalue()


def test_programs_get_the_text_of_a_csv_as_it_is_and_json_with_the_same_meaning(run):
    query = "SELECT response FROM candidates LIMIT 1"
    text = run.current("iter1/candidates").table(["response"])["response"][0].as_py()
    csv_stream, json_stream = io.StringIO(newline=""), io.StringIO()
    run_query(run.path, query, format="csv", stream=csv_stream)
    run_query(run.path, query, format="json", stream=json_stream)
    assert text in csv_stream.getvalue()
    assert json.loads(json_stream.getvalue()) == [{"response": text}]


def test_a_lineage_tree_and_an_audit_report_are_safe():
    node = Node(f"c-{ESCAPES}", ESCAPES, "candidates", {"response": ESCAPES, "model": ESCAPES}, note=ESCAPES)
    assert is_safe(format_lineage(node))
    result = AuditResult(
        ESCAPES, "group", "fail", "error", 1.0, 0.5, True, 2, ESCAPES, ESCAPES, detail=ESCAPES, reason=ESCAPES
    )
    assert is_safe(format_report(AuditReport([result], [ESCAPES], 0.1)))


def test_errors_and_progress_are_safe(tmp_path, capsys):
    done = cli("status", tmp_path / "no\x1b[2J\u202efolder", cwd=tmp_path)
    assert done.returncode == 1
    assert is_safe(done.stderr)
    say(f"step: {ESCAPES}")
    assert is_safe(capsys.readouterr().err)


def test_many_different_scores_are_shown_by_whole_points():
    """0.00 to 0.49 are 50 scores and round to 0, 0.51 to 1.49 are 99 and round to 1."""
    histogram = [[i / 100, 1] for i in range(150) if i != 50]
    lines = format_histogram(histogram).splitlines()
    assert [line.split()[::2] for line in lines[:2]] == [["0", "50"], ["1", "99"]]
    assert lines[2] == "  (scores rounded to whole points)"
