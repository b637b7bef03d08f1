"""Arms end to end on the scripted engine: several judges and models, given prompts, no EFT, settings by iteration."""

from __future__ import annotations

import json

import pytest
import yaml
from scripted_run import ANSWERS, PROMPTS, cli, config_for, write_script

from selfreward.config.files import check_config, dump_config
from selfreward.errors import ConfigError, EmptyResultError, InputError
from selfreward.judging.audits.runner import gate
from selfreward.judging.judge.combine import agreement_between, combined_scores
from selfreward.steps.pipeline import run_pipeline
from selfreward.steps.step import plan_run
from selfreward.store.run import Run
from selfreward.tables import Judgement, kind_of, to_table


def write_second(path):
    """Another model: other answers, and judgements that end in "Points:"."""
    rules = [
        {
            "contains": "<response>",
            "pick": "seed",
            "answers": ["Fine. Score: 3", "Poor. Score: 2", "Score: 1"],
        },
        {"pick": "seed", "answers": [f"{answer} So it is." for answer in ANSWERS]},
    ]
    path.write_text(yaml.safe_dump({"rules": rules}))
    return f"scripted:{path}"


def rows(run, name):
    return run.current(name).table().to_pylist()


# several judges, several models


@pytest.fixture(scope="module")
def jury(tmp_path_factory):
    """Two models answer, two judges with two templates each judge all answers."""
    folder = tmp_path_factory.mktemp("jury")
    second = write_second(folder / "second.yaml")
    config = config_for(
        write_script(folder / "script.yaml"),
        candidates={"n": 2, "also": [second]},
        judging={
            "samples": 2,
            "judge": ["current", second],
            "more_templates": ["additive-short"],
            "combine": "median",
        },
        pairs={"min_pairs": 1, "rule": "past_future"},
    )
    run_pipeline(config, folder / "run")
    return config, folder


def test_every_model_answers_and_every_judge_judges_with_every_template(jury):
    run = Run(jury[1] / "run")
    candidates, judgements = rows(run, "iter1/candidates"), rows(run, "iter1/judgements")
    assert len(candidates) == 6 * 2 * 2
    assert len({row["model"] for row in candidates}) == 2
    assert len({(row["prompt_id"], row["sample"]) for row in candidates}) == len(candidates)
    assert len(judgements) == len(candidates) * 2 * 2 * 2
    assert len({(row["judge"], row["template"]) for row in judgements}) == 4
    assert len({row["judgement_id"] for row in judgements}) == len(judgements)


def test_the_scores_name_the_rule_and_the_agreement_is_in_the_notes(jury):
    run = Run(jury[1] / "run")
    scores = rows(run, "iter1/scores")
    assert {row["judge"].partition(" of ")[0] for row in scores} == {"median"}
    assert {row["n_judgements"] for row in scores} == {8}
    found = run.current("iter1/scores").manifest["counts"]["notes"]["agreement"]
    assert len(found) == 6  # of four set-ups, each two
    assert all(
        row["same_order"] + row["reversed"] <= row["comparisons"] for row in found if row["comparisons"]
    )


def test_the_audits_of_the_contract_pass(jury):
    report = gate(Run(jury[1] / "run"), 1, "M2", {"tied_prompts": 1.0})
    assert [result.name for result in [*report.by_verdict("fail"), *report.by_verdict("error")]] == []


def test_pairs_lead_to_both_models_and_to_all_judges(jury):
    run = Run(jury[1] / "run")
    models = {row["candidate_id"]: row["model"] for row in rows(run, "iter1/candidates")}
    pairs = rows(run, "iter1/pairs")
    assert pairs
    for pair in pairs:
        assert "second" not in models[pair["chosen_id"]]
        assert "second" in models[pair["rejected_id"]]
    told = cli("lineage", jury[1] / "run", pairs[0]["pair_id"], cwd=jury[1])
    assert told.returncode == 0, told.stderr


