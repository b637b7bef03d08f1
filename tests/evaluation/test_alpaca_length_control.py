"""Length control: equal to alpaca-eval's where alpaca-eval is right, and no figure where there can be none."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from pathlib import Path

import pytest

from selfreward.errors import InputError
from selfreward.evaluation.alpaca.harness import contained, import_alpaca_eval
from selfreward.evaluation.alpaca.length_control import JudgedPair, control_length, read_difficulty
from selfreward.evaluation.alpaca.score import evaluate_files, read_length_data

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval"
REFERENCE = DATA / "reference_outputs.gpt4_1106_preview.json.gz"
DIFFICULTY = DATA / "instruction_difficulty.csv"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/alpaca_eval is not here")
COLUMNS = ["model", "index", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"]


def read(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def instructions():
    return [row["instruction"] for row in read(REFERENCE)]


@pytest.fixture
def gamed(tmp_path):
    """Made like `df_gamed.csv` (which is on the Hub only): two models, difficulty by row number."""
    with DIFFICULTY.open(newline="") as file:
        difficulty = [row["instruction_difficulty"] for row in csv.DictReader(file)]
    draw = random.Random(1)
    path = tmp_path / "df_gamed.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for model, delta in (("concise", 1.2), ("verbose", -0.8)):
            for index, value in enumerate(difficulty):
                writer.writerow([model, index, draw.random(), delta + draw.gauss(0, 0.5), value, False])
    return path


def evaluate(model, **files):
    return evaluate_files(
        DATA / f"models/{model}.outputs.json.gz",
        REFERENCE,
        DATA / f"models/{model}.annotations.json.gz",
        **files,
    )


@needs_data
@pytest.mark.parametrize("method", ["length_controlled_v1", "length_controlled_noreg"])
def test_the_figure_is_alpaca_evals_own_where_all_prompts_are_there_in_published_order(
    method, gamed, monkeypatch
):
    """alpaca-eval's function, its download replaced by the file, on 805 complete rows: nothing may differ."""
    glm = import_alpaca_eval("metrics.glm_winrate")
    monkeypatch.setattr(glm, "hf_hub_download", lambda **_: gamed)
    references = {row["instruction"]: row["output"] for row in read(REFERENCE)}
    rows = read(DATA / "models/vicuna-7b.annotations.json.gz")
    rows = [{**row, "output_1": references[row["instruction"]]} for row in rows]
    with contained(), pytest.warns(FutureWarning):
        theirs = glm.get_length_controlled_winrate(rows, glm_name=method, save_weights_dir=None)
    ours = evaluate("vicuna-7b", difficulty=DIFFICULTY, gamed=gamed if method.endswith("v1") else None)
    assert ours.lc_method == method
    assert ours.length_controlled_winrate == pytest.approx(theirs["length_controlled_winrate"], abs=1e-9)
    assert ours.lc_standard_error == pytest.approx(theirs["lc_standard_error"], abs=1e-9)


@needs_data
def test_df_gamed_alone_brings_the_difficulty_with_it(gamed):
    both = evaluate("alpaca-7b", difficulty=DIFFICULTY, gamed=gamed)
    alone = evaluate("alpaca-7b", gamed=gamed)
    assert alone.lc_method == "length_controlled_v1"
    assert alone.length_controlled_winrate == pytest.approx(both.length_controlled_winrate, abs=1e-9)


@needs_data
def test_difficulty_by_row_number_is_refused_unless_the_reference_is_in_published_order(gamed, tmp_path):
    """The Hub's instruction_difficulty.csv has no instructions in it."""
    order = instructions()
    hub = tmp_path / "hub.csv"
    by_instruction = read_difficulty(DIFFICULTY, order)
    lines = [f"{n},{by_instruction[instruction]}" for n, instruction in enumerate(order)]
    hub.write_text("\n".join([",instruction_difficulty", *lines]))
    assert read_difficulty(hub, order) == by_instruction
    for reordered in (order[::-1], order[:100]):
        with pytest.raises(InputError, match="goes by row number"):
            read_difficulty(hub, reordered)
        with pytest.raises(InputError, match="goes by row number"):
            read_length_data(None, gamed, reordered)


@needs_data
def test_files_of_two_estimates_are_noticed(gamed, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(DIFFICULTY.read_text().replace("-0.1013596560", "-0.5"))
    assert "differ by up to" in read_length_data(other, gamed, instructions()).notes[0]
    assert read_length_data(DIFFICULTY, gamed, instructions()).notes == ()


def pairs(n, delta=lambda i: 7 * i):
    return [JudgedPair(f"p{i}", 100, 100 + delta(i), 1 + (i % 3) / 2) for i in range(n)]


@pytest.mark.parametrize(
    ("judged", "difficulty", "reason"),
    [
        pytest.param(pairs(8), None, "no instruction difficulty", id="no difficulty"),
        pytest.param(
            pairs(8),
            {f"p{i}": 0.1 for i in range(7)},
            "1 of 8 .* no difficulty, first 'p7'",
            id="one lacks it",
        ),
        pytest.param(
            pairs(4), {f"p{i}": 0.1 for i in range(4)}, "4 annotated prompts are too few", id="too few"
        ),
        pytest.param(
            pairs(8, lambda i: 5), {f"p{i}": 0.1 for i in range(8)}, "by the same length", id="one length"
        ),
    ],
)
def test_no_figure_without_the_means_and_the_reason_is_given(judged, difficulty, reason):
    control = control_length(judged, difficulty)
    assert (control.winrate, control.standard_error, control.method) == (None, None, None)
    assert re.search(reason, control.reason)


def verdicts(preferences):
    return [JudgedPair(f"p{i}", 100, 100 + 7 * i, preference) for i, preference in enumerate(preferences)]


@pytest.mark.parametrize(
    ("preferences", "side"),
    [([1.0] * 20, "model"), ([2.0] * 20, "reference"), ([1.0] * 16 + [2.0] * 4, "model")],
)
def test_a_judge_of_one_mind_leaves_no_figure_instead_of_fifty(preferences, side):
    """alpaca-eval's fit of 20 lost prompts says 50 %: with no weight on one class all coefficients are 0."""
    control = control_length(verdicts(preferences), {f"p{i}": i / 10 for i in range(20)})
    assert control.winrate is None
    assert f"the judge gave the {side} something on" in control.reason


def test_a_text_judges_plain_ones_and_twos_are_fitted():
    control = control_length(verdicts([1.0, 2.0, 1.0, 1.0] * 8), {f"p{i}": i / 10 for i in range(32)})
    assert 0 < control.winrate < 50


def test_a_damaged_difficulty_file_is_refused(tmp_path):
    path = tmp_path / "d.csv"
    for text, message in [
        ("a,b\n1,2\n", "expected a CSV"),
        ("instruction,instruction_difficulty\nx,high\n", "row 2: instruction_difficulty is 'high'"),
        ("instruction,instruction_difficulty\nx,1\nx,2\n", "'x' more than once"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_difficulty(path, [])
