"""Meta-rewarding from prompts to pairs of judgements, on the scripted engine."""

from __future__ import annotations

import json

import pytest
import yaml
from scripted_run import ANSWERS, JUDGEMENTS, PROMPTS, cli, config_for

from selfreward.errors import ConfigError, EmptyResultError
from selfreward.judging.audits.runner import run_audits
from selfreward.sql.lineage import lineage
from selfreward.sql.views import open_run
from selfreward.steps.pipeline import run_pipeline
from selfreward.steps.step import plan_run
from selfreward.store.run import Run
from selfreward.summary.facts import summarize
from selfreward.tables import DatasetName

COMPARISONS = [
    "B is right.\nWinner: B",
    "A is right.\nWinner: A",
    "Alike.\n**Winner:** tie",
    "I cannot tell.",
]


def write_script(path, comparisons=COMPARISONS):
    """The first rule answers a meta-judge, whose prompt alone has a tag `<grading_a>`."""
    rules = [
        {"contains": "list of tasks", "pick": "position", "answers": PROMPTS},
        {"contains": "<grading_a>", "pick": "seed", "answers": comparisons},
        {"contains": "<response>", "pick": "seed", "answers": JUDGEMENTS},
        {"pick": "seed", "answers": ANSWERS},
    ]
    path.write_text(yaml.safe_dump({"settings": {"group_size": 8}, "rules": rules}))
    return path


def configured(folder, comparisons=COMPARISONS, **meta):
    values = {"max_length_ratio": 3.0, "max_share": 0.8, **meta}
    return config_for(write_script(folder / "script.yaml", comparisons), meta=values, judging={"samples": 4})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meta")
    run_pipeline(configured(folder), folder / "run", until="judge_pairs")
    return folder / "run"


def test_every_comparison_is_a_row_in_both_orders_and_every_pair_rests_on_them(made):
    with open_run(made) as run:
        one_way = run.sql("""SELECT count(*) FROM meta_judgements a ANTI JOIN meta_judgements b
            ON a.first_id = b.second_id AND a.second_id = b.first_id""").fetchall()[0]
        statuses = run.sql(
            "SELECT DISTINCT status, winner IS NULL FROM meta_judgements ORDER BY ALL"
        ).fetchall()
        n_compared, n_pairs = run.sql(
            "SELECT (SELECT count(DISTINCT candidate_id) FROM meta_judgements), count(*) FROM judge_pairs"
        ).fetchall()[0]
        counts = run.run.current("iter1/judge_pairs").manifest["counts"]
    assert one_way == (0,)
    assert statuses == [("no_score", True), ("ok", False)]
    assert n_pairs > 0
    assert n_compared == n_pairs + sum(counts["dropped"].values())


def test_the_funnel_counts_what_sql_counts(made):
    (iteration,) = summarize(Run(made)).iterations
    found = {step.what: step.n for step in iteration.funnel}
    with open_run(made) as run:
        same = run.sql("""SELECT count(*) FROM meta_judgements a JOIN meta_judgements b ON a.first_id = b.second_id
            AND a.second_id = b.first_id AND a.first_id < b.first_id
            WHERE (a.winner, b.winner) IN (('first', 'second'), ('second', 'first'))""").fetchall()[0][0]
        n, named = run.sql("SELECT count(*), count(winner) FROM meta_judgements").fetchall()[0]
    assert (found["comparisons"], found["comparisons with a winner"]) == (n, named)
    assert found["same winner in both orders"] == same
    assert found["judge pairs"] == Run(made).current("iter1/judge_pairs").n_rows


def test_lineage_of_a_pair_of_judgements_leads_to_both_and_to_their_comparisons(made):
    version = Run(made).current("iter1/judge_pairs")
    row = version.table().to_pylist()[0]
    tree = lineage(Run(made), row["judge_pair_id"])
    assert [(node.relation, node.id) for node in tree.children[:2]] == [
        ("chosen", row["chosen_id"]),
        ("rejected", row["rejected_id"]),
    ]
    assert {node.relation for node in tree.children[2:]} == {"rests on"}
    with open_run(made) as run:
        found = run.sql(f"SELECT DISTINCT id FROM lineage('{row['judge_pair_id']}')").fetchall()
    assert {(row["candidate_id"],), (row["prompt_id"],), (tree.children[2].id,)} <= set(found)


