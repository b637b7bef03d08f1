"""Import and export: what goes out comes back equal, what people have comes in, and the rest is one sentence."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import make_sample_run, publish_rows

from selfreward.errors import InputError, UsageError
from selfreward.exchange.exporting import export_file
from selfreward.exchange.importing import column_table, import_file
from selfreward.exchange.kto_order import kto_order
from selfreward.store.run import Run
from selfreward.tables import (
    BY_KIND,
    DATASETS,
    Annotation,
    DatasetName,
    JudgeEval,
    JudgePair,
    Message,
    MetaJudgement,
    ModelOutput,
    Pair,
    Review,
    RuleEval,
    Seed,
    from_table,
)

IMPORTED = [dataset.kind for dataset in DATASETS if dataset.importable]
ENDINGS = ("jsonl", "csv", "parquet")
AWKWARD = [
    "",
    " ",
    "007",
    "1.50",
    "TRUE",
    "N/A",
    "null",
    "2024-01-01",
    '"',
    "a,b",
    "x\r\ny",
    "\r",
    "\n",
    "é😀",
    "[]",
    "-",
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    run = make_sample_run(tmp_path_factory.mktemp("sample") / "run", iterations=1)
    publish_rows(
        run,
        "iter1/judge_eval",
        JudgeEval,
        [
            JudgeEval("e", 1, "p", "r", 0, 3, sample, "M1", "t", "sampled", text, None, "empty", "stop", 0)
            for sample, text in enumerate(AWKWARD)
        ],
    )
    publish_rows(
        run,
        "reviews",
        Review,
        [
            Review(f"rv{i}", "judgements", 1, f"j{i}", "ann", "agree", text, None, "p", "c", "M1", "t", None,
                   "2026-11-28T00:00:00Z")
            for i, text in enumerate(AWKWARD)
        ],
    )  # fmt: skip
    publish_rows(
        run,
        "iter1/rule_eval",
        RuleEval,
        [
            RuleEval(f"re{i}", 1, "p", text or "q", [text], i, "M1", text or None, None, [text], "unknown_rule",
                     "stop", 3, len(text), None if i % 2 else 0.5)
            for i, text in enumerate(AWKWARD)
        ],
    )  # fmt: skip
    publish_rows(
        run,
        "iter1/meta_judgements",
        MetaJudgement,
        [
            MetaJudgement(f"mj{i}", 1, "p", "c", "j1", "j2", "M1", "t", text, None, "empty", "stop", 0, 0)
            for i, text in enumerate(AWKWARD)
        ],
    )
    publish_rows(
        run,
        "iter1/judge_pairs",
        JudgePair,
        [
            JudgePair(f"jpair{i}", 1, "p", "c", [Message("user", "q")], [Message("assistant", text)],
                      [Message("assistant", "r")], "j1", "j2", 1 / 3, -1e-30, 0.5, 4.0, 1.0, "wins")
            for i, text in enumerate(AWKWARD)
        ],
    )  # fmt: skip
    publish_rows(
        run,
        "iter1/model_outputs",
        ModelOutput,
        [
            ModelOutput(f"o{i}", 1, text, None, text or None, "M1", "stop", 1, 1, "r", "g", None)
            for i, text in enumerate(AWKWARD)
        ],
    )
    publish_rows(
        run,
        "iter1/annotations",
        Annotation,
        [
            Annotation(
                "o",
                1,
                "i",
                None,
                "a",
                "g",
                "b",
                "h",
                "j",
                1.1,
                "ok",
                None,
                1 / 3,
                None,
                "",
                None,
                True,
                1e-30,
                None,
            )
        ],
    )
    return run


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run")


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(run: Run, name: str) -> list[dict]:
    return run.current(name).table().to_pylist()


# -- there and back ------------------------------------------------------------------------------------------


def test_the_sample_holds_every_dataset(sample):
    assert {DatasetName.parse(name).kind for name in sample.names()} == set(IMPORTED)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", IMPORTED)
def test_what_was_exported_is_imported_with_the_same_content_hash(sample, run, tmp_path, kind, ending):
    name = BY_KIND[kind].pattern.replace("N", "1")
    file = tmp_path / f"rows.{ending}"
    n_rows = export_file(sample, name, file)
    (version,) = import_file(run, name, file)
    assert version.n_rows == n_rows
    assert version.content_sha256 == sample.current(name).content_sha256


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(AWKWARD)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            TEXT,
            TEXT,
            st.none() | st.integers(0, 9),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_text_and_number_comes_back(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("any")
    rows = [
        Seed(f"s{i}", "p", prompt, response, rank, quality, "en", prompt or None, "x")
        for i, (prompt, response, rank, quality) in enumerate(drawn)
    ]
    one, two = Run.create(folder / "one"), Run.create(folder / "two")
    publish_rows(one, "seeds", Seed, rows)
    for ending in ENDINGS:
        export_file(one, "seeds", folder / f"s.{ending}")
        (version,) = import_file(two, "seeds", folder / f"s.{ending}")
        assert version.content_sha256 == one.current("seeds").content_sha256, ending


# -- what people have ----------------------------------------------------------------------------------------


def test_prompts_alone_are_enough_and_ids_are_made_from_them(run, tmp_path):
    (version,) = import_file(
        run, "iter2/prompts", write(tmp_path / "p.jsonl", [{"prompt": "A?"}, {"prompt": "B?"}])
    )
    rows = version.table().to_pylist()
    assert [row["prompt"] for row in rows] == ["A?", "B?"]
    assert {row["iteration"] for row in rows} == {2}
    assert rows[0] | {"prompt_id": "", "prompt": ""} == {
        "prompt_id": "", "iteration": 2, "prompt": "", "demonstration_ids": [], "generator": "import", "kept": True,
        "reason": None, "nearest_id": None, "nearest_rouge_l": None, "round": 0, "seed": 0,
    }  # fmt: skip
    assert len({row["prompt_id"] for row in rows}) == 2


def test_candidates_join_the_runs_prompts_by_text(run, tmp_path):
    """Two answers to A? are samples 0 and 1 of its id; n_chars of "yes" is 3."""
    import_file(run, "iter1/prompts", write(tmp_path / "p.jsonl", [{"prompt": "A?", "prompt_id": "a"}]))
    rows = [{"prompt": "A?", "response": "yes"}, {"prompt": "A?", "response": ""}]
    import_file(run, "iter1/candidates", write(tmp_path / "c.csv", rows))
    found = rows_of(run, "iter1/candidates")
    assert [(row["prompt_id"], row["sample"], row["n_chars"], row["response"]) for row in found] == [
        ("a", 0, 3, "yes"),
        ("a", 1, 0, ""),
    ]
    with pytest.raises(
        InputError, match=r"row 1: column 'prompt' holds 'B\?', which is not among the 1 prompts"
    ):
        import_file(run, "iter1/candidates", write(tmp_path / "d.jsonl", [{"prompt": "B?", "response": "x"}]))


QUESTION, GOOD, BAD = (
    [{"role": role, "content": text}]
    for role, text in (("user", "Q?"), ("assistant", "good"), ("assistant", "bad"))
)


@pytest.mark.parametrize(
    "pair",
    [
        {"prompt": "Q?", "chosen": "good", "rejected": "bad"},
        {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD},
        {
            "prompt": [{"from": "human", "value": "Q?"}],
            "chosen": GOOD,
            "rejected": [{"from": "gpt", "value": "bad"}],
        },
        {"prompt": "Q?", "chosen": QUESTION + GOOD, "rejected": QUESTION + BAD},
        {"chosen": QUESTION + GOOD, "rejected": QUESTION + BAD},
    ],
    ids=["texts", "messages", "from/value", "whole conversations", "no prompt"],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_pairs_are_read_in_the_forms_they_are_published_in(run, tmp_path, pair, ending):
    import_file(run, "iter1/pairs", write(tmp_path / f"p.{ending}", [pair]))
    (row,) = rows_of(run, "iter1/pairs")
    assert (row["prompt"], row["chosen"], row["rejected"]) == (QUESTION, GOOD, BAD)
    assert (row["chosen_score"], row["rejected_score"], row["margin"], row["rule"]) == (
        1.0,
        0.0,
        1.0,
        "import",
    )


def test_every_dataset_says_which_columns_it_needs():
    needed = {
        name: [c for c, _, role in column_table(name) if role == "needed"]
        for name in ("seeds", "iter1/pairs")
    }
    assert needed == {"seeds": ["prompt", "response"], "iter1/pairs": ["prompt", "chosen", "rejected"]}


def test_the_documentation_names_the_columns_that_are_needed():
    """docs/own-data.md, second column of the table of datasets; candidates' `prompt` and pairs' `prompt` have conditions."""
    page = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()
    described = {
        row[0].strip(" `"): set(re.findall(r"`(\w+)`", row[1]))
        for row in (line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `"))
    }
    for kind in ("seeds", "ift", "eft", "prompts", "candidates", "judgements", "scores", "pairs"):
        name = BY_KIND[kind].pattern
        needed = {c for c, _, role in column_table(name.replace("N", "1")) if role == "needed"}
        conditions = {"prompt", "prompt_id"} if kind == "candidates" else set()
        assert described[name] == needed | conditions, name


def test_further_columns_are_kept_texts_of_csv_as_texts(run, tmp_path):
    rows = [{"prompt": "A?", "tag": "007"}, {"prompt": "B?", "tag": "1"}]
    import_file(run, "iter1/prompts", write(tmp_path / "p.csv", rows))
    assert [row["tag"] for row in rows_of(run, "iter1/prompts")] == ["007", "1"]
    rows = [{"prompt": "A?", "n": 1, "e": None}, {"prompt": "B?", "n": 1.5, "e": None}, {"prompt": "C?"}]
    import_file(run, "iter1/prompts", write(tmp_path / "p.jsonl", rows))
    assert [(row["n"], row["e"]) for row in rows_of(run, "iter1/prompts")] == [
        (1.0, None),
        (1.5, None),
        (None, None),
    ]


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param([{}, {}, {"x": None}, {"x": "a"}, {}], id="known late"),
        pytest.param([{"x": 1}, {"x": 2}, {"x": 2.5}, {"x": 4}, {}], id="whole numbers, then others"),
        pytest.param([{"x": []}, {"x": []}, {"x": ["a"]}, {"x": None}, {}], id="empty lists first"),
        pytest.param([{"x": {"a": 1}}, {}, {"x": {"a": 1, "b": "c"}}, {}, {}], id="a key more"),
    ],
)
def test_further_columns_are_the_same_in_however_many_chunks_a_file_is_read(
    run, tmp_path, monkeypatch, cells
):
    rows = [{"prompt": f"{number}?", **cell} for number, cell in enumerate(cells)]
    write(tmp_path / "p.jsonl", rows)
    (whole,) = import_file(run, "iter1/prompts", tmp_path / "p.jsonl")
    monkeypatch.setattr("selfreward.reading.files._BATCH_ROWS", 2)
    (parts,) = import_file(Run.create(tmp_path / "other"), "iter1/prompts", tmp_path / "p.jsonl")
    assert parts.content_sha256 == whole.content_sha256
    assert parts.table(["x"]).schema == whole.table(["x"]).schema


def test_a_conversation_of_no_turns_is_refused_in_every_format(run, tmp_path):
    """Two rows, so that neither the shortest nor the longest conversation alone decides."""
    rows = [{**PAIR, "prompt": []}, {**PAIR, "prompt": [{"role": "user", "content": "Q?"}]}]
    for name in ("p.jsonl", "p.parquet"):
        with pytest.raises(InputError, match="row 1: column 'prompt' is not a conversation"):
            import_file(run, "iter1/pairs", write(tmp_path / name, rows))


def test_categories_of_pandas_are_texts(run, tmp_path):
    table = pa.table(
        {
            "prompt": pa.array(["A?", "B?"]).dictionary_encode(),
            "tag": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    import_file(run, "iter1/prompts", tmp_path / "p.parquet")
    assert [(row["prompt"], row["tag"]) for row in rows_of(run, "iter1/prompts")] == [
        ("A?", "x"),
        ("B?", "y"),
    ]


def test_the_conversational_export_comes_back_with_its_margin(sample, run, tmp_path):
    export_file(sample, "iter1/pairs", tmp_path / "p.jsonl", "conversational")
    first = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert "margin" not in first
    assert first["score_margin"] == first["chosen_score"] - first["rejected_score"]
    (version,) = import_file(run, "iter1/pairs", tmp_path / "p.jsonl")
    assert version.content_sha256 == sample.current("iter1/pairs").content_sha256


# -- what is refused -----------------------------------------------------------------------------------------

SEED = {"seed_id": "s", "prompt_id": "p", "prompt": "Q?", "response": "R", "lang": "en", "source": "own"}
PROMPT = {"prompt": "Q?", "prompt_id": "p"}
PAIR = {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD}


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("seeds", [SEED, {**SEED, "seed_id": "t", "quality": float("nan")}], "row 2: column 'quality' holds nan"),
        ("seeds", [SEED, {**SEED, "seed_id": "t", "quality": "good"}], "row 2: column 'quality' holds 'good', expected a n"),
        ("seeds", [SEED, {**SEED, "seed_id": "t", "human_rank": 1.5}], "row 2: .*'human_rank' holds 1.5, expected a whole"),
        ("seeds", [SEED, {**SEED, "seed_id": 7}], r"row 2: column 'seed_id' holds 7, expected a text \(in quotes\)"),
        ("seeds", [SEED, SEED], "row 2: seed_id 's' is already that of row 1"),
        ("seeds", [SEED, {**SEED, "seed_id": None}], "row 2: column 'seed_id' is NULL"),
        ("seeds", [SEED, {**SEED, "response": "\ud83d"}], "row 2: column 'response' holds half of a surrogate pair"),
        ("seeds", [{"prompt": "Q?"}], "no column 'response', but 'prompt'; seeds needs prompt, response"),
        ("seeds", [], "has no rows"),
        ("iter1/prompts", [{"prompt": "Q?"}, {"prompt": "Q?"}], r"row 2: prompt_id .* is made from prompt"),
        ("iter1/prompts", [{**PROMPT, "demonstration_ids": "ift-abc"}], "holds 'ift-abc', expected a list of texts"),
        ("iter1/prompts", [{**PROMPT, "kept": "yes"}], "row 1: column 'kept' holds 'yes', expected true or false"),
        ("iter1/prompts", [{**PROMPT, "iteration": 2}], "row 1: column 'iteration' holds 2, but these are rows of iter1"),
        ("iter1/prompts", [{**PROMPT, "x": 1}, {"prompt": "R?", "prompt_id": "r", "x": "a"}], "'x' mixes values"),
        ("iter1/pairs", [{**PAIR, "chosen": [{"role": "tool", "content": "x"}]}], "row 1: column 'chosen' is not a conversation: found a turn of"),
        ("iter1/pairs", [{**PAIR, "prompt": [{"from": "bot", "value": "x"}]}], "found a turn of 'bot'"),
        ("iter1/pairs", [{**PAIR, "chosen": QUESTION}], "row 1: column 'chosen' has no prompt"),
        ("iter1/judgements", [{"candidate_id": "c", "prompt_id": "p", "judgement": "", "status": "fine"}],
         "row 1: column 'status' holds 'fine', expected one of empty"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_and_nothing_is_published(run, tmp_path, name, rows, message):
    path = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(InputError, match=message) as caught:
        import_file(run, name, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert not run.names()


def test_the_row_of_a_csv_is_named_rightly_far_into_the_file(run, tmp_path):
    """The bad cell is in row 25,001 of 30,000, in the third part that is read."""
    rows = [{**SEED, "seed_id": f"s{i}", "quality": "good" if i == 25_000 else "0.5"} for i in range(30_000)]
    with pytest.raises(InputError, match="row 25001: column 'quality' holds 'good'"):
        import_file(run, "seeds", write(tmp_path / "x.csv", rows))


def test_a_column_in_some_rows_only_is_not_filled_in(run, tmp_path):
    rows = [{"prompt": f"{i}?", "prompt_id": str(i)} for i in range(10_000)] + [{"prompt": "x?"}]
    with pytest.raises(InputError, match="'prompt_id' is in some rows only"):
        import_file(run, "iter1/prompts", write(tmp_path / "x.jsonl", rows))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prompts", "did you mean iter1/prompts"),
        ("iter1/seeds", "did you mean seeds"),
        ("iter0/prompts", "did you mean iter1/prompts"),
        ("iter007/prompts", "no such dataset"),
        ("iter100/prompts", "no such dataset"),
        ("iter١/prompts", "no such dataset"),
        ("iter1/prompt", "no such dataset"),
        ("M1", "no such dataset"),
    ],
)
def test_a_name_that_no_dataset_can_have_is_refused(run, tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        import_file(run, name, write(tmp_path / "x.jsonl", [{"prompt": "Q?"}]))


def test_of_a_folder_all_files_or_none_are_published(run, tmp_path):
    folder = tmp_path / "files" / "iter1"
    folder.mkdir(parents=True)
    write(folder / "prompts.csv", [{"prompt": "A?"}])
    write(folder / "pairs.jsonl", [{"prompt": "A?", "chosen": 7, "rejected": "b"}])
    with pytest.raises(
        InputError, match=r"pairs.jsonl: row 1: column 'chosen' is not a conversation: found 7"
    ):
        import_file(run, "all", tmp_path / "files")
    assert not run.names()
    write(folder / "pairs.jsonl", [{"prompt": "A?", "chosen": "a", "rejected": "b"}])
    with pytest.raises(InputError, match="has no column 'prompt_id'; import iter1/prompts first"):
        import_file(run, "all", tmp_path / "files")
    write(folder / "pairs.jsonl", [{"prompt": "A?", "chosen": "a", "rejected": "b", "prompt_id": "p"}])
    import_file(run, "all", tmp_path / "files")
    assert run.names() == ["iter1/pairs", "iter1/prompts"]


# -- forms for trainers --------------------------------------------------------------------------------------

LONG = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "Q2"},
]


def pairs_run(tmp_path, sample, n: int, prompt=None) -> Run:
    (pair, *_) = from_table(sample.current("iter1/pairs").table(), Pair)
    run = Run.create(tmp_path / f"pairs{n}")
    turns = [Message(**turn) for turn in prompt or QUESTION]
    pairs = [replace(pair, pair_id=f"pair-{i}", prompt_id=f"p{i}", prompt=turns) for i in range(n)]
    publish_rows(run, "iter1/pairs", Pair, pairs)
    return run


def exported(run: Run, tmp_path: Path, form: str) -> list[dict]:
    export_file(run, "iter1/pairs", tmp_path / "x.jsonl", form)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    export_file(run, "iter1/pairs", tmp_path / "x.parquet", form)
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == rows
    return rows


def test_no_form_loses_a_turn(sample, tmp_path):
    run = pairs_run(tmp_path, sample, 1, LONG)
    (pair,) = rows_of(run, "iter1/pairs")
    chosen, rejected = pair["chosen"][0]["content"], pair["rejected"][0]["content"]
    (sharegpt,) = exported(run, tmp_path, "sharegpt")
    assert sharegpt == {
        "conversations": [
            {"from": "system", "value": "S"},
            {"from": "human", "value": "Q1"},
            {"from": "gpt", "value": "A1"},
            {"from": "human", "value": "Q2"},
        ],
        "chosen": {"from": "gpt", "value": chosen},
        "rejected": {"from": "gpt", "value": rejected},
    }
    (alpaca,) = exported(run, tmp_path, "alpaca")
    assert alpaca == {
        "instruction": "Q2", "input": "", "chosen": chosen, "rejected": rejected, "system": "S", "history": [["Q1", "A1"]],
    }  # fmt: skip
    (swift,) = exported(run, tmp_path, "swift")
    assert swift == {"messages": [*LONG, pair["chosen"][0]], "rejected_response": rejected}
    (implicit,) = exported(run, tmp_path, "implicit")
    assert implicit == {side: [*LONG, pair[side][0]] for side in ("chosen", "rejected")}
    with pytest.raises(
        InputError,
        match=r"row 1 \(pair-0\): --as plain cannot hold .*system, user, assistant, user; use --as",
    ):
        export_file(run, "iter1/pairs", tmp_path / "x.jsonl", "plain")


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
def test_turns_that_do_not_alternate_are_refused_where_a_trainer_would_leave_the_row_out(
    sample, tmp_path, form
):
    run = pairs_run(tmp_path, sample, 1, [*QUESTION, *QUESTION])
    with pytest.raises(
        InputError, match="cannot hold a prompt of the turns user, user; use --as conversational"
    ):
        export_file(run, "iter1/pairs", tmp_path / "x.jsonl", form)


def test_labeled_rows_are_the_unpaired_ones_in_one_list(sample, tmp_path):
    run = pairs_run(tmp_path, sample, 4, LONG)
    labeled, unpaired = (exported(run, tmp_path, form) for form in ("labeled", "unpaired"))
    assert labeled == [
        {"messages": row["prompt"] + row["completion"], "label": row["label"]} for row in unpaired
    ]


@pytest.mark.parametrize(
    "form", ["conversational", "implicit", "sharegpt", "alpaca", "swift", "unpaired", "labeled"]
)
def test_lists_do_not_go_into_a_csv_that_a_trainer_would_read_as_text(sample, tmp_path, form):
    with pytest.raises(UsageError, match=r"write .jsonl or .parquet, or --as plain"):
        export_file(sample, "iter1/pairs", tmp_path / "x.csv", form)


def test_pairs_in_a_plain_csv_are_texts(sample, tmp_path):
    export_file(sample, "iter1/pairs", tmp_path / "x.csv", "plain")
    first, stored = (
        next(csv.DictReader((tmp_path / "x.csv").open(newline=""))),
        rows_of(sample, "iter1/pairs")[0],
    )
    assert first == {key: stored[key][0]["content"] for key in ("prompt", "chosen", "rejected")}


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 12, 51])
def test_no_row_for_kto_follows_one_of_its_own_prompt_and_every_batch_has_both_labels(sample, tmp_path, n):
    """What TRL compares: each row with the one before it in its batch, the first with the last; the rows in file order."""
    pairs, labels, good = kto_order(np.arange(n))
    assert good
    assert sorted(zip(pairs.tolist(), labels.tolist(), strict=True)) == [
        (i, label) for i in range(n) for label in (False, True)
    ]
    for size in (2, 4, 8):
        for start in range(0, 2 * n, size):
            batch = pairs[start : start + size].tolist()
            assert all(one != before for one, before in zip(batch, [batch[-1], *batch], strict=False))
            assert len(set(labels[start : start + size].tolist())) == 2
    rows = exported(pairs_run(tmp_path, sample, n), tmp_path, "unpaired")
    assert [row["label"] for row in rows] == labels.tolist()


def test_two_pairs_for_kto_are_said_to_be_too_few(sample, tmp_path, capsys):
    assert len(exported(pairs_run(tmp_path, sample, 2), tmp_path, "unpaired")) == 4
    assert "2 pairs: too few different prompts" in capsys.readouterr().err


def test_messages_hold_the_conversations_to_learn_from_and_nothing_else(sample, tmp_path):
    assert export_file(sample, "ift", tmp_path / "ift.jsonl", "messages") == 40
    row = json.loads((tmp_path / "ift.jsonl").read_text().splitlines()[0])
    assert row == {"messages": rows_of(sample, "ift")[0]["messages"]}
    taught = [row for row in rows_of(sample, "eft") if row["split"] == "train" and row["accepted"]]
    assert (
        export_file(sample, "eft", tmp_path / "eft.jsonl", "messages")
        == len(taught)
        < len(rows_of(sample, "eft"))
    )
    row = json.loads((tmp_path / "eft.jsonl").read_text().splitlines()[0])
    assert [turn["content"] for turn in row["messages"]] == [taught[0]["judge_prompt"], taught[0]["target"]]


def test_a_form_that_a_dataset_does_not_have_is_refused(sample, tmp_path):
    with pytest.raises(UsageError, match="--as 'plain': ift has the forms rows, messages"):
        export_file(sample, "ift", tmp_path / "x.jsonl", "plain")
    with pytest.raises(UsageError, match="unknown kind of file"):
        export_file(sample, "ift", tmp_path / "x.txt")
