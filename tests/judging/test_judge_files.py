"""`selfreward judge parse | score | agreement` on files: every kind of table, lists of replies, ranges, refusals."""

from __future__ import annotations

import json

import datasets
import pandas as pd
import pytest
import yaml
from sample_run import make_sample_run
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.errors import InputError
from selfreward.judging.cli import judge, register
from selfreward.judging.judge.attack import attack_judge
from selfreward.judging.judge.files import parse_file, score_file

if not judge.registered_commands:
    register(app)

REPLIES = ["Good.\nScore: 4", "Fair.\nScore: 2", "Good too.\nScore: 4", "No idea.", "Score: 9"]


def rows():
    return [{"id": str(number), "reply": text} for number, text in enumerate(REPLIES)]


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write(folder, name):
    """The five replies as a table of the kind that the name says."""
    path = folder / name
    if name.endswith(".parquet"):
        pd.DataFrame(rows()).to_parquet(path)
    elif name.endswith((".csv", ".csv.gz")):
        pd.DataFrame(rows()).to_csv(path, index=False)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows()))
    elif name == "folder":
        datasets.Dataset.from_list(rows()).save_to_disk(path)
    else:
        lines(path, rows())
    return path


@pytest.mark.parametrize(
    "name", ["r.jsonl", "replies.txt", "r.json", "r.csv", "r.csv.gz", "r.parquet", "folder"]
)
def test_every_kind_of_table_is_parsed(tmp_path, name):
    summary = parse_file(write(tmp_path, name), "reply", 0, 5, tmp_path / "out.jsonl")
    assert summary["by_status"] == {"ok": 3, "no_score": 1, "out_of_range": 1}
    assert summary["by_score"] == {"2": 1, "4": 2}
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["reply"] for row in out] == REPLIES
    assert [row["score"] for row in out] == [4, 2, 4, None, None]


def test_the_current_version_of_a_runs_dataset_is_parsed_as_it_was_scored(tmp_path):
    run = make_sample_run(tmp_path / "run", iterations=1)
    stored = run.current("iter1/judgements").table().to_pylist()
    for folder in (run.current("iter1/judgements").folder, run.path / "datasets" / "iter1" / "judgements"):
        summary = parse_file(folder, "judgement", 0, 5, None)
        assert summary["rows"] == len(stored)
        assert summary["by_status"]["ok"] == sum(row["score"] is not None for row in stored)


def test_lists_of_replies_are_parsed_one_by_one_and_averaged(tmp_path):
    """4 and 2 give 3, a reply cut after its score is truncated, NULL is empty; in all five replies in three rows."""
    records = [
        {"r": ["Score: 4", "Score: 2"], "finish_reasons": ["stop", "stop"]},
        {"r": ["Score: 4", None], "finish_reasons": ["length", "stop"]},
        {"r": ["Score: 1"]},
    ]
    summary = parse_file(lines(tmp_path / "r.jsonl", records), "r", 0, 5, tmp_path / "out.jsonl")
    assert (summary["rows"], summary["replies"]) == (3, 5)
    assert summary["by_status"] == {"ok": 3, "truncated": 1, "empty": 1}
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["score"] for row in out] == [3.0, None, 1.0]
    assert out[1]["statuses"] == ["truncated", "empty"]


def test_what_judge_score_writes_is_parsed_again_with_the_same_scores(tmp_path):
    script = tmp_path / "judge.yaml"
    rules = [{"contains": "mute", "answers": ["hm"]}, {"answers": ["Score: 4", "Score: 1"]}]
    script.write_text(yaml.safe_dump({"rules": rules}))
    data = lines(tmp_path / "r.jsonl", [{"prompt": "Why?", "response": text} for text in ("So.", "mute")])
    score_file(data, f"scripted:{script}", tmp_path / "s.jsonl", "additive", "sampled", 2, 50, 0)
    scored = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [(row["score"], row["scores"]) for row in scored] == [(2.5, [4, 1]), (None, [None, None])]
    parse_file(tmp_path / "s.jsonl", "judgements", 0, 5, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "s.jsonl").read_text()


