"""Prompts that nothing may be trained on, out of the files that evaluation sets come in."""

from __future__ import annotations

import json

import pytest

from selfreward.errors import InputError
from selfreward.similarity.evaluation_sets import read_prompts


def prompts(tmp_path, rows, name="set.jsonl"):
    path = tmp_path / name
    path.write_text(rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows)))
    return read_prompts(path)


def test_instruction_prompt_and_turns_are_read(tmp_path):
    rows = [
        {"instruction": "A"},
        {"prompt": "B"},
        {"turns": ["C", "D"]},
        {"prompt": [{"role": "user", "content": "E"}]},
    ]
    assert prompts(tmp_path, rows) == ["A", "B", "C", "D", "E"]


def test_an_input_counts_alone_and_with_its_instruction(tmp_path):
    rows = [{"instruction": "Answer.", "input": "Why?"}, {"instruction": "Sing.", "input": ""}]
    assert prompts(tmp_path, rows) == ["Answer.", "Why?", "Answer.\n\nWhy?", "Sing."]


def test_csv_prompts_are_texts(tmp_path):
    assert prompts(tmp_path, "prompt\n007\nNone\n", "set.csv") == ["007", "None"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "A"}],
            "set.jsonl: row 1: found the columns question; expected instruction, prompt or turns",
        ),
        ([{"prompt": "A"}, {"prompt": 7}], "row 2: column 'prompt' holds 7, expected a text"),
        ('{\n"data": [{"prompt": "A"}]}', "expected an array of rows"),
    ],
)
def test_other_rows_are_one_sentence(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        prompts(tmp_path, rows)
