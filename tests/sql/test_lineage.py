"""Lineage leads from any row to its seeds, through the versions it was really made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_run import changed, make_sample_run, publish_rows

from selfreward.errors import UsageError
from selfreward.sql.lineage import Node, lineage
from selfreward.sql.lineage_text import format_lineage
from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import Annotation, Candidate, ModelOutput, Pair, Prompt, from_table, to_table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_sample_run(tmp_path_factory.mktemp("sample") / "run")


def first_id(run: Run, name: str, column: str) -> str:
    return str(run.current(name).table()[column][0].as_py())


def all_nodes(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in all_nodes(child))]


def test_a_pair_leads_to_its_answers_judgements_prompt_demonstrations_and_seeds(run: Run) -> None:
    pair = run.current("iter1/pairs").table().to_pylist()[0]
    tree = lineage(run, pair["pair_id"])
    assert [(child.relation, child.id) for child in tree.children] == [
        ("prompt", pair["prompt_id"]),
        ("chosen", pair["chosen_id"]),
        ("rejected", pair["rejected_id"]),
    ]
    prompt, chosen, _ = tree.children
    judged = [node.facts["score"] for node in chosen.children]
    assert sum(judged) / 3 == pytest.approx(pair["chosen_score"])
    assert all("Score:" in node.facts["judgement"] for node in chosen.children)
    shown = {r["prompt_id"]: r for r in run.current("iter1/prompts").table().to_pylist()}[pair["prompt_id"]]
    assert [node.id for node in prompt.children] == shown["demonstration_ids"]
    assert {node.children[0].dataset.partition("@")[0] for node in prompt.children} == {"seeds"}


@pytest.mark.parametrize(
    ("name", "column", "kinds"),
    [
        ("iter1/pairs", "pair_id", {"pairs", "candidates", "judgements", "prompts", "ift", "seeds"}),
        ("iter2/candidates", "candidate_id", {"candidates", "judgements", "prompts", "ift", "seeds"}),
        ("iter1/judgements", "judgement_id", {"judgements", "candidates", "prompts", "ift", "seeds"}),
        ("iter1/prompts", "prompt_id", {"prompts", "ift", "seeds"}),
        ("ift", "ift_id", {"ift", "seeds"}),
        ("eft", "eft_id", {"eft", "seeds"}),
        ("seeds", "seed_id", {"seeds"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_id_has_a_lineage(run: Run, name: str, column: str, kinds: set[str]) -> None:
    tree = lineage(run, first_id(run, name, column))
    assert {node.dataset.partition("@")[0].rpartition("/")[2] for node in all_nodes(tree)} == kinds
    assert {version["name"].rpartition("/")[2] for version in tree.versions} == kinds
    ids = [node.id for node in all_nodes(tree) if node.note != "above"]
    assert len(ids) == len(set(ids))


def test_the_tree_is_json_and_text_that_names_models_and_versions(run: Run) -> None:
    tree = lineage(run, first_id(run, "iter1/pairs", "pair_id"))
    assert json.loads(json.dumps(tree.to_dict()))["children"][1]["relation"] == "chosen"
    text = format_lineage(tree)
    assert f"iter1/pairs@{run.current('iter1/pairs').version}" in text
    assert "model M1" in text
    assert "judge M1" in text
    assert "└─ " in text


def test_an_unknown_id_is_one_sentence_with_an_example(run: Run) -> None:
    with pytest.raises(UsageError, match=r"no row has the id 'pair-nope'.*for example pair-"):
        lineage(run, "pair-nope")


def test_what_is_not_there_is_shown_as_missing(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1, iter1_pairs=changed(0, chosen_id="c-gone"))
    tree = lineage(run, first_id(run, "iter1/pairs", "pair_id"))
    assert [(n.id, n.relation) for n in all_nodes(tree) if n.note == "missing"] == [("c-gone", "chosen")]


def test_earlier_prompts_among_the_demonstrations_are_followed_and_opened_once(tmp_path: Path) -> None:
    """The second kept prompt was shown the first one, and one that is nowhere."""

    def shown(rows: list[Prompt]) -> list[Prompt]:
        change = changed(1, demonstration_ids=[rows[0].prompt_id, rows[0].demonstration_ids[0], "p-gone"])
        return change(rows)

    run = make_sample_run(tmp_path / "run", iterations=1, iter1_prompts=shown)
    first, second = run.current("iter1/prompts").table().to_pylist()[:2]
    tree = lineage(run, second["prompt_id"])
    assert [(node.id, node.note) for node in tree.children] == [
        (first["prompt_id"], ""),
        (first["demonstration_ids"][0], ""),
        ("p-gone", "missing"),
    ]
    opened_in_first = {node.id: node.note for node in tree.children[0].children}
    assert opened_in_first[first["demonstration_ids"][0]] == "above"


def test_the_recorded_version_is_read_not_the_one_that_is_current_now(tmp_path: Path) -> None:
    """Pairs made from one version of the candidates; then the candidates change under the same ids."""
    run = make_sample_run(tmp_path / "run", iterations=1)
    candidates = run.current("iter1/candidates")
    pairs = from_table(run.current("iter1/pairs").table(), Pair)
    made_from = {"candidates": {"name": "iter1/candidates", "content_sha256": candidates.content_sha256}}
    run.publish_table(Recipe("iter1/pairs", "tests 2", made_from), to_table(pairs, Pair), Counts(24, 24))
    rows = from_table(candidates.table(), Candidate)
    publish_rows(
        run, "iter1/candidates", Candidate, [changed(i, response="Rewritten.")(rows)[i] for i in range(96)]
    )
    chosen = lineage(run, pairs[0].pair_id).children[1]
    assert chosen.dataset == f"iter1/candidates@{candidates.version}"
    assert chosen.facts["response"] == pairs[0].chosen[0].content


def test_an_evaluation_prompt_leads_to_every_models_answer_and_the_verdicts_on_it(tmp_path: Path) -> None:
    """The id of an evaluated answer is that of its prompt: M1's and M2's answers share it."""
    run = Run.create(tmp_path / "run")
    for k, preference in ((1, 1.0), (2, 2.0)):
        output = ModelOutput(
            "out-1", k, "Why?", None, f"Because {k}.", f"M{k}", "stop", 3, 10, "So.", "ref", None
        )
        texts = dict.fromkeys(Annotation.__dataclass_fields__)
        verdict = Annotation(**{**texts, "output_id": "out-1", "iteration": k, "instruction": "Why?", "output_1": "So.",
                                "generator_1": "ref", "generator_2": f"M{k}", "annotator": "judge",
                                "preference": preference, "status": "ok"})  # fmt: skip
        publish_rows(run, f"iter{k}/model_outputs", ModelOutput, [output])
        publish_rows(run, f"iter{k}/annotations", Annotation, [verdict])
    tree = lineage(run, "out-1")
    assert tree.facts == {"prompt": "Why?"}
    assert [(a.facts["output"], [v.facts["preference"] for v in a.children]) for a in tree.children] == [
        ("Because 1.", [1.0]),
        ("Because 2.", [2.0]),
    ]
    assert len(tree.versions) == 4
    with pytest.raises(UsageError, match="out-2"):
        lineage(run, "out-2")