def test_the_same_jury_again_builds_nothing_and_another_rule_of_combining_the_scores_alone(jury):
    config, folder = jury
    assert {step.status for step in run_pipeline(config, folder / "run")} == {"reused"}
    judging = config.judging.model_copy(update={"combine": "worst"})
    changed = config.model_copy(update={"judging": judging})
    built = [
        s.name for s in run_pipeline(changed, folder / "run", until="iter1/scores") if s.status == "built"
    ]
    assert built == ["iter1/scores"]
    run_pipeline(config, folder / "run")


def judgements_of(table):
    """`table`: candidate -> for each judge its scores."""
    made = [
        Judgement(f"{c}{judge}{i}", 1, "p", c, i, judge, "t", "sampled", "", score, "ok" if score is not None
                  else "no_score", "stop", 1, 1, False, 0)
        for number, judge in enumerate("abc")
        for c, of_each in table.items()
        for i, score in enumerate(of_each[number])
    ]  # fmt: skip
    return to_table(made, Judgement)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("mean", [3.0, 2.5, None]), ("median", [3.5, 3.0, None]), ("worst", [1.5, 1.0, None]),
     ("majority", [4.0, 8 / 3, None]), ("first", [4.0, 3.5, 2.0])],
)  # fmt: skip
def test_scores_are_combined_by_the_rule(rule, expected):
    """x: means 4, 3.5 and 1.5; the whole scores nearest to them are 4, 4 and 2: majority 4.
    y: 3.5, 3 and 1, nearest 4, 3 and 1, which tie: their mean is 8/3. z: judge b gave no score."""
    table = judgements_of(
        {"x": [[4, 4], [3, 4], [1, 2]], "y": [[3, 4], [3, 3], [1, 1]], "z": [[2, 2], [None, None], [1, 1]]}
    )
    found = [row["score"] for row in combined_scores(table, rule).to_pylist()]
    assert found == [None if value is None else pytest.approx(value) for value in expected]


def test_the_agreement_of_two_judges_by_hand():
    """a orders x > y > z, b orders x > z > y: of three comparisons two alike, one reversed; c is tied throughout."""
    table = judgements_of({"x": [[5], [5], [2]], "y": [[4], [1], [2]], "z": [[3], [2], [2]]})
    found = {(row["first_judge"], row["second_judge"]): row for row in agreement_between(table)}
    assert [found["a", "b"][name] for name in ("both_scored", "comparisons", "same_order", "reversed")] == [
        3,
        3,
        2,
        1,
    ]
    assert found["a", "b"]["mean_difference"] == pytest.approx((0 + 3 + 1) / 3)
    assert [found["b", "c"][name] for name in ("comparisons", "same_order", "reversed")] == [3, 0, 0]


# a rubric with another ending


def test_a_pattern_reads_the_last_points_of_a_judgement():
    from selfreward.judging.parsing.scores import parse_score

    def read(text, reason="stop"):
        found = parse_score(text, reason, 0, 10, pattern="Points: (?P<score>[0-9.]+)")
        return found.score, found.status

    assert read("Points: 3 for style.\nPoints: 7") == (7.0, "ok")
    assert read("Points: 70") == (None, "out_of_range")
    assert read("Score: 7") == (None, "no_score")
    assert read("<think>Points: 2</think> Fine. Points: 6.5") == (6.5, "ok")
    assert read("Points: 1", "length") == (None, "truncated")
    assert read("Points: 1, as the", "length") == (1.0, "ok")


def test_a_judge_s_points_become_scores(tmp_path):
    script = tmp_path / "script.yaml"
    write_script(script)
    text = script.read_text().replace("Score:", "Points:")
    script.write_text(text)
    seeds = [{"prompt": f"Why {i}?", "response": f"Because {i}.", "rank": 0} for i in range(20)]
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, seeds)))
    config = config_for(
        script,
        seeds={"source": str(tmp_path / "seeds.jsonl")},
        eft=None,
        judging={"samples": 3, "score_pattern": "Points: (?P<score>[0-9]+)"},
    )
    run_pipeline(config, tmp_path / "run", until="iter1/judgements")
    found = rows(Run(tmp_path / "run"), "iter1/judgements")
    assert {row["score"] for row in found if row["status"] == "ok"} == {1.0, 3.0, 4.0, 5.0}


# prompts from a file, and no EFT