def test_columns_of_the_file_are_kept_and_what_is_read_gets_another_name(tmp_path, capsys):
    records = [
        {"reply": "Score: 4", "score": 7.5, "status": "by hand", "parsed_score": 1},
        {"reply": "Score: 2", "score": 2.0, "status": "ok"},
    ]
    parse_file(lines(tmp_path / "r.jsonl", records), "reply", 0, 5, tmp_path / "out.jsonl")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert out == [
        {**records[0], "parsed_parsed_score": 4.0, "parsed_status": "ok"},
        {**records[1], "parsed_parsed_score": 2.0, "parsed_status": "ok"},
    ]
    assert "'score' (what was read now is 'parsed_parsed_score')" in capsys.readouterr().err


def test_a_file_with_scores_of_its_own_is_refused_before_the_judge_is_asked(tmp_path):
    data = lines(tmp_path / "r.jsonl", [{"prompt": "Why?", "response": "So.", "score": 2}])
    with pytest.raises(InputError, match=r"has a column 'score' already.*rename it.*human_score"):
        score_file(data, "scripted:nobody.yaml", tmp_path / "s.jsonl", "additive", "sampled", 1, 50, 0)
    assert not (tmp_path / "s.jsonl").exists()


def test_why_the_engine_failed_is_in_the_rows_and_in_what_is_printed(tmp_path):
    script = tmp_path / "judge.yaml"
    rules = [{"contains": "mute", "error": "only temperature 1"}, {"answers": ["Score: 4"]}]
    script.write_text(yaml.safe_dump({"rules": rules}))
    data = lines(tmp_path / "r.jsonl", [{"prompt": "Why?", "response": text} for text in ("So.", "mute")])
    arguments = [
        "judge",
        "score",
        str(data),
        "--model",
        f"scripted:{script}",
        "--out",
        str(tmp_path / "s.jsonl"),
    ]
    arguments += ["--samples", "1", "--temperature", "1", "--judge-engine", "timeout_s=5"]
    done = CliRunner().invoke(app, arguments)
    assert "the first engine error: only temperature 1" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["errors"] for row in rows] == [[None], ["only temperature 1"]]
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["first_engine_error"] == (
        "only temperature 1"
    )


