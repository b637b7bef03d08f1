"""Labels of prompts, and the breakdowns they are for: SQL over a run's annotations, checked by hand."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.engines.base import Completion
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.alpaca.score import evaluate_files
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.measure import measure
from selfreward.evaluation.pairwise.labels import LabelPrompts, read_label, read_labels
from selfreward.sql.views import open_run
from selfreward.store.run import Run

if not evaluate.registered_commands:
    register(app)


def reply(text, finish="stop"):
    return Completion("r", 0, text, finish, 1)


@pytest.mark.parametrize(
    ("text", "category", "complexity", "length", "status"),
    [
        pytest.param(
            "Category: code\nComplexity: 7\nLength: a page or more",
            "code",
            7,
            "a page or more",
            "ok",
            id="plain",
        ),
        pytest.param(
            "**Category:** Code.\n- Complexity: 10\nlength: A sentence",
            "code",
            10,
            "a sentence",
            "ok",
            id="marked",
        ),
        pytest.param(
            "Category: poetry\nComplexity: 11\nLength: long", None, None, None, "no_label", id="none of those"
        ),
        pytest.param(
            "Category: code\nComplexity: 3.5\nLength: a sentence",
            "code",
            None,
            "a sentence",
            "no_label",
            id="a part",
        ),
        pytest.param(" ", None, None, None, "empty", id="nothing"),
    ],
)
def test_labels_are_read_or_null(text, category, complexity, length, status):
    label = read_label("x", reply(text), "me")
    assert (label.category, label.complexity, label.expected_length, label.status) == (
        category,
        complexity,
        length,
        status,
    )


def test_labels_weighed_while_thinking_are_not_read():
    text = (
        "<think>\nCategory: code\nComplexity: 9\n</think>\nCategory: facts\nComplexity: 2\nLength: a sentence"
    )
    label = read_label("x", reply(text), "me")
    assert (label.category, label.complexity, label.status) == ("facts", 2, "ok")


def test_why_a_label_is_missing_is_said():
    assert read_label("x", reply("Category: code", "length"), "me").status == "truncated"
    assert read_label("x", reply("", "error"), "me").status == "engine_error"


def test_labels_are_asked_for_kept_and_published(tmp_path):
    judge = tmp_path / "judge.yaml"
    answer = "Category: facts\nComplexity: 2\nLength: a few sentences"
    judge.write_text(yaml.safe_dump({"rules": [{"contains": "p1", "answers": ["?"]}, {"answers": [answer]}]}))
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("".join(json.dumps({"instruction": f"p{i} {{lengths}}"}) + "\n" for i in range(3)))
    Run.create(tmp_path / "run")
    arguments = ["evaluate", "label-prompts", "--prompts", str(prompts), "--judge", f"scripted:{judge}"]
    arguments += ["--out", str(tmp_path / "o"), "--run", str(tmp_path / "run"), "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert [row["category"] for row in found] == ["facts", None, "facts"]
    assert Run(tmp_path / "run").current("prompt_labels").n_rows == 3
    assert [label.status for label in read_labels(tmp_path / "o" / "labels.jsonl")] == [
        "ok",
        "no_label",
        "ok",
    ]
    with pytest.raises(UsageError, match="expected --prompts FILE --judge MODEL --out DIR, or --labels FILE"):
        CliRunner().invoke(app, ["evaluate", "label-prompts"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        pytest.param([{"category": "code"}], "row 1: has no instruction", id="no instruction"),
        pytest.param([{"instruction": "x"}] * 2, "row 2: labels an instruction that has labels", id="twice"),
        pytest.param([{"instruction": "x", "complexity": "hard"}], "complexity is 'hard'", id="a word"),
        pytest.param([], "holds no labels", id="nothing"),
    ],
)
def test_labels_of_ones_own_are_checked(tmp_path, rows, sentence):
    path = tmp_path / "l.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=sentence):
        read_labels(path)


def test_a_breakdown_is_a_join_over_the_annotations(tmp_path):
    """p0 and p1 (koala, code) 2 and 1, p2 (oasst, facts) 1.5, p3 (oasst, no label) without a verdict.

    By source: koala 50 % of 2, oasst 50 % of 1 and one lost; by category: code 50, facts 50, no label nothing.
    """

    def write(name, rows):
        path = tmp_path / name
        path.write_text(json.dumps(rows))
        return path

    sources = ["koala", "koala", "oasst", "oasst"]
    reference = [
        {"instruction": f"p{i}", "output": "r", "dataset": s, "generator": "ref"}
        for i, s in enumerate(sources)
    ]
    outputs = [{"instruction": f"p{i}", "output": "mine", "generator": "m"} for i in range(4)]
    verdicts = [
        {"instruction": f"p{i}", "preference": p, "annotator": "j", "generator_1": "ref", "generator_2": "m"}
        for i, p in enumerate([2.0, 1.0, 1.5])
    ]
    files = [write("o.json", outputs), write("r.json", reference), write("a.json", verdicts)]
    run = Run.create(tmp_path / "run")
    evaluate_files(*files).tables().publish(run)
    labels = tmp_path / "l.jsonl"
    kinds = [("p0", "code"), ("p1", "code"), ("p2", "facts")]
    labels.write_text(
        "".join(json.dumps({"instruction": p, "category": c, "complexity": 4}) + "\n" for p, c in kinds)
    )
    measure(LabelPrompts(labels=labels, run=run.path))
    with open_run(run.path) as opened:
        by_source = opened.sql(
            "SELECT dataset, 100 * avg(preference - 1), count(preference), count(*) FROM alpaca_annotations "
            "GROUP BY dataset ORDER BY dataset"
        ).fetchall()
        by_category = opened.sql(
            "SELECT category, 100 * avg(preference - 1), count(preference), count(*) FROM alpaca_annotations "
            "LEFT JOIN prompt_labels USING (instruction) GROUP BY category ORDER BY category NULLS LAST"
        ).fetchall()
    assert by_source == [("koala", 50.0, 2, 2), ("oasst", 50.0, 1, 2)]
    assert by_category == [("code", 50.0, 2, 2), ("facts", 50.0, 1, 1), (None, None, 0, 1)]
