"""The preflight counts what training would cut or drop, and refuses it. All lengths are worked out by hand.

With the tokenizer of tests/tiny_llama.py, a row whose prompt has p bytes and whose answer has a bytes takes
15 (system turn) + 8 + p (user turn) + 11 (start of the answer) + a + 2 (`</s>`, newline) = 36 + p + a tokens,
a + 2 of them answer.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import make_tiny_tokenizer

from selfreward.config.training import DpoConfig, SftConfig
from selfreward.errors import ConfigError, InputError, TrainingError
from selfreward.models.folder import token_limit
from selfreward.training.data import dpo_rows, sft_rows
from selfreward.training.preflight import check_rows, refuse, tokenize

TOKENIZER = make_tiny_tokenizer()


def row(prompt: str, answer: str, source: str = "ift"):
    return {
        "source": source,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def pair(prompt: str, chosen: str, rejected: str):
    def said(text):
        return [{"role": "assistant", "content": text}]

    prompt_turn = [{"role": "user", "content": prompt}]
    return {"source": "pairs", "prompt": prompt_turn, "chosen": said(chosen), "rejected": said(rejected)}


def check(rows, limit=256, answers=("completion",)):
    return check_rows(rows, answers, TOKENIZER, limit)


def test_tokens_are_counted_as_worked_out_by_hand():
    """Row 1: 36 + 2 + 2 = 40 tokens, 4 of them answer. Row 2: 36 + 5 + 9 = 50, 11 of them answer."""
    kept, report = check([row("hi", "ok"), row("hello", "good day!")])
    assert len(kept) == 2
    assert (report.rows, report.kept, report.longest, report.tokens, report.answer_tokens) == (
        2,
        2,
        50,
        90,
        15,
    )
    assert (report.dropped, report.truncated, report.altered_prompts, report.without_end) == ({}, {}, 0, 0)


def test_the_prompt_ends_with_the_start_of_the_answers_turn():
    (tokens,) = tokenize(TOKENIZER, row("hi", "ok"), ["completion"])
    assert TOKENIZER.decode(tokens.prompt).endswith("<s>assistant\n")
    assert TOKENIZER.decode(tokens.answer) == "ok</s>\n"


def test_a_row_longer_than_the_limit_counts_as_cut_and_stays():
    """40 tokens fit into 40; 41 do not."""
    kept, report = check([row("hi", "ok"), row("hi", "oki")], limit=40)
    assert len(kept) == 2
    assert report.truncated == {"ift": 1}
    assert report.tokens == 80


def test_a_prompt_that_fills_the_limit_is_dropped_because_no_answer_is_left():
    """The prompt alone takes 15 + 8 + 2 + 11 = 36 tokens: at limit 36 nothing of the answer is left, at 37 one token is."""
    assert check([row("hi", "ok")], limit=36)[1].dropped == {"prompt_fills_length": 1}
    assert check([row("hi", "ok")], limit=37)[1].truncated == {"ift": 1}


def test_rows_without_text_are_dropped_by_reason():
    rows = [
        pair(" ", "a", "b"),
        pair("p", "", "b"),
        pair("p", "a", "\n"),
        pair("p", "a", "a"),
        pair("p", "a", "b"),
    ]
    kept, report = check(rows, answers=("chosen", "rejected"))
    assert len(kept) == 1
    assert report.dropped == {
        "empty_prompt": 1,
        "empty_chosen": 1,
        "empty_rejected": 1,
        "identical_answers": 1,
    }


def test_a_pair_is_cut_if_its_longer_answer_is():
    """Chosen takes 36 + 1 + 1 = 38 tokens, rejected 36 + 1 + 5 = 42."""
    _, report = check([pair("p", "a", "bbbbb")], limit=40, answers=("chosen", "rejected"))
    assert report.truncated == {"pairs": 1}
    assert report.longest == 42


@pytest.mark.parametrize(
    ("rows", "limit"),
    [
        pytest.param([row("judge", "Fine. Score: 4", "eft")], 54, id="one-token-too-long"),
        pytest.param([row("j" * 60, "Score: 4", "eft")], 50, id="prompt-alone-too-long"),
        pytest.param(
            [row("hi", "ok")] * 999 + [row("judge", "Fine. Score: 4", "eft")], 54, id="one-in-a-thousand"
        ),
    ],
)
def test_a_judgement_that_would_lose_its_score_is_always_refused(rows, limit):
    """`judge` and `Fine. Score: 4` take 36 + 5 + 14 = 55 tokens. No threshold lets it pass."""
    _, report = check(rows, limit)
    tolerant = SftConfig(max_truncated_share=1, max_dropped_share=1)
    with pytest.raises(TrainingError, match=r"1 of .* lose the score"):
        refuse(report, tolerant, "row")


def test_cut_rows_are_refused_past_the_threshold_and_not_before():
    """1 of 4 rows is cut: a share of 0.25."""
    _, report = check([row("hi", "ok")] * 3 + [row("hi", "longer")], limit=40)
    refuse(report, SftConfig(max_truncated_share=0.25), "row")
    with pytest.raises(TrainingError, match=r"1 of 4 rows are longer than 40 tokens.*longest has 44"):
        refuse(report, SftConfig(max_truncated_share=0.24), "row")


def test_dropped_rows_are_refused_past_the_threshold_with_their_reasons():
    _, report = check([pair("p", "a", "b")] * 3 + [pair("p", "a", "")], answers=("chosen", "rejected"))
    refuse(report, DpoConfig(max_dropped_share=0.25), "pair")
    with pytest.raises(TrainingError, match="1 of 4 pairs cannot be trained on: 1 empty rejected"):
        refuse(report, DpoConfig(max_dropped_share=0.24), "pair")


def test_too_few_pairs_are_refused():
    _, report = check([pair("p", "a", "b")] * 3, answers=("chosen", "rejected"))
    with pytest.raises(TrainingError, match="found 3 pairs, too few to train on; expected at least 4"):
        refuse(report, DpoConfig(min_rows=4), "pair")


def test_texts_that_carry_the_templates_own_tokens_are_counted_and_refused():
    """An answer ending in `</s>` gets a second one from the template; a prompt starting with `<s><s>` doubles too."""
    _, report = check([row("hi", "ok</s>"), row("<s><s>hi", "ok"), row("hi", "ok")])
    assert (report.doubled_end, report.doubled_begin) == (1, 1)
    with pytest.raises(TrainingError, match="1 have a doubled begin token and 1 a doubled end token"):
        refuse(report, SftConfig(), "row")


def test_a_template_that_never_ends_the_turn_is_counted():
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert check_rows([row("hi", "ok")], ["completion"], tokenizer, 256)[1].without_end == 1


def test_a_template_that_changes_the_prompt_once_answered_is_counted():
    """The generation prompt `<s>assistant!` is not how the answered turn begins, `<s>assistant` newline."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<s>assistant\n{%", "<s>assistant!{%")
    assert check_rows([row("hi", "ok")], ["completion"], tokenizer, 256)[1].altered_prompts == 1