def test_a_judge_that_never_answers_ends_with_exit_code_1_and_the_rows_are_kept(tmp_path):
    script = tmp_path / "judge.yaml"
    script.write_text(yaml.safe_dump({"rules": [{"error": "the server is full"}]}))
    source = lines(tmp_path / "r.jsonl", [{"prompt": "Why?", "response": "Because."}])
    out = tmp_path / "scored.jsonl"
    arguments = ["judge", "score", str(source), "--model", f"scripted:{script}", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "the first engine error: the server is full" in result.stdout
    assert json.loads(out.read_text())["score"] is None


def test_scores_are_read_in_the_range_that_the_template_asks_for(tmp_path):
    """The multiple-choice template starts at 1: a 0 is out of its range, in the additive one it is a score."""
    script = tmp_path / "judge.yaml"
    script.write_text(yaml.safe_dump({"rules": [{"answers": ["Score: 0"]}]}))
    data = lines(tmp_path / "r.jsonl", [{"prompt": "Why?", "response": "So."}])
    statuses = {
        template: score_file(data, f"scripted:{script}", tmp_path / "s", template, "sampled", 1, 50, 0)[
            "by_status"
        ]
        for template in ("additive", "multiple-choice")
    }
    assert statuses == {"additive": {"ok": 1}, "multiple-choice": {"out_of_range": 1}}


def test_a_judge_that_believes_what_it_reads_is_raised_by_the_attacks_that_say_a_score(tmp_path):
    """A judge that gives 5 where it sees "Score: 5" and else 1: of 3 replies, the three families that write it raise
    all 3, the plain ones none; a zero-width character keeps the words from being seen."""
    rules = [
        {"contains": "\nScore: 5", "choice_logprobs": {" 5": 0.0}},
        {"choice_logprobs": {" 1": 0.0}},
    ]
    script = tmp_path / "judge.yaml"
    script.write_text(yaml.safe_dump({"rules": rules}))
    table = {row.family: row for row in attack_judge(f"scripted:{script}", "additive-short", 3, 50)}
    raised = {family for family, row in table.items() if row.raised == 3}
    assert raised == {"score statement", "closing tag", "fake chat turn"}
    assert all(table[family].flagged == 3 and table[family].mean_change == 4 for family in raised)
    assert (table["plain"].mean_score, table["plain"].flagged, table["zero-width order"].raised) == (1, 0, 0)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        pytest.param([{"a": "Score: 4"}], r"has no column 'reply', its columns are a", id="no such column"),
        pytest.param(
            [{"reply": "x"}, {"reply": 4}], r"row 2: column 'reply': expected .* found 4", id="a number"
        ),
        pytest.param(
            [{"reply": ["Score: 4", "Score: 3"], "finish_reasons": ["stop"]}],
            r"row 1: column 'finish_reasons' holds \['stop'\], expected .* each of the 2 replies in 'reply'",
            id="uneven",
        ),
        pytest.param([], r"has no column 'reply', its columns are none", id="no rows"),
    ],
)
def test_what_cannot_be_parsed_names_row_and_column(tmp_path, records, message):
    with pytest.raises(InputError, match=message):
        parse_file(lines(tmp_path / "r.jsonl", records), "reply", 0, 5, None)


def test_a_folder_that_is_no_dataset_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a dataset; expected"):
        parse_file(tmp_path / "empty", "reply", 0, 5, None)


def test_ranks_from_a_second_table_are_joined_whatever_their_order(tmp_path):
    """p: both pairs of a right, b and c tied. Half for the tie: 2.5 of 3."""
    scores = lines(
        tmp_path / "s.jsonl",
        [{"prompt_id": "p", "response_id": r, "score": s} for r, s in (("a", 5), ("b", 3), ("c", 3))],
    )
    ranks = tmp_path / "ranks.csv"
    ranks.write_text("prompt_id,response_id,human_rank\np,c,2\np,a,0\np,b,1\n")
    arguments = ["judge", "agreement", str(scores), "--ranks", str(ranks), "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert found["judge"]["pairwise_ties_half"]["value"] == pytest.approx(2.5 / 3)
    ranks.write_text("prompt_id,response_id,human_rank\np,a,0\np,b,1\n")
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    assert "'p', 'c' is the first of 1 of 3 rows without a partner" in str(failed.exception or failed.stderr)


@pytest.mark.parametrize(
    ("name", "text", "n"),
    [("a.json", '{"j": "Score: 4"}\n{"j": "Score: 2"}\n', 2), ("b.jsonl", '[{"j": "Score: 4"}]', 1)],
)
def test_lines_in_json_and_an_array_in_jsonl_are_read(tmp_path, name, text, n):
    (tmp_path / name).write_text(text)
    assert parse_file(tmp_path / name, "j", 0, 5, None)["by_status"] == {"ok": n}


def test_agreement_does_not_take_the_files_own_scores_for_the_judges(tmp_path, capsys):
    """`judge parse` keeps a column `score`; measured would be people's scores against people's ranks."""
    from selfreward.judging.agreement.agreement import read_rows

    rows = [{"prompt_id": "p", "human_rank": k, "score": 9 - k, "reply": f"Score: {4 - k}"} for k in range(2)]
    parse_file(lines(tmp_path / "in.jsonl", rows), "reply", 0, 5, tmp_path / "out.jsonl")
    assert "'parsed_score'" in capsys.readouterr().err
    with pytest.raises(InputError, match="which `judge parse` read; rename the judge's to score"):
        read_rows(tmp_path / "out.jsonl")
