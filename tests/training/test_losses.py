"""Other losses than the paper's, on TRL and a Llama of two layers: the first loss worked out by hand, settings refused.

Before the first step the policy is its own reference: every log-ratio is 0, and a loss is its value there.
"""

import json
import math

import pytest
from pydantic import ValidationError
from tiny_llama import make_tiny_llama

from selfreward.config.training import DpoConfig
from selfreward.errors import TrainingError

FAST = {
    "learning_rate": 1e-3,
    "min_learning_rate": 1e-3,
    "precision": "float32",
    "dropout": 0.0,
    "batch_size": 2,
    "max_steps": 2,
}


def said(role, text):
    return [{"role": role, "content": text}]


PAIRS = [
    {
        "prompt": said("user", f"q{i}"),
        "chosen": said("assistant", f"good {i}"),
        "rejected": said("assistant", "bad"),
    }
    for i in range(4)
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of different weights."""
    folder = tmp_path_factory.mktemp("model")
    return [make_tiny_llama(folder / f"tiny{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture
def train(models, tmp_path):
    """Runs the DPO process's work in this process; returns its training.json."""
    import datasets

    datasets.Dataset.from_list(PAIRS).save_to_disk(tmp_path / "pairs")

    def step(reference=None, pairs=1, **settings):
        from selfreward.training import dpo
        from selfreward.training.run import Task, run

        config = DpoConfig(**{**FAST, **settings})
        data = (tmp_path / "pairs",) * pairs
        run(
            dpo.method(),
            Task(models[0], data, tmp_path / "out", tmp_path / "work", config, "float32", reference),
        )
        return json.loads((tmp_path / "out" / "training.json").read_text())

    return step


LN2 = math.log(2)


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        pytest.param({"loss": "sigmoid_norm"}, LN2, id="sigmoid_norm: ln 2"),
        pytest.param({"loss": "robust", "label_smoothing": 0.1}, LN2, id="robust: (0.9 - 0.1) ln 2 / (1 - 0.2)"),
        pytest.param({"loss": "ipo", "beta": 0.5}, 1.0, id="ipo: (1 / (2 beta))^2"),
        pytest.param({"loss": "hinge"}, 1.0, id="hinge: 1"),
        pytest.param({"loss": "apo_zero"}, 1.0, id="apo_zero: (1 - 1/2) + 1/2"),
        pytest.param({"loss": "apo_down"}, 1.0, id="apo_down: 1/2 + (1 - 1/2)"),
        pytest.param({"loss": "nca_pair"}, 2 * LN2, id="nca_pair: (1 + 1/2 + 1/2) ln 2"),
        pytest.param({"loss": "bco_pair"}, 2 * LN2, id="bco_pair: 2 ln 2"),
        pytest.param({"loss": "sppo_hard", "beta": 0.5}, 2.0, id="sppo_hard: 2 (1 / (2 beta))^2"),
        pytest.param({"loss": "exo_pair", "label_smoothing": 0.001}, -LN2 - (math.log(0.999) + math.log(0.001)) / 2,
                     id="exo_pair: -ln 2 - (ln 0.999 + ln 0.001) / 2"),
        pytest.param({"loss": "kto"}, 0.5, id="kto: 1 - 1/2 on both sides"),
    ],
)  # fmt: skip
def test_the_first_loss_is_the_one_of_the_formula(train, settings, first):
    report = train(**settings)
    assert report["metrics"]["loss_first"] == pytest.approx(first, rel=1e-4)
    assert report["rows"]["out"] == 4
    assert report["effect"]["chosen"]["change"] > report["effect"]["rejected"]["change"]


def test_the_sft_term_adds_the_chosen_answers_loss_with_its_weight(train):
    """ln 2 plus 0.5 times the mean negative log-likelihood of a random model of few words: well above ln 2."""
    with_term = train(sft_weight=0.5)["metrics"]["loss_first"]
    assert with_term > LN2 + 0.5


def test_another_reference_changes_the_first_loss_and_is_recorded(train, models):
    report = train(reference=models[1], beta=1.0)
    assert abs(report["metrics"]["loss_first"] - LN2) > 1e-4
    assert report["reference"]["name"] == models[1].name
    assert report["reference"]["sha256"] != report["base"]["sha256"]


def test_pairs_of_several_iterations_are_trained_on_together(train):
    assert train(pairs=2)["rows"] == {"in": 8, "out": 8, "dropped": {}}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"label_smoothing": 0.1}, "TRL ignores it in the loss sigmoid; use loss: robust"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "TRL ignores it in the loss ipo"),
        ({"loss": "exo_pair"}, "exo_pair needs label_smoothing above 0"),
        ({"loss": "kto", "sft_weight": 1.0}, "TRL has no such term for the loss kto"),
        ({"loss": "kto", "length_grouped": True}, "kto needs its rows in order"),
        ({"loss": "kto", "per_device_batch_size": 3}, "use an even number"),
    ],
)
def test_a_setting_that_trl_would_ignore_is_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        DpoConfig(**settings)


def test_which_losses_read_label_smoothing_is_still_as_the_installed_trl_has_it():
    """Every branch of TRL's loss that reads the setting, against the list by which it is refused."""
    import inspect
    import re

    from trl import DPOTrainer

    from selfreward.config.training import SMOOTHED, Loss

    branches = re.split(r"(?:el)?if loss_type == ", inspect.getsource(DPOTrainer._compute_loss))[1:]
    reading = {re.match(r'"(\w+)"', branch)[1] for branch in branches if "label_smoothing" in branch}
    names = {re.match(r'"(\w+)"', branch)[1] for branch in branches}
    assert reading & set(Loss.__args__) == set(SMOOTHED)
    assert set(Loss.__args__) - {"kto"} <= names


def test_kto_needs_prompts_enough_that_no_answer_follows_one_to_its_own_prompt():
    from selfreward.training.arms.kto import taken_apart

    rows = taken_apart(PAIRS)
    assert [row["label"] for row in rows] == [True, False] * 4
    assert all(a["prompt"] != b["prompt"] for a, b in zip(rows[::2], rows[1::2], strict=True))
    with pytest.raises(TrainingError, match="2 pairs of 1 prompts have no order"):
        taken_apart([PAIRS[0], PAIRS[0]])
