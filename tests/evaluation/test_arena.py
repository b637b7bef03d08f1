"""Arena: five grades in both orders against a baseline, worked out by hand."""

from __future__ import annotations

import json

import pytest
import yaml

from selfreward.engines.base import Completion
from selfreward.errors import ConfigError
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.measure import measure
from selfreward.evaluation.pairwise.arena import (
    Arena,
    Game,
    load_template,
    outcome,
    read_verdict,
    summarize_games,
)
from selfreward.store.run import Run


def game(prompt, model_is, verdict):
    win, weight = outcome(verdict, model_is) if verdict else (None, None)
    status = "ok" if verdict else "no_verdict"
    return Game("", "cmp", prompt, "M2", "M1", "j", model_is, verdict, win, weight, status, "text", 10, 20)


def test_the_score_is_the_weighted_mean_of_the_games():
    """p1: a strong win (3 of 3) and a tie (0.5 of 1); p2: a loss (0 of 1) and no verdict: 3.5 of 5 are 70 %."""
    games = [game("p1", "a", "A>>B"), game("p1", "b", "A=B"), game("p2", "a", "B>A"), game("p2", "b", None)]
    result = summarize_games(games)
    assert result.score.value == pytest.approx(0.7)
    assert (result.n_prompts, result.n_games, result.unjudged) == (2, 3, {"no_verdict": 1})
    assert result.verdicts == {"much_better": 1, "tie": 1, "worse": 1}
    assert "score    70.0 %" in result.text()


def test_the_same_place_twice_is_the_orders_doing():
    """p1: A wins twice, in either order; p2: the model wins twice."""
    games = [game("p1", "a", "A>B"), game("p1", "b", "A>>B"), game("p2", "a", "A>B"), game("p2", "b", "B>A")]
    result = summarize_games(games)
    assert (result.order_decided.value, result.order_decided.n) == (0.5, 2)


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("A errs.\n[[B>>A]]", "stop", ("B>>A", "ok")),
        ("[[A>B]] no, rather\n[[A=B]]", "stop", ("A=B", "ok")),
        ("[[ B=A ]]", "stop", ("A=B", "ok")),
        ("<think>[[A>B]]</think>\n[[B>A]]", "stop", ("B>A", "ok")),
        ("A>B", "stop", (None, "no_verdict")),
        ("", "error", (None, "engine_error")),
    ],
)
def test_the_last_verdict_counts(text, finish_reason, expected):
    assert read_verdict(Completion("x", 0, text, finish_reason, 1)) == expected


def test_a_template_without_a_slot_is_one_sentence(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("{prompt} {answer_a}")
    with pytest.raises(ConfigError, match=r"the slot \{answer_b\} is missing"):
        load_template(path)


def test_two_files_before_a_scripted_judge(tmp_path):
    """The judge prefers `strong` wherever it stands; one prompt has no answer of the model."""
    prompts = ["p0", "p1", "p2"]
    (tmp_path / "p.json").write_text(json.dumps([{"instruction": p} for p in prompts]))
    for name, texts in (("M2", ["strong", "strong", None]), ("M1", ["weak", "weak", "weak"])):
        rows = [
            {"instruction": p, "output": t, "generator": name} for p, t in zip(prompts, texts, strict=True)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    rules = [{"regex": r"<answer_a>\s+strong", "answers": ["[[A>>B]]"]}, {"answers": ["[[B>A]]"]}]
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"rules": rules}))
    run = Run.create(tmp_path / "run")
    result = measure(
        Arena(
            model=str(tmp_path / "M2.json"),
            baseline=str(tmp_path / "M1.json"),
            judge=f"scripted:{tmp_path / 'judge.yaml'}",
            prompts=tmp_path / "p.json",
            out=tmp_path / "out",
            run=run.path,
        )
    )
    assert (result.score.value, result.n_games, result.unjudged) == (1.0, 4, {"missing_model": 2})
    assert len((tmp_path / "out/games.jsonl").read_text().splitlines()) == 6
    stored = {(row["measure"], row["figure"]): row["value"] for row in figures(run)}
    assert stored["arena", "score"] == 100.0