@pytest.fixture
def given(tmp_path):
    """Twelve prompts in a file, one refused by a filter and one a repetition; plain seeds without ranks; an outside judge."""
    asked = [*PROMPTS, "Draw a map of the island please.", PROMPTS[0], "Name three rivers in Europe and one fact each.",
             "How do I sharpen a kitchen knife safely?"]  # fmt: skip
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"instruction": text}) for text in asked))
    seeds = [
        {"prompt": f"Say something about number {i}.", "response": f"{i} is a number."} for i in range(20)
    ]
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, seeds)))
    return {
        "seeds": {"source": str(tmp_path / "seeds.jsonl")},
        "eft": None,
        "judging": {"samples": 3, "judge": write_second(tmp_path / "second.yaml")},
        "prompts": {"source": str(tmp_path / "prompts.jsonl"), "n": 5},
    }


def test_a_run_without_eft_on_given_prompts_makes_pairs_and_passes_its_audits(given, tmp_path):
    config = config_for(write_script(tmp_path / "script.yaml"), **given)
    steps = run_pipeline(config, tmp_path / "run")
    assert [step.name for step in steps] == [
        "seeds", "ift", "iter1/prompts", "iter1/candidates", "iter1/judgements", "iter1/scores", "iter1/pairs",
    ]  # fmt: skip
    run = Run(tmp_path / "run")
    assert len(rows(run, "ift")) == 20
    prompts = rows(run, "iter1/prompts")
    assert sum(row["kept"] for row in prompts) == 5
    assert {row["generator"].partition("@")[0] for row in prompts} == {"prompts"}
    report = gate(run, 1, "M2", {"tied_prompts": 1.0})
    assert [result.name for result in [*report.by_verdict("fail"), *report.by_verdict("error")]] == []
    assert run_pipeline(config, tmp_path / "run")[2].status == "reused"


def test_iterations_take_disjoint_portions_and_what_is_refused_stays_with_its_reason(given, tmp_path):
    values = {"model": "hf:smollm2-135m-instruct", "iterations": 2, "eft": None, "seeds": given["seeds"]}
    config = check_config({**values, "prompts": given["prompts"]}, "test")
    wanted = ("seeds", "ift", "prompts")
    run_pipeline(
        config, tmp_path / "run", only=lambda plan: kind_of(plan.name) in wanted or plan.name in wanted
    )
    run = Run(tmp_path / "run")
    first, second = rows(run, "iter1/prompts"), rows(run, "iter2/prompts")
    assert sum(row["kept"] for row in first) == sum(row["kept"] for row in second) == 5
    assert not {row["prompt"] for row in first} & {row["prompt"] for row in second}
    assert {row["seed"] for row in first} & {row["seed"] for row in second} == set()
    refused = {row["prompt"]: row["reason"] for row in first + second if not row["kept"]}
    assert set(refused.values()) <= {"mentions_unavailable", "not_novel"}
    notes = run.current("iter2/prompts").manifest["counts"]["notes"]
    assert notes["source_rows"] == 12


def test_a_source_that_is_used_up_says_so(given, tmp_path):
    prompts = {**given["prompts"], "n": 50}
    config = config_for(write_script(tmp_path / "script.yaml"), **{**given, "prompts": prompts})
    run_pipeline(config, tmp_path / "run", until="iter1/prompts")
    assert sum(row["kept"] for row in rows(Run(tmp_path / "run"), "iter1/prompts")) == 10
    (tmp_path / "none.jsonl").write_text('{"prompt": "Too short."}\n')
    prompts = {"source": str(tmp_path / "none.jsonl"), "n": 5}
    config = config_for(write_script(tmp_path / "script.yaml"), **{**given, "prompts": prompts})
    with pytest.raises(EmptyResultError, match=r"the source's 1 rows are used up \(too_short 1\)"):
        run_pipeline(config, tmp_path / "run", until="iter1/prompts")


def test_a_source_without_a_column_of_prompts_is_refused(given, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"text": "Why is the sky blue?"}\n')
    prompts = {"source": str(tmp_path / "other.jsonl"), "n": 5}
    config = config_for(write_script(tmp_path / "script.yaml"), **{**given, "prompts": prompts})
    with pytest.raises(
        InputError, match=r"row 1: found the columns text; expected prompt, instruction, question"
    ):
        run_pipeline(config, tmp_path / "run", until="iter1/prompts")


