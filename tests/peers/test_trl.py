"""TRL's four trainers prepare what `export` wrote: the tokens are those of all turns."""

from __future__ import annotations

import pytest
from peer_rows import labeled_as_text, pairs_as_text

from selfreward.exchange.exporting import export_file
from selfreward.exchange.kto_order import kto_order

pytestmark = pytest.mark.peers


@pytest.fixture
def prepared(chatml, tmp_path):
    """`prepared("DPO", run, dataset, form)`: the rows of a trainer's dataset, and its tokenizer."""
    import trl
    from datasets import load_dataset
    from transformers import AutoTokenizer

    def prepare(kind, run, dataset, form, ending="jsonl"):
        path = tmp_path / f"{kind}-{form}.{ending}"
        export_file(run, dataset, path, form)
        loader = "json" if ending == "jsonl" else ending
        rows = load_dataset(loader, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        settings = getattr(trl, f"{kind}Config")(
            output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none", max_length=None
        )
        tokenizer = AutoTokenizer.from_pretrained(chatml)
        trainer = getattr(trl, f"{kind}Trainer")(
            str(chatml), args=settings, train_dataset=rows, processing_class=tokenizer
        )
        return list(trainer.train_dataset), tokenizer

    return prepare


@pytest.mark.parametrize("form", ["conversational", "implicit"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_dpo(prepared, run, form, ending):
    rows, tokenizer = prepared("DPO", run, "iter1/pairs", form, ending)
    assert [
        {side: tokenizer.decode(row[f"{side}_ids"]).rstrip("\n") for side in ("chosen", "rejected")}
        for row in rows
    ] == [{side: row[side] for side in ("chosen", "rejected")} for row in pairs_as_text()]
    assert [tokenizer.decode(row["prompt_ids"]) for row in rows] == [row["prompt"] for row in pairs_as_text()]


def test_dpo_of_plain_texts_in_a_csv(prepared, only):
    rows, tokenizer = prepared("DPO", only("one"), "iter1/pairs", "plain", "csv")
    assert [tokenizer.decode(rows[0][f"{part}_ids"]) for part in ("prompt", "chosen", "rejected")] == [
        "Q1", "good one<|im_end|>", "bad one<|im_end|>",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["conversational", "implicit"])
def test_a_reward_model_without_a_margin_in_its_loss(prepared, run, form):
    rows, tokenizer = prepared("Reward", run, "iter1/pairs", form)
    assert all("margin" not in row for row in rows)
    for side in ("chosen", "rejected"):
        texts = [tokenizer.decode(row[f"{side}_ids"]).rstrip("\n") for row in rows]
        assert texts == [row["prompt"] + row[side] for row in pairs_as_text()]


def test_kto_compares_each_row_with_an_answer_to_another_prompt(prepared, run):
    import numpy as np

    rows, tokenizer = prepared("KTO", run, "iter1/pairs", "unpaired")
    pairs, labels, _ = kto_order(np.arange(4))
    expected = labeled_as_text(pairs.tolist(), labels.tolist())
    assert [
        {
            "prompt": tokenizer.decode(row["prompt_ids"]),
            "completion": tokenizer.decode(row["completion_ids"]).rstrip("\n"),
            "label": row["label"],
        }
        for row in rows
    ] == expected
    for row, one in zip(rows, expected, strict=True):
        other = tokenizer.decode(row["KL_completion_ids"])
        assert (
            other.split("<|im_end|>")[0].split()[-1]
            != one["completion"].removesuffix("<|im_end|>").split()[-1]
        )


@pytest.mark.parametrize("dataset", ["ift", "eft"])
def test_sft_trains_on_all_of_ift_and_the_accepted_training_rows_of_eft(prepared, sample, dataset):
    rows, tokenizer = prepared("SFT", sample, dataset, "messages")
    stored = sample.current(dataset).table().to_pylist()
    if dataset == "eft":
        kept = [
            (row["judge_prompt"], row["target"])
            for row in stored
            if row["split"] == "train" and row["accepted"]
        ]
        assert 0 < len(kept) < len(stored)
    else:
        kept = [(row["prompt"], row["response"]) for row in stored]
    assert [tokenizer.decode(row["input_ids"]).rstrip("\n") for row in rows] == [
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>"
        for question, answer in kept
    ]