def test_the_audits_see_both_tables(made):
    with open_run(made) as run:
        flips = run.sql("""SELECT count(*) FILTER (x IS DISTINCT FROM y) / count(*) FROM (
            SELECT CASE a.winner WHEN 'first' THEN a.first_id WHEN 'second' THEN a.second_id END AS x,
                CASE b.winner WHEN 'first' THEN b.first_id WHEN 'second' THEN b.second_id END AS y
            FROM meta_judgements a JOIN meta_judgements b ON a.first_id = b.second_id AND a.second_id = b.first_id
            WHERE a.winner IS NOT NULL AND b.winner IS NOT NULL)""").fetchall()[0][0]
    results = {result.name: result for result in run_audits(Run(made), save=False).results}
    assert results["judge_pairs_hold"].verdict == "pass"
    assert results["references_resolve"].verdict == "pass"
    assert results["meta_position_flips"].figure == pytest.approx(flips)
    assert results["meta_without_winner"].figure > 0
    assert results["judge_pair_scores"].figure is not None
    assert results["judge_pairs_longer"].figure is not None


def test_an_exported_pair_of_judgements_has_the_form_of_a_pair(made, tmp_path):
    done = cli("export", made, "iter1/judge_pairs", tmp_path / "out.jsonl", "--as", "swift", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]


def test_another_rule_compares_nothing_again(made, tmp_path):
    config = configured(made.parent, rule="wins", positions="consistent")
    steps = run_pipeline(config, made, until="judge_pairs")
    assert [step.name for step in steps if step.status == "built"] == ["iter1/judge_pairs"]
    rows = Run(made).current("iter1/judge_pairs").table().to_pylist()
    assert {row["rule"] for row in rows} == {"wins"}


def test_a_run_without_the_section_plans_neither_step_and_with_it_changes_no_other_key(tmp_path):
    with_meta = configured(tmp_path)
    without = with_meta.model_copy(update={"meta": None})

    def plans(config):
        return {plan.name: (plan.inputs, plan.params, plan.texts) for plan in plan_run(config)}

    own = {str(DatasetName(kind, 1)) for kind in ("meta_judgements", "judge_pairs")}
    assert plans(with_meta).keys() - plans(without).keys() == own
    assert {name: plans(with_meta)[name] for name in plans(without)} == plans(without)


def test_dpo_trains_on_both_tables_where_there_is_meta(tmp_path):
    config = configured(tmp_path).model_copy(update={"train": True})
    dpo = next(plan for plan in plan_run(config) if plan.name == "M2")
    assert dpo.inputs == {"pairs": "iter1/pairs", "judge_pairs": "iter1/judge_pairs"}


def test_the_trainers_rows_are_of_both_tables_each_named_after_its_own(made):
    from selfreward.training.data import dpo_rows, load_table

    run = Run(made)
    tables = [run.current(f"iter1/{kind}") for kind in ("pairs", "judge_pairs")]
    collected = dpo_rows(load_table(version.folder) for version in tables)
    sources = [row["source"] for row in collected.rows]
    assert sources == ["pairs"] * tables[0].n_rows + ["judge_pairs"] * tables[1].n_rows
    assert (collected.n_in, collected.dropped) == (len(sources), {})


def test_meta_beside_another_update_than_dpo_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(
        ConfigError, match="meta: pairs of judgements are for DPO; found update: sft, expected dpo"
    ):
        config_for(write_script(tmp_path / "s.yaml"), meta={}, update="sft")


@pytest.mark.parametrize(
    ("judging", "found"),
    [({"samples": 1}, "sampled and 1"), ({"mode": "expected"}, "expected and 3")],
)
def test_a_run_with_one_judgement_an_answer_is_refused_in_one_sentence(tmp_path, judging, found):
    with pytest.raises(ConfigError, match=rf"meta compares the sampled judgements .*found {found}"):
        config_for(write_script(tmp_path / "s.yaml"), meta={}, judging=judging)


def test_a_meta_judge_that_names_no_winner_ends_the_run_in_one_sentence(tmp_path):
    config = configured(tmp_path, comparisons=["I cannot tell."])
    with pytest.raises(
        EmptyResultError, match=r"meta_judgements: no comparison names a winner \(no_score \d+\)"
    ):
        run_pipeline(config, tmp_path / "run", until="judge_pairs")
