"""AlpacaEval from files: the published leaderboard is the expected value, bad files are refused by name."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import InputError, UsageError
from selfreward.evaluation.alpaca.harness import alpaca_eval_folder
from selfreward.evaluation.alpaca.leaderboard import format_leaderboard, leaderboard
from selfreward.evaluation.alpaca.length_control import is_published_order
from selfreward.evaluation.alpaca.score import evaluate_files
from selfreward.evaluation.alpaca.verdicts import verdict_of

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval"
REFERENCE = DATA / "reference_outputs.gpt4_1106_preview.json.gz"
DIFFICULTY = DATA / "instruction_difficulty.csv"
PUBLISHED = DATA / "leaderboard.weighted_alpaca_eval_gpt4_turbo.csv"
MODELS = [
    path.name.removesuffix(".outputs.json.gz") for path in sorted(DATA.glob("models/*.outputs.json.gz"))
]
CONTRACT = (
    *(
        "model",
        "n_total",
        "n_annotated",
        "win_rate",
        "standard_error",
        "discrete_win_rate",
        "n_wins",
        "n_wins_base",
    ),
    *("n_draws", "avg_length", "length_controlled_winrate", "lc_standard_error", "lc_method"),
)
EXACT = ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "avg_length")

needs_data = pytest.mark.skipif(not MODELS, reason="../shared/data/alpaca_eval is not here")


def read(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def small(tmp_path):
    """Four prompts; the model is better on the first (2.0), worse on two (1.0, 1.25), a draw on one (1.5)."""
    prompts, preferences = ["p1", "p2", "p3", "p4"], [2.0, 1.0, 1.25, 1.5]
    reference = [{"instruction": p, "output": "reference " + p, "generator": "ref"} for p in prompts]
    outputs = [{"instruction": p, "output": "answer " + p, "generator": "mine"} for p in prompts]
    annotations = [
        {"instruction": p, "output_2": "answer " + p, "generator_1": "ref", "generator_2": "mine"}
        | {"annotator": "judge", "preference": x}
        for p, x in zip(prompts, preferences, strict=True)
    ]
    return Small(tmp_path, reference, outputs, annotations)


class Small:
    def __init__(self, folder, reference, outputs, annotations):
        self.folder, self.reference, self.outputs, self.annotations = folder, reference, outputs, annotations

    def evaluate(self, **options):
        paths = [
            write(self.folder / f"{name}.json", rows)
            for name, rows in (
                ("outputs", self.outputs),
                ("reference", self.reference),
                ("annotations", self.annotations),
            )
        ]
        return evaluate_files(*paths, **options)


def evaluate_model(model, **options):
    return evaluate_files(
        DATA / f"models/{model}.outputs.json.gz",
        REFERENCE,
        DATA / f"models/{model}.annotations.json.gz",
        DIFFICULTY,
        **options,
    )


@needs_data
@pytest.mark.parametrize("model", MODELS)
def test_the_published_row_comes_out_to_six_decimals(model):
    with PUBLISHED.open() as file:
        published = {row[""]: row for row in csv.DictReader(file)}[model]
    row = evaluate_model(model).to_dict()
    assert {key: row[key] for key in EXACT} == pytest.approx(
        {key: float(published[key]) for key in EXACT}, abs=1e-6
    )
    assert row["n_total"] == 805
    assert row["n_annotated"] == int(published["n_total"])
    assert row["win_rate_ci_low"] <= row["win_rate"] <= row["win_rate_ci_high"]
    assert row["length_controlled_winrate"] == pytest.approx(
        float(published["length_controlled_winrate"]), abs=3
    )
    assert row["lc_method"] == "length_controlled_noreg"
    assert tuple(row)[: len(CONTRACT)] == CONTRACT
    json.dumps(row, allow_nan=False)


@needs_data
def test_text_davinci_001_has_two_missing_answers_counted_and_refused_when_strict():
    """803 of 805 answers; alpaca-eval shows 803 and says nothing about the two."""
    result = evaluate_model("text_davinci_001")
    assert (result.n_annotated, result.n_missing, result.n_lost) == (803, 2, {})
    assert "2 prompts without an answer" in result.warnings[0]
    assert "803 of 805 prompts (2 unanswered)" in result.text()
    with pytest.raises(InputError, match=r"strict: .*2 prompts without an answer.*first is prompt 248"):
        evaluate_model("text_davinci_001", strict=True)


@needs_data
def test_gemma_2b_has_22_empty_answers_which_are_judged_and_counted():
    result = evaluate_model("gemma-2b-it")
    assert (result.n_empty, result.n_annotated) == (22, 805)
    with pytest.raises(InputError, match="22 prompts with an empty answer"):
        evaluate_model("gemma-2b-it", strict=True)


@needs_data
def test_the_reference_against_itself_is_fifty():
    result = evaluate_model("gpt4_1106_preview")
    assert (result.win_rate, result.n_draws, result.length_controlled_winrate) == (50.0, 805, 50.0)
    assert result.longer_preferred is None


@needs_data
def test_baselines_stand_beside_the_row():
    """NullModel, one adversarial answer to all prompts, is published at 76.92 (86.46 length-controlled)."""
    itself, longest, longer, constant = evaluate_model("alpaca-7b").baselines
    assert longer.name == "longer answer"
    assert (itself.win_rate, itself.length_controlled_winrate) == (50.0, 50.0)
    assert 0 < longest.win_rate < 10
    assert 40 < longer.win_rate < 50, "alpaca-7b is hardly ever the longer one, and loses then too"
    assert (round(constant.win_rate, 2), round(constant.length_controlled_winrate, 2)) == (76.92, 86.46)


@needs_data
def test_shuffled_files_give_the_same_length_controlled_figures(tmp_path):
    """alpaca-eval looks difficulty up by row number and would change the figure."""
    straight = evaluate_model("claude-2")
    paths = []
    for name in (
        "models/claude-2.outputs",
        "reference_outputs.gpt4_1106_preview",
        "models/claude-2.annotations",
    ):
        rows = read(DATA / f"{name}.json.gz")
        random.Random(name).shuffle(rows)
        paths.append(write(tmp_path / f"{Path(name).name}.json", rows))
    shuffled = evaluate_files(*paths, DIFFICULTY)
    assert shuffled.length_controlled_winrate == straight.length_controlled_winrate
    assert by_instruction(shuffled) == by_instruction(straight)


@needs_data
def test_a_subset_keeps_every_instructions_difficulty_and_ignores_row_order(tmp_path):
    """Every third annotation, forward and reversed: difficulty goes by instruction, the figures are one."""
    whole = {row.instruction: row.difficulty for row in evaluate_model("alpaca-7b").prompts}
    rows = read(DATA / "models/alpaca-7b.annotations.json.gz")[::3]
    results = []
    for order in (rows, rows[::-1]):
        annotations = write(tmp_path / "subset.json", order)
        results.append(
            evaluate_files(DATA / "models/alpaca-7b.outputs.json.gz", REFERENCE, annotations, DIFFICULTY)
        )
    assert results[0].to_dict() == results[1].to_dict()
    assert (results[0].n_annotated, results[0].n_lost) == (269, {"not_annotated": 536})
    assert {row.instruction: row.difficulty for row in results[0].prompts} == whole
    assert results[0].length_controlled_winrate is not None


def by_instruction(result):
    return {row.instruction: (row.preference, row.difficulty, row.glm_preference) for row in result.prompts}


@needs_data
def test_without_difficulty_there_is_no_length_controlled_figure_and_a_reason(tmp_path):
    result = evaluate_files(
        DATA / "models/alpaca-7b.outputs.json.gz", REFERENCE, DATA / "models/alpaca-7b.annotations.json.gz"
    )
    row = result.to_dict()
    assert (row["length_controlled_winrate"], row["lc_standard_error"], row["lc_method"]) == (
        None,
        None,
        None,
    )
    assert "no instruction difficulty" in row["lc_reason"]


def test_the_interval_counts_lost_prompts_as_lost_and_as_won(small):
    """Preferences 2, 1, 1.25 and one lost: mean of the three 41.67 %. The lost one as 0 or 1 bounds the mean of
    all four between 31.25 and 56.25, so the interval must reach beyond both."""
    small.annotations[3]["preference"] = None
    result = small.evaluate()
    assert result.win_rate == pytest.approx(100 * 1.25 / 3)
    assert (result.n_annotated, result.n_lost) == (3, {"no_score": 1})
    assert result.win_rate_ci_low <= 31.25
    assert result.win_rate_ci_high >= 56.25


def test_figures_of_four_prompts_by_hand(small):
    """Preferences 2, 1, 1.25, 1.5: mean of x - 1 is 43.75 %, sample deviation 0.4270, over sqrt(4) 21.35.
    Rounded to winners: 1 won, 1 drawn, 2 lost: (1 + 0.5) / 4 = 37.5 %. Answers are 9 characters."""
    result = small.evaluate()
    assert (result.win_rate, result.discrete_win_rate) == (43.75, 37.5)
    assert result.standard_error == pytest.approx(21.347814095749183)
    assert (result.n_wins, result.n_draws, result.n_wins_base, result.avg_length) == (1, 1, 2, 9)
    assert result.longer_preferred == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("value", [None, math.nan, 3, 0.5, -1, 2.0001], ids=repr)
def test_an_unusable_preference_is_counted_and_never_leaves_the_total(small, value):
    small.annotations[1]["preference"] = value
    result = small.evaluate()
    assert (result.n_total, result.n_annotated, sum(result.n_lost.values())) == (4, 3, 1)
    assert any("no usable preference" in warning and "'p2'" in warning for warning in result.warnings)
    with pytest.raises(InputError, match="no usable preference"):
        small.evaluate(strict=True)


@pytest.mark.parametrize("value", ["1", "2", "1.5", True, False, [1]], ids=repr)
def test_a_preference_of_another_type_is_refused_with_its_row(small, value):
    small.annotations[1]["preference"] = value
    with pytest.raises(InputError, match=r"1 row whose preference is no number.*first is row 2, 'p2'"):
        small.evaluate()


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.integers()))
def test_a_verdict_is_a_number_in_one_to_two_or_a_reason(value):
    verdict = verdict_of({"preference": value})
    assert (verdict.preference is None) == (verdict.status != "ok")
    assert verdict.preference is None or 1 <= verdict.preference <= 2


def test_the_old_notation_for_a_draw_is_read_and_said(small):
    small.annotations[1]["preference"] = 0
    result = small.evaluate()
    assert result.n_draws == 2
    assert any("1 times preference 0" in warning for warning in result.warnings)


def edit(name, index, **values):
    def change(small):
        getattr(small, name)[index].update(values)

    return change


def repeat(name):
    def change(small):
        getattr(small, name).append(dict(getattr(small, name)[1]))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            edit("outputs", 2, instruction="other"),
            "1 row for an instruction.*row 3, 'other'",
            id="foreign output",
        ),
        pytest.param(
            edit("outputs", 2, instruction="p2 "),
            "White space .* is all that 1 of them differ in .*row 3, 'p2 '",
            id="a blank too many",
        ),
        pytest.param(repeat("outputs"), "1 row repeating an instruction.*row 5, 'p2'", id="repeated output"),
        pytest.param(repeat("annotations"), "a second time.*row 5, 'p2'", id="repeated annotation"),
        pytest.param(
            edit("annotations", 0, instruction="x"), "annotating an instruction.*'x'", id="foreign annotation"
        ),
        pytest.param(
            edit("annotations", 2, annotator="b"), "1 row by another judge, 'b'.*row 3", id="second judge"
        ),
        pytest.param(edit("annotations", 2, generator_2="b"), "generator_2 'b'.*'mine'", id="second model"),
        pytest.param(
            edit("annotations", 2, generator_1="b"), "generator_1 'b'.*'ref'", id="second reference"
        ),
        pytest.param(
            edit("annotations", 2, output_2="other"),
            "1 row judging another output_2.*row 3",
            id="other answer",
        ),
        pytest.param(
            edit("annotations", 2, output_1="other"), "judging another output_1", id="other reference answer"
        ),
        pytest.param(
            edit("outputs", 2, generator="b"), "mixes the answers of 2 generators", id="mixed outputs"
        ),
        pytest.param(
            edit("outputs", 2, output=7), "row 3: 'output' is int, expected a text", id="number as text"
        ),
        pytest.param(
            edit("reference", 2, output=None), "1 row without an output", id="reference lacks an answer"
        ),
    ],
)
def test_files_that_do_not_belong_together_are_refused_naming_the_first_offender(small, change, message):
    change(small)
    with pytest.raises(InputError, match=message):
        small.evaluate()


def test_one_judge_can_be_picked_out_of_a_mixed_file(small):
    small.annotations += [{**row, "annotator": "other", "preference": 2} for row in small.annotations]
    result = small.evaluate(annotator="judge")
    assert (result.win_rate, result.annotator) == (43.75, "judge")
    assert any("left aside 4 by other judges" in warning for warning in result.warnings)
    with pytest.raises(InputError, match="no annotations by 'third'; found 'judge', 'other'"):
        small.evaluate(annotator="third")


def test_a_model_under_another_name_is_accepted_where_the_answers_agree(small):
    for row in small.outputs:
        row["generator"] = "renamed"
    result = small.evaluate()
    assert result.model == "renamed"
    assert any("calls the model 'mine'" in warning for warning in result.warnings)


def test_a_verdict_on_a_missing_answer_is_left_out_and_said(small):
    small.outputs.pop()
    result = small.evaluate()
    assert (result.n_annotated, result.n_missing) == (3, 1)
    assert any("with a verdict but no answer" in warning for warning in result.warnings)


def test_without_annotations_a_judge_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match="a judge"):
        evaluate_files(tmp_path / "a", tmp_path / "b", None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no rows"),
        (b"[1]", "row 1: expected an object with columns, found 1"),
        (b'[{"output": "x"}]', "row 1: has no instruction"),
        (b'{"a": 1}\n{"a": ', ":2: is not valid JSON"),
        (gzip.compress(b"[]")[:-6], "cut off or damaged"),
        (b"\xff\xfe", "not UTF-8"),
    ],
    ids=["empty", "no object", "no instruction", "bad JSON line", "cut gzip", "no text"],
)
def test_an_unreadable_file_is_named(tmp_path, data, message):
    path = tmp_path / "outputs.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"outputs.json.*{message}"):
        evaluate_files(path, path, path)


@needs_data
def test_nothing_is_printed_logged_or_written_and_the_root_logger_is_left_alone(tmp_path):
    """In a fresh process: importing alpaca-eval sets the root logger to INFO and reads `.env`; using it logs."""
    before = fingerprint(alpaca_eval_folder())
    (tmp_path / ".env").write_text("LEAKED=1\n")
    script = (
        "import logging, os, sys\n"
        "from pathlib import Path\n"
        "from selfreward.evaluation.alpaca.score import evaluate_files\n"
        f"data = Path({str(DATA)!r})\n"
        "environment = dict(os.environ)\n"
        "model = 'models/gemma-2b-it'\n"
        "evaluate_files(data / f'{model}.outputs.json.gz', data / 'reference_outputs.gpt4_1106_preview.json.gz',\n"
        "    data / f'{model}.annotations.json.gz', data / 'instruction_difficulty.csv')\n"
        "import sklearn\n"
        "root = logging.getLogger()\n"
        "assert (root.level, root.handlers, root.filters) == (logging.WARNING, [], []), root.handlers\n"
        "assert dict(os.environ) == environment\n"
        "assert not sklearn.get_config()['enable_metadata_routing']\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert fingerprint(alpaca_eval_folder()) == before
    assert logging.getLogger().level == logging.WARNING


def fingerprint(folder):
    return {
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@needs_data
def test_the_shipped_leaderboard_is_a_dated_hashed_snapshot_and_sorts():
    board = leaderboard()
    assert board.rows["alpaca-7b"]["win_rate"] == pytest.approx(2.591450540223603)
    assert (len(board.rows), board.date, board.sha256) == (223, "2024-12-27", leaderboard(PUBLISHED).sha256)
    assert board.sorted_by()[0][0] == "NullModel"
    assert board.sorted_by("avg_length")[0][1]["avg_length"] == 3335
    text = format_leaderboard(board, "win_rate", limit=2, mine={"mine": {"win_rate": 0.5, "n_total": 4}})
    assert text.splitlines()[-2].startswith("> mine")
    assert board.sha256[:12] in text
    with pytest.raises(UsageError, match="no column 'speed'"):
        board.sorted_by("speed")


@needs_data
def test_the_published_order_is_recognised():
    instructions = [row["instruction"] for row in read(REFERENCE)]
    assert is_published_order(instructions)
    assert not is_published_order(instructions[::-1])
