"""A judge measured on human-ranked replies: every form of data, every drop counted, figures worked out by hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from sample_run import make_sample_run
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.judges.measure import JudgeMeasure
from selfreward.evaluation.judges.ranked_replies import read_ranked
from selfreward.evaluation.judges.report import format_judge_run, format_pairwise_run
from selfreward.evaluation.measure import measure
from selfreward.store.run import Run

if not evaluate.registered_commands:
    register(app)

ROWS = [
    {"prompt_id": "p", "prompt": "Why?", "response": "good", "human_rank": 0},
    {"prompt_id": "p", "prompt": "Why?", "response": "fair", "human_rank": 1},
    {"prompt_id": "p", "prompt": "Why?", "response": "poor", "human_rank": 2},
    {"prompt_id": "q", "prompt": "How?", "response": "good", "human_rank": 1},
    {"prompt_id": "q", "prompt": "How?", "response": "mute", "human_rank": 0},
]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def judge(tmp_path):
    """good is 5, fair and poor are 3, mute gets no score."""
    path = tmp_path / "judge.yaml"
    rules = [
        {"regex": "(?s)good", "answers": ["Excellent.\nScore: 5"]},
        {"regex": "(?s)(fair|poor)", "answers": ["Middling.\nScore: 3"]},
        {"answers": ["I would rather not say."]},
    ]
    path.write_text(yaml.safe_dump({"rules": rules}))
    return f"scripted:{path}"


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(
        "Judge.\n\nUser: {{ instruction }}\n\n<response>\n{{ response }}\n</response>\n\nScore: <points>"
    )
    return str(path)


@pytest.fixture
def job(tmp_path, judge, template):
    data = lines(tmp_path / "rows.jsonl", ROWS)
    return JudgeMeasure(model=(judge,), data=data, out=tmp_path / "out", template=(template,))


def test_the_measures_are_those_of_the_scores(job):
    """p: two pairs right, fair and poor tied; q: the better reply is unscored.

    Ties half: 2.5 of 3 scored pairs; with the unscored pair as a failure 2.5 of 4. Two replies got a five, of which
    one (p's) is the human's best: 0.5.
    """
    (run,) = measure(job).runs
    assert run.agreement.judge.pairwise_ties_half.value == pytest.approx(2.5 / 3)
    assert run.agreement.judge_unscored_wrong.pairwise_ties_half.value == pytest.approx(2.5 / 4)
    assert run.agreement.judge.five_best.value == pytest.approx(0.5)
    assert run.judged.by_status == {"ok": 4, "no_score": 1}
    assert run.pairs is None


def test_the_scored_rows_are_what_judge_agreement_reads(job):
    from selfreward.judging.agreement.agreement import measure_agreement, read_rows

    (run,) = measure(job).runs
    assert run.judged.path.name == "mine.jsonl"
    assert measure_agreement(read_rows(run.judged.path)).to_dict() == run.agreement.to_dict()
    rows = [json.loads(line) for line in run.judged.path.read_text().splitlines()]
    assert [row["score"] for row in rows] == [5.0, 3.0, 3.0, 5.0, None]
    assert rows[4]["statuses"] == ["no_score"]


def test_pairs_get_verdicts_too_ties_of_people_included(tmp_path, judge, template):
    """Three pairs: right; people say tie, the judge does not; unscored. 1 of 2 scored verdicts agrees."""
    pairs = [("good", 0, "fair", 1), ("good", 0, "poor", 0), ("good", 0, "mute", 1)]
    rows = [
        {"prompt_id": str(n), "prompt": "x", "response": text, "human_rank": rank}
        for n, pair in enumerate(pairs)
        for text, rank in (pair[:2], pair[2:])
    ]
    job = JudgeMeasure(
        model=(judge,),
        data=lines(tmp_path / "pairs.jsonl", rows),
        out=tmp_path / "out",
        template=(template,),
    )
    (run,) = measure(job).runs
    assert (run.pairs.n_pairs, run.pairs.n_unscored) == (3, 1)
    assert run.pairs.accuracy.value == pytest.approx(0.5)
    assert run.pairs.confusion["tie"]["first"] == 1


def test_several_samples_are_averaged_and_several_templates_compared(tmp_path, template):
    """Samples say 4, then nothing, then 5: the mean of the scored ones is 4.5, for every reply."""
    path = tmp_path / "judge.yaml"
    path.write_text(yaml.safe_dump({"rules": [{"answers": ["Score: 4", "hm", "Score: 5"]}]}))
    job = JudgeMeasure(
        model=(f"scripted:{path}",),
        data=lines(tmp_path / "rows.jsonl", ROWS),
        out=tmp_path / "out",
        template=(template, "additive"),
        samples=3,
    )
    runs = measure(job).runs
    assert [run.judged.how.name for run in runs] == ["mine", "additive"]
    for run in runs:
        assert run.judged.by_status == {"ok": 10, "no_score": 5}
        assert {json.loads(line)["score"] for line in run.judged.path.read_text().splitlines()} == {4.5}


def test_expected_scores_need_no_words(tmp_path, template):
    """Probabilities 0.5 on 4 and 0.25 on 2, renormalised: (2 + 0.5) / 0.75 = 3.3333."""
    path = tmp_path / "judge.yaml"
    path.write_text(
        yaml.safe_dump(
            {"rules": [{"answers": ["Fine."], "choice_logprobs": {" 4": -0.693147, " 2": -1.386294}}]}
        )
    )
    job = JudgeMeasure(
        model=(f"scripted:{path}",),
        data=lines(tmp_path / "r.jsonl", ROWS),
        out=tmp_path / "out",
        template=(template,),
        mode="expected",
    )
    (run,) = measure(job).runs
    assert {round(json.loads(line)["score"], 4) for line in run.judged.path.read_text().splitlines()} == {
        3.3333
    }


# -- forms of data -------------------------------------------------------------------------------------------


def message(i, text, parent=None, rank=None, role="assistant"):
    return {"message_id": i, "parent_id": parent, "text": text, "role": role, "lang": "en", "rank": rank}


def test_message_exports_drop_what_cannot_be_compared_and_count_it(tmp_path):
    """Prompt a: ranks 0 and 1 and one unranked; prompt b: one ranked reply only; a deeper reply."""
    rows = [
        message("a", "Prompt a", role="prompter"),
        message("b", "Prompt b", role="prompter"),
        message("a0", "best", "a", 0),
        message("a1", "second", "a", 1),
        message("ax", "unranked", "a"),
        message("b0", "only", "b", 0),
        message("a0p", "and then?", "a0", role="prompter"),
        message("a0p0", "deeper", "a0p", 0),
    ]
    found = read_ranked(lines(tmp_path / "m.jsonl", rows))
    assert [row["response"] for row in found.rows] == ["best", "second"]
    assert found.dropped == {"not_first_turn": 1, "no_human_rank": 1, "only_ranked_reply": 1}


def test_tree_exports_are_read(tmp_path):
    tree = {
        "prompt": {
            **message("a", "Prompt", role="prompter"),
            "replies": [message("x", "1", "a", 0), message("y", "2", "a", 1)],
        }
    }
    path = tmp_path / "trees.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(tree).encode()))
    assert [row["human_rank"] for row in read_ranked(str(path)).rows] == [0, 1]


def test_chosen_and_rejected_become_two_rows(tmp_path):
    rows = [{"prompt": "x", "chosen": "good", "rejected": "poor"}] * 2
    found = read_ranked(lines(tmp_path / "pairs.jsonl", rows))
    assert [(row["response"], row["human_rank"]) for row in found.rows] == [("good", 0), ("poor", 1)] * 2
    assert found.n_prompts == 2, "two comparisons do not mix, also of one prompt"


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.json"])
def test_tables_of_any_kind_are_read(tmp_path, name):
    frame = pd.DataFrame(ROWS).rename(columns={"human_rank": "human_score"})
    path = tmp_path / name
    writers = {".csv": "to_csv", ".parquet": "to_parquet"}
    if name == "t.json":
        path.write_text(json.dumps(frame.to_dict("records")))
    else:
        getattr(frame, writers[path.suffix])(path, index=False)
    found = read_ranked(str(path))
    assert [row["human_score"] for row in found.rows] == [0, 1, 2, 1, 0]
    assert found.rows[0]["response_id"] == "p-1"


def nobodys_job(folder, template, rows):
    data = lines(folder / "r.jsonl", rows)
    return JudgeMeasure(model=("scripted:nobody.yaml",), data=data, out=folder / "out", template=(template,))


@pytest.mark.parametrize("value", ["5", True, {"n": 5}])
def test_a_rating_that_is_no_number_is_refused_before_the_judge_is_asked(tmp_path, template, value):
    rows = [{"prompt": "Why?", "response": text, "human_score": n} for n, text in ((1, "a"), (value, "b"))]
    job = nobodys_job(tmp_path, template, rows)
    with pytest.raises(InputError, match=r"row 2: column human_score holds .*, expected a number"):
        measure(job)
    assert not (tmp_path / "out").exists()


def test_ties_everywhere_are_refused_before_the_judge_is_asked(tmp_path, template):
    rows = [{"prompt": "Why?", "response": text, "human_score": 1} for text in "ab"]
    job = nobodys_job(tmp_path, template, rows)
    with pytest.raises(InputError, match="human_score"):
        measure(job)
    assert not (tmp_path / "out").exists()


def test_csv_answers_are_texts_and_only_ratings_are_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt,response,human_score\nq,007,1.5\nq,None,\nq,N/A,0.12345678901234\n")
    found = read_ranked(str(path))
    assert [(row["response"], row["human_score"]) for row in found.rows] == [
        ("007", 1.5),
        ("N/A", 0.12345678901234),
    ]
    assert found.dropped == {"no_human_rank": 1}


def test_a_draw_takes_whole_prompts_and_does_not_depend_on_the_order(tmp_path):
    rows = [{**row, "prompt_id": f"{row['prompt_id']}{i}"} for i in range(10) for row in ROWS]
    some = read_ranked(lines(tmp_path / "a.jsonl", rows), n_prompts=7)
    same = read_ranked(lines(tmp_path / "b.jsonl", rows[::-1]), n_prompts=7)
    assert some.n_prompts == 7
    assert {r["prompt_id"] for r in some.rows} == {r["prompt_id"] for r in same.rows}
    assert some.dropped["beyond_n_prompts"] == 50 - len(some.rows)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        pytest.param(
            [{"prompt": "x", "response": "y"}], "has no column human_rank or human_score", id="no rank"
        ),
        pytest.param([{"prompt": "x", "human_rank": 1}], "has no column response", id="no response"),
        pytest.param(
            [{"prompt": "x", "response": 5, "human_rank": 1}], "row 1: column response holds 5", id="a number"
        ),
        pytest.param(
            [{**ROWS[0], "human_rank": "1"}],
            "row 1: column human_rank holds '1', expected a number",
            id="a text",
        ),
        pytest.param([ROWS[0]], "no prompt has two ranked replies.*1 only_ranked_reply", id="one reply"),
        pytest.param(
            [{**ROWS[0], "response_id": "r"}] * 2,
            "1 replies occur more than once.*'r'.*'p'",
            id="twice the same",
        ),
        pytest.param([], "holds no rows", id="nothing"),
    ],
)
def test_data_that_cannot_be_measured_is_refused_in_one_sentence(tmp_path, rows, sentence):
    with pytest.raises(InputError, match=sentence):
        read_ranked(lines(tmp_path / "bad.jsonl", rows))


def test_what_is_no_file_and_no_hub_name_is_refused():
    with pytest.raises(InputError, match="no such file"):
        read_ranked("nowhere.jsonl")


def test_a_hub_dataset_that_cannot_be_had_is_one_sentence(monkeypatch):
    import datasets

    def refuse(name, split, revision):
        raise ConnectionError(f"Couldn't reach {name}\nand more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    words = r"--data 'some/thing': is no local file.* \(ConnectionError: Couldn't reach some/thing\)$"
    with pytest.raises(InputError, match=words):
        read_ranked("some/thing")


def test_oasst_validation_has_what_its_readme_says(shared_data):
    """542 ranked first-turn replies to 188 prompts; those whose prompt has only one ranked reply are left out."""
    found = read_ranked(str(shared_data / "oasst" / "oasst1-en-validation.messages.jsonl.gz"))
    assert len(found.rows) + found.dropped.get("only_ranked_reply", 0) == 542
    trees = read_ranked(str(shared_data / "oasst" / "oasst-en-100.trees.jsonl.gz"))
    assert trees.n_prompts == 99


def test_pandalms_test_set_is_999_pairs(shared_data):
    found = read_ranked(str(shared_data / "human_pairs" / "pandalm-testset-v1.json.gz"))
    assert (found.n_prompts, len(found.rows), found.dropped) == (999, 1998, {})


# -- command line --------------------------------------------------------------------------------------------


def test_the_command_prints_publishes_and_counts(job, tmp_path):
    Run.create(tmp_path / "run")
    arguments = ["evaluate", "judge", "--model", job.model[0], "--data", job.data, "--out", str(job.out)]
    arguments += ["--template", job.template[0], "--run", str(tmp_path / "run")]
    text = CliRunner().invoke(app, arguments)
    assert text.exception is None
    assert "judgements: ok 4, no_score 1" in text.stdout
    assert "5 replies to 2 prompts" in text.stderr
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["mine"]["by_status"] == {"ok": 4, "no_score": 1}
    run = Run(tmp_path / "run")
    assert run.current("judge_scores").n_rows == 5
    rows = {(row["figure"], row["part"]): row for row in figures(run)}
    assert rows["pairwise_ties_half", None]["value"] == pytest.approx(250 / 3)
    assert rows["scored", None]["value"] == pytest.approx(80.0)


def test_two_templates_of_one_name_are_refused(job, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("{{ instruction }} {{ response }}")
    with pytest.raises(UsageError, match="have one name"):
        replace(job, template=(job.template[0], str(tmp_path / "other" / "mine.txt")))


# -- several judges, pairwise judges -------------------------------------------------------------------------


def test_several_judges_are_put_side_by_side_each_with_a_folder_of_its_own(job, tmp_path):
    """A second judge gives everything a 4: all three pairs of p tied, as is the one of q."""
    flat = tmp_path / "flat.yaml"
    flat.write_text(yaml.safe_dump({"rules": [{"answers": ["Score: 4"]}]}))
    arguments = ["evaluate", "judge", "--model", job.model[0], "--model", f"scripted:{flat}"]
    arguments += ["--data", job.data, "--out", str(job.out), "--template", job.template[0]]
    text = CliRunner().invoke(app, arguments).stdout
    rows = [line.split("  ") for line in text.splitlines() if line.startswith("scripted:") and "[" in line]
    assert [next(cell.strip() for cell in row if " of 4" in cell) for row in rows] == ["1 of 4", "4 of 4"]
    assert len(list(job.out.glob("*/mine.jsonl"))) == 2
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found[f"scripted:{flat}"]["mine"]["judge"]["pairwise_ties_half"]["value"] == 0.5


def test_without_data_the_eval_split_of_the_run_is_judged(tmp_path, judge, template):
    """The sample run's EFT rows of split eval, and no row that was trained on."""
    run = make_sample_run(tmp_path / "run", iterations=1)
    wanted = {row["response_id"] for row in run.current("eft").table().to_pylist() if row["split"] == "eval"}
    job = JudgeMeasure(model=(judge,), out=tmp_path / "out", template=(template,), run=run.path)
    (found,) = measure(job).runs
    judged = {json.loads(line)["response_id"] for line in found.judged.path.read_text().splitlines()}
    assert judged <= wanted
    assert len(judged) + found.to_dict()["dropped"].get("only_ranked_reply", 0) == len(wanted)
    with pytest.raises(UsageError, match="give --data FILE, or --run RUN"):
        measure(replace(job, run=None))


PAIRS = [
    {"prompt_id": "1", "prompt": "Q", "response": "gold", "human_rank": 0},
    {"prompt_id": "1", "prompt": "Q", "response": "lead", "human_rank": 1},
    {"prompt_id": "2", "prompt": "Q", "response": "lead", "human_rank": 0},
    {"prompt_id": "2", "prompt": "Q", "response": "tin", "human_rank": 1},
    {"prompt_id": "3", "prompt": "Q", "response": "lead", "human_rank": 0},
    {"prompt_id": "3", "prompt": "Q", "response": "gold", "human_rank": 1},
    {"prompt_id": "4", "prompt": "Q", "response": "tin", "human_rank": 0},
    {"prompt_id": "4", "prompt": "Q", "response": "tin", "human_rank": 0},
]


def pairwise_run(script, folder, rows):
    settings = JudgeMeasure(
        model=(f"scripted:{script}",),
        data=lines(folder / "pairs.jsonl", rows),
        out=folder / "out",
        pairwise="selfreward_pairwise",
    )
    (run,) = measure(settings).pairwise
    return run


def test_a_pairwise_judge_is_asked_in_both_orders_and_its_flips_are_counted(tmp_path):
    """A judge for whom gold wins anywhere and else the first one shown. Pair 1: gold, right. 2: the place decides, a
    tie, people say first. 3: gold, people say lead. 4: equal texts, a tie unasked, as people say. So 2 of 4 as
    people; of the 4 pairs one turns with the order, to the first shown. The instruction is the same four times."""
    path = tmp_path / "judge.yaml"
    rules = [
        {"regex": "(?s)gold.*(lead|tin)", "answers": ["(a)"]},
        {"contains": "gold", "answers": ["(b)"]},
        {"answers": ["(a)"]},
    ]
    path.write_text(yaml.safe_dump({"rules": rules}))
    run = pairwise_run(path, tmp_path, PAIRS)
    assert run.judged.by_status == {"ok": 6, "same_text": 2}
    assert (run.verdicts.accuracy.value, run.verdicts.n_unscored) == (0.5, 0)
    assert run.verdicts.confusion["first"] == {"tie": 1, "first": 1, "second": 1, "unscored": 0}
    assert (run.flips.flipped.value, run.flips.first_twice.value) == (0.25, 0.25)
    rows = [json.loads(line) for line in run.judged.path.read_text().splitlines()]
    assert [row["verdict"] for row in rows] == [1, 0, 2, 0]
    assert "25.0 %" in format_pairwise_run(run)


def test_a_lost_verdict_leaves_its_pair_without_one(tmp_path):
    path = tmp_path / "judge.yaml"
    rules = [{"regex": r"(?s)lead.*gold", "error": "gone"}, {"answers": ["neither"]}]
    path.write_text(yaml.safe_dump({"rules": rules}))
    run = pairwise_run(path, tmp_path, PAIRS[:4])
    assert run.judged.by_status == {"no_verdict": 3, "engine_error": 1}
    assert (run.verdicts.n_unscored, run.flips.n_unscored) == (2, 2)
    assert "n/a" in format_pairwise_run(run)


def test_pandalms_annotators_agreement_is_shown_beside_the_judge(tmp_path, judge, template):
    """Three pairs, verdicts 1 1 1, 1 1 2, 0 1 2: of nine pairs of verdicts four are equal (3 + 1 + 0)."""
    pairs = [
        {"idx": n, "instruction": "x", "input": "", "response1": "good", "response2": "poor", "cmp_key": "a_b",
         **dict(zip(("annotator1", "annotator2", "annotator3"), verdicts, strict=True))}
        for n, verdicts in enumerate([(1, 1, 1), (1, 1, 2), (0, 1, 2)])
    ]  # fmt: skip
    data = tmp_path / "pandalm.json"
    data.write_text(json.dumps(pairs))
    job = JudgeMeasure(model=(judge,), data=str(data), out=tmp_path / "out", template=(template,))
    (run,) = measure(job).runs
    assert run.judged.replies.annotators.pairwise.value == pytest.approx(4 / 9)
    text = format_judge_run(run)
    assert "any two of them                  44.4 %" in text
    assert "1 without a majority" in text
