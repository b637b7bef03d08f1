"""Human evaluation: sheets that give nothing away, verdicts read back to the right model, majorities by hand."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.files import answers_from_rows
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.pairwise.human_result import majority, read_sheets
from selfreward.evaluation.pairwise.human_sheet import export_sheets, read_key
from selfreward.store.run import Run

if not evaluate.registered_commands:
    register(app)

N = 12


def answers(name, text, n=N, missing=()):
    rows = [
        {
            "instruction": f"p{i}",
            "output": None if i in missing else f"{text} {i}\nline two",
            "generator": name,
        }
        for i in range(n)
    ]
    return answers_from_rows(rows, name)


A, B = answers("model-alpha", "ruby"), answers("model-beta", "plain")


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def fill(path, judge, out=None, delimiter=","):
    """Write a verdict into every row; `judge` sees what an annotator sees."""
    rows = read(path)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows({**row, "verdict": judge(row)} for row in rows)
    (out or path).write_text(text.getvalue(), encoding="utf-8")
    return out or path


def likes_ruby(row):
    return "1" if row["response_1"].startswith("ruby") else "2"


def test_a_sheet_names_no_model_and_holds_every_prompt_once(tmp_path):
    sheets = export_sheets(A, B, tmp_path, n_prompts=10)
    assert [path.name for path in sheets.paths] == ["sheet-1.csv", "sheet-2.csv", "sheet-3.csv"]
    for path in sheets.paths:
        text = path.read_text(encoding="utf-8-sig")
        assert "model-" not in text
        rows = read(path)
        assert len({row["prompt"] for row in rows}) == 10
        assert {row["verdict"] for row in rows} == {""}
        assert all(row["response_1"].endswith("\nline two") for row in rows)
    assert sheets.key.left_out == {"not_drawn": 2}


def test_every_annotator_gets_the_same_prompts_in_an_order_of_their_own_and_sides_are_mixed(tmp_path):
    sheets = export_sheets(A, B, tmp_path)
    orders = [[row["prompt"] for row in read(path)] for path in sheets.paths]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] != orders[2]
    assert {item.first for item in sheets.key.items} == {"a", "b"}


def test_an_export_repeats_itself_and_does_not_bury_the_key_of_another(tmp_path):
    first = export_sheets(A, B, tmp_path)
    assert export_sheets(A, B, tmp_path).key == first.key
    with pytest.raises(UsageError, match="is the key of another export"):
        export_sheets(A, B, tmp_path, seed=1)
    assert read_key(first.key_path) == first.key


def test_verdicts_go_back_to_the_model_wherever_it_stood(tmp_path):
    """All three prefer the ruby answer: model-alpha wins all, and everyone agrees."""
    sheets = export_sheets(A, B, tmp_path)
    result = read_sheets(sheets.key, [fill(path, likes_ruby) for path in sheets.paths])
    assert (result.win.value, result.tie.value, result.loss.value) == (1.0, 0.0, 0.0)
    assert (result.n_verdicts, result.n_open, result.n_split) == (3 * N, 0, 0)
    assert result.agreement.pairwise.value == 1.0
    swapped = export_sheets(B, A, tmp_path / "swapped")
    paths = [fill(path, likes_ruby) for path in swapped.paths]
    assert read_sheets(swapped.key, paths).loss.value == 1.0


def test_someone_who_always_takes_the_first_is_seen(tmp_path):
    sheets = export_sheets(A, B, tmp_path)
    result = read_sheets(sheets.key, [fill(path, lambda row: "1") for path in sheets.paths])
    assert result.first_chosen.value == 1.0
    assert "the response shown first was chosen in 100.0 %" in result.text()


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param(["a", "a", "b"], ("a", "decided"), id="two of three"),
        pytest.param(["tie", "tie", "b"], ("tie", "decided"), id="a tie by majority"),
        pytest.param(["a", "b", "tie"], ("tie", "split"), id="all differ"),
        pytest.param(["a", "a", None], ("a", "decided"), id="the third cannot change it"),
        pytest.param(["a", "b", None], (None, "open"), id="the third decides"),
        pytest.param([None, None, None], (None, "open"), id="nobody yet"),
    ],
)
def test_majorities(verdicts, expected):
    assert majority(verdicts, 3) == expected


@given(st.lists(st.sampled_from(["a", "b", "tie", None]), min_size=1, max_size=7))
def test_a_decision_stands_whatever_the_missing_ones_say(verdicts):
    outcome, how = majority(verdicts, len(verdicts))
    completed = [majority([v or filler for v in verdicts], len(verdicts)) for filler in ("a", "b", "tie")]
    if how != "open":
        assert all(other[0] == outcome for other in completed)


def test_shares_by_hand(tmp_path):
    """Four prompts. p0: a a b, p1: b b b, p2: a, b, tie (split), p3: a, b and one empty (open).

    Wins 1 of 3 decided or split, ties 1, losses 1; agreement over the three whole ones: pairs that agree are
    1 + 3 + 0 of 9.
    """
    says = {"p0": "aab", "p1": "bbb", "p2": "abt", "p3": "ab-"}
    a, b = answers("x", "ruby", 4), answers("y", "plain", 4)
    sheets = export_sheets(a, b, tmp_path)

    def of(annotator):
        def verdict(row):
            meant = says[row["prompt"]][annotator]
            ruby_first = row["response_1"].startswith("ruby")
            return {"a": "1" if ruby_first else "2", "b": "2" if ruby_first else "1", "t": "0", "-": ""}[
                meant
            ]

        return verdict

    result = read_sheets(sheets.key, [fill(path, of(i)) for i, path in enumerate(sheets.paths)])
    shares = [round(figure.value, 4) for figure in (result.win, result.tie, result.loss)]
    assert shares == [0.3333, 0.3333, 0.3333]
    assert (result.n_split, result.n_open, result.n_verdicts) == (1, 1, 11)
    assert result.agreement.pairwise.value == pytest.approx(4 / 9)
    assert result.agreement.n_pairs == 3


def test_a_sheet_that_did_not_come_back_is_open_not_a_tie(tmp_path):
    sheets = export_sheets(A, B, tmp_path)
    one = read_sheets(sheets.key, [fill(sheets.paths[0], likes_ruby)])
    assert (one.n_open, one.win.value, one.agreement) == (N, None, None)
    two = read_sheets(sheets.key, [fill(path, likes_ruby) for path in sheets.paths[:2]])
    assert (two.n_open, two.win.value) == (0, 1.0)


def test_what_spreadsheets_do_to_a_sheet_is_read(tmp_path):
    """Semicolons, `1.0` for 1, other line ends; texts are compared and changed ones counted."""
    sheets = export_sheets(A, B, tmp_path)
    path = fill(sheets.paths[0], lambda row: likes_ruby(row) + ".0", delimiter=";")
    path.write_bytes(path.read_bytes().replace(b"\nline two", b"\r\nline two"))
    result = read_sheets(sheets.key, [path])
    assert (result.n_verdicts, result.notes) == (N, ())
    path.write_text(path.read_text().replace("ruby 3", "ruby three"))
    assert read_sheets(sheets.key, [path]).notes == ("1 rows have other texts than were exported",)


def test_formulas_are_made_harmless(tmp_path):
    bad = answers_from_rows([{"instruction": "p0", "output": "=HYPERLINK(1)"}], "bad")
    sheets = export_sheets(bad, answers("y", "- a list", 1), tmp_path, n_annotators=1)
    row = read(sheets.paths[0])[0]
    assert {row["response_1"][0], row["response_2"][0]} == {"'"}


def test_prompts_that_one_did_not_answer_are_left_out_and_counted(tmp_path):
    sheets = export_sheets(A, answers("y", "plain", N, missing=(2, 5)), tmp_path)
    assert len(sheets.key.prompts) == N - 2
    assert sheets.key.left_out == {"not_answered_by_both": 2}
    with pytest.raises(InputError, match="no prompt that both answered"):
        export_sheets(A, answers("y", "x", N, missing=range(N)), tmp_path / "none")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda t: t.replace("verdict", "Urteil"), "has no column verdict", id="column"),
        pytest.param(
            lambda t: t.replace("item-", "other-"),
            "12 rows with an item that the key does not have",
            id="key",
        ),
    ],
)
def test_sheets_that_do_not_belong_are_refused(tmp_path, spoil, sentence):
    sheets = export_sheets(A, B, tmp_path)
    path = sheets.paths[0]
    path.write_text(spoil(path.read_text(encoding="utf-8-sig")))
    with pytest.raises(InputError, match=sentence):
        read_sheets(sheets.key, [path])


def test_odd_verdicts_and_a_sheet_given_twice_are_refused(tmp_path):
    sheets = export_sheets(A, B, tmp_path)
    path = fill(sheets.paths[0], lambda row: "3")
    with pytest.raises(
        InputError, match=r"sheet-1.csv, row 1: verdict is '3', expected 1, 2, 0 \(tie\) or nothing"
    ):
        read_sheets(sheets.key, [path])
    path = fill(sheets.paths[1], likes_ruby)
    with pytest.raises(InputError, match="12 rows with an item that was read already"):
        read_sheets(sheets.key, [path, path])
    with pytest.raises(InputError, match="not a key of human-export"):
        read_key(path)


def test_the_two_commands_go_together(tmp_path):
    files = []
    for answered in (A, B):
        path = tmp_path / f"{answered.generator}.json"
        path.write_text(json.dumps([{"instruction": k, "output": v, "generator": answered.generator}
                                    for k, v in answered.outputs.items()]))  # fmt: skip
        files.append(str(path))
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(N)))
    out = tmp_path / "people"
    arguments = ["evaluate", "human-export", "--a", files[0], "--b", files[1], "--prompts", str(prompts)]
    done = CliRunner().invoke(app, [*arguments, "--out", str(out), "--n", "8"])
    assert done.exception is None
    assert "8 prompts (left out: 4 not_drawn)" in done.stdout
    sheets = [str(fill(out / f"sheet-{i}.csv", likes_ruby)) for i in (1, 2, 3)]
    Run.create(tmp_path / "run")
    arguments = [
        "evaluate",
        "human-import",
        *sheets,
        "--key",
        str(out / "key.json"),
        "--run",
        str(tmp_path / "run"),
    ]
    assert "wins       100.0 %" in CliRunner().invoke(app, arguments).stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (found["model_a"], found["win"]["value"], found["n_prompts"]) == ("model-alpha", 1.0, 8)
    run = Run(tmp_path / "run")
    assert run.current("human_verdicts").n_rows == 24
    assert {row["figure"] for row in figures(run)} >= {"win", "tie", "loss", "alpha"}