def test_the_limit_is_max_length_or_else_the_models_context(tmp_path):
    """256 as Llama's configuration says it, 64 as GPT-2's does; a kind that nobody knows has no limit."""
    (tmp_path / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 256}')
    assert token_limit(tmp_path, 0, "max_length") == token_limit(tmp_path, None, "max_length") == 256
    assert token_limit(tmp_path, 100, "max_length") == 100
    with pytest.raises(ConfigError, match="max_length 300 is more than the 256 tokens"):
        token_limit(tmp_path, 300, "max_length")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_positions": 64}')
    assert token_limit(tmp_path, None, "max_length") == 64
    (tmp_path / "config.json").write_text('{"model_type": "of_nobody"}')
    assert token_limit(tmp_path, None, "max_length") is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=8), st.integers(20, 90))
def test_every_row_is_kept_or_dropped_and_only_kept_ones_are_cut(texts, limit):
    kept, report = check([row(prompt, answer) for prompt, answer in texts], limit)
    assert report.rows == len(texts) == len(kept) + sum(report.dropped.values())
    assert sum(report.truncated.values()) <= len(kept) == report.kept
    assert report.answer_tokens <= report.tokens <= limit * len(kept)


def dataset(*rows):
    import datasets

    return datasets.Dataset.from_list(list(rows))


def eft(split="train", accepted=True, target="Fine. Score: 4"):
    return {"split": split, "accepted": accepted, "judge_prompt": "Judge this.", "target": target}


def test_sft_trains_on_ift_and_on_accepted_eft_training_rows_only():
    """5 rows in: 1 IFT and 1 EFT row to train on, 2 of the evaluation split, 1 not accepted."""
    judgements = dataset(eft(), eft(split="eval"), eft(split="eval", accepted=False), eft(accepted=False))
    found = sft_rows([dataset({"prompt": "Boil an egg?", "response": "Ten minutes."}), judgements])
    assert [(r["source"], r["prompt"][0]["content"], r["completion"][0]["content"]) for r in found.rows] == [
        ("ift", "Boil an egg?", "Ten minutes."),
        ("eft", "Judge this.", "Fine. Score: 4"),
    ]
    assert found.n_in == 5
    assert found.dropped == {"eft_eval_split": 2, "eft_not_accepted": 1}


def test_sft_on_pairs_takes_the_chosen_answers_and_dpo_both():
    pairs = dataset({k: v for k, v in pair("p", "good", "bad").items() if k != "source"})
    assert sft_rows([pairs]).rows[0]["completion"] == [{"role": "assistant", "content": "good"}]
    assert dpo_rows([pairs]).rows == [pair("p", "good", "bad")]


def test_a_table_that_cannot_be_trained_on_is_refused_by_its_columns():
    with pytest.raises(InputError, match="columns text; expected the datasets pairs or judge_pairs"):
        dpo_rows([dataset({"text": "x"})])