# settings by iteration, earlier pairs, start and reference


def planned(**values):
    return {
        plan.name: plan for plan in plan_run(check_config({"eft": {"targets": "written"}, **values}, "test"))
    }


def test_a_list_gives_each_iteration_its_value_and_survives_being_stored():
    values = {
        "iterations": 3,
        "pairs": {"rule": "length_controlled", "length_band": [0, 0, 0.1]},
        "judging": {"template": ["additive", "additive-short", "additive-short"], "judge": [["current"], ["current", "previous"], ["previous"]]},
        "dpo": {"lora": {"r": [8, 16, 16]}},
    }  # fmt: skip
    plans = planned(**values)
    assert [plans[f"iter{k}/pairs"].params["pairs"]["length_band"] for k in (1, 2, 3)] == [0, 0, 0.1]
    assert [plans[f"M{k}"].params["dpo"]["lora"]["r"] for k in (2, 3, 4)] == [8, 16, 16]
    assert [list(plans[f"iter{k}/judgements"].models.values()) for k in (1, 2, 3)] == [
        ["M1"],
        ["M2", "M1"],
        ["M2"],
    ]
    assert (
        plans["iter1/judgements"].texts != plans["iter2/judgements"].texts == plans["iter3/judgements"].texts
    )
    config = check_config(values, "test")
    assert check_config(yaml.safe_load(dump_config(config)), "test") == config


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"iterations": 2, "pairs": {"length_band": [0, 0, 0.1]}}, "pairs.length_band: is a list by iteration of 3 values, but the run has iterations: 2; write one"),
        ({"iterations": 2, "candidates": {"n": [4, 1]}}, "candidates.n: found 1; input should be greater than or equal to 2"),
        ({"iterations": 2, "judging": {"min_score": [0, 6]}}, "judging.min_score must be below"),
        ({"seeds": {"source": ["a", "b"]}}, "seeds.source: found"),
        ({"pairs": {"use": "last"}}, r"pairs.use: found 'last'; expected current, all, or last N"),
        ({"judging": {"judge": []}}, "judging.judge: is an empty list; name at least one judge"),
        ({"judging": {"score_pattern": "Points: ([0-9]+)"}}, "unnamed groups; expected .* with one group, named score"),
        ({"judging": {"score_pattern": "Points: ("}}, r"missing \): .*; expected a regular expression of RE2"),
        ({"judging": {"score_pattern": "(?P<points>[0-9])"}}, "found the groups points; expected"),
        ({"judging": {"score_pattern": "(?P<score>[0-9])", "mode": "expected"}}, "mode expected reads no text"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_a_sentence(values, told):
    with pytest.raises(ConfigError, match=told):
        check_config(values, "test")


def test_earlier_pairs_the_start_and_the_reference_are_the_configured_ones():
    plain = planned(iterations=3)
    assert plain["M4"].inputs == {"pairs": "iter3/pairs"}
    assert plain["M4"].models == {"base": "M3"}
    arms = planned(iterations=3, pairs={"use": ["current", "all", "last 2"]}, dpo={"start": "first"})
    assert arms["M3"].inputs == {"pairs": "iter2/pairs", "pairs1": "iter1/pairs"}
    assert arms["M4"].inputs == {"pairs": "iter3/pairs", "pairs2": "iter2/pairs"}
    assert arms["M4"].models == {"base": "M1", "reference": "M3"}
    assert planned(iterations=2, dpo={"reference": "first"})["M3"].models == {"base": "M2", "reference": "M1"}
    both = planned(iterations=2, dpo={"reference": "first", "start": "first"})
    assert both["M2"].models == both["M3"].models == {"base": "M1"}


def test_positive_answers_alone_are_a_step_of_fine_tuning_from_m0():
    plans = planned(iterations=1, update="sft", pairs={"rule": "positive_only"})
    assert plans["M2"].module == "selfreward.training.arms.make_positive"
    assert plans["M2"].inputs == {"ift": "ift", "eft": "eft", "pairs": "iter1/pairs"}
    assert plans["M2"].models == {"base": "M0"}
