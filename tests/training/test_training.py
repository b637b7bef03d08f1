"""SFT and DPO on a Llama of two layers: what TRL is told, what is trained, what is saved, what is refused."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest
from tiny_llama import make_tiny_llama

from selfreward.config.training import DpoConfig, LoraConfig, SftConfig, TrainingConfig
from selfreward.errors import ConfigError, StoreError, TrainingError

FAST = {"learning_rate": 1e-3, "min_learning_rate": 1e-4, "precision": "float32"}
"""Rates at which a tiny model moves in a few steps."""


def said(role, text):
    return [{"role": role, "content": text}]


IFT = [{"prompt": f"question {i}", "response": "word " * (i + 1)} for i in range(6)]
EFT = [
    {"split": "train", "accepted": True, "judge_prompt": f"judge reply {i}", "target": f"Fine. Score: {i}"}
    for i in range(6)
]
PAIRS = [
    {
        "prompt": said("user", f"q{i}"),
        "chosen": said("assistant", f"good {i}"),
        "rejected": said("assistant", "bad"),
    }
    for i in range(6)
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two layers of 32 are too little work for two threads, which then mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The start model; its weights are bfloat16 numbers, so that nothing is lost when it is loaded as such."""
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", dtype="bfloat16")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    import datasets

    folder = tmp_path_factory.mktemp("data")
    for name, rows in (("ift", IFT), ("eft", EFT), ("pairs", PAIRS)):
        datasets.Dataset.from_list(rows).save_to_disk(folder / name)
    return folder


@pytest.fixture
def train(tiny, folders, tmp_path):
    """Runs a step in this process; returns the model's folder and its training.json."""

    def run_step(config, out="out", engine_dtype="float32", model=tiny):
        from selfreward.training import dpo, sft
        from selfreward.training.run import Task, run

        is_dpo = isinstance(config, DpoConfig)
        data = ("pairs",) if is_dpo else ("ift", "eft")
        task = Task(
            model, tuple(folders / d for d in data), tmp_path / out, tmp_path / "work", config, engine_dtype
        )
        run((dpo if is_dpo else sft).method(), task)
        return task.out, json.loads((task.out / "training.json").read_text())

    return run_step


def trainer_for(config, model, rows, work):
    """A TRL trainer as `selfreward.training.run` builds it, not yet trained."""
    import datasets
    from transformers import AutoTokenizer

    from selfreward.training import dpo, sft
    from selfreward.training.arguments import adapter, load_for_training, trainer_arguments
    from selfreward.training.run import _quiet

    _quiet()
    datasets.Dataset.from_list(rows).save_to_disk(work / "rows")
    others = {
        "model": load_for_training(model, config),
        "train_dataset": datasets.load_from_disk(work / "rows"),
        "processing_class": AutoTokenizer.from_pretrained(model),
        "peft_config": adapter(config),
    }
    method = (dpo if isinstance(config, DpoConfig) else sft).method()
    return method.make_trainer(config, trainer_arguments(config, work, None), others)


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


# what TRL is told


@pytest.mark.parametrize(
    ("config", "first", "middle", "last"),
    [
        pytest.param(SftConfig(), 5.5e-6, 3.3e-6, 1.1e-6, id="sft-cosine"),
        pytest.param(SftConfig(scheduler="linear"), 5.5e-6, 3.3e-6, 1.1e-6, id="sft-v1-linear"),
        pytest.param(DpoConfig(), 1e-6, 5.5e-7, 1e-7, id="dpo"),
        pytest.param(SftConfig(min_learning_rate=5.5e-6), 5.5e-6, 5.5e-6, 5.5e-6, id="flat"),
    ],
)
def test_the_learning_rate_falls_from_the_papers_first_to_its_floor(config, first, middle, last):
    """Both curves are halfway between their ends in the middle; the quarter tells them apart:
    cosine 1.1 + 4.4 (1 + cos(pi/4)) / 2 = 4.856, linear 1.1 + 4.4 * 0.75 = 4.4 (in 1e-6)."""
    import torch
    from transformers import get_scheduler

    from selfreward.training.arguments import schedule

    told = schedule(config)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    scheduler = get_scheduler(
        told["lr_scheduler_type"], optimizer, num_warmup_steps=0, num_training_steps=100,
        scheduler_specific_kwargs=told.get("lr_scheduler_kwargs", {}),
    )  # fmt: skip
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(100):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert (rates[0], rates[50], rates[100]) == pytest.approx((first, middle, last))
    if isinstance(config, SftConfig) and config.min_learning_rate == 1.1e-6:
        quarter = (
            1.1e-6 + 4.4e-6 * (1 + math.cos(math.pi / 4)) / 2 if config.scheduler == "cosine" else 4.4e-6
        )
        assert rates[25] == pytest.approx(quarter)


@pytest.mark.parametrize(
    ("batch", "at_most", "processes", "expected"),
    [(16, 4, 1, (4, 4)), (16, 4, 2, (4, 2)), (16, 5, 1, (4, 4)), (6, 4, 1, (3, 2)), (2, 8, 2, (1, 1))],
)
def test_portions_times_processes_make_the_batch(batch, at_most, processes, expected):
    from selfreward.training.arguments import split_batch

    config = SftConfig(batch_size=batch, per_device_batch_size=at_most)
    assert split_batch(config, processes) == expected
    assert math.prod(expected) * processes == batch


def test_a_batch_that_processes_cannot_share_is_refused():
    from selfreward.training.arguments import split_batch

    with pytest.raises(TrainingError, match="batch_size 16 cannot be split over 3 processes"):
        split_batch(SftConfig(), 3)


def test_trl_trains_with_the_papers_values(tiny, tmp_path):
    trainer = trainer_for(DpoConfig(precision="float32"), tiny, PAIRS, tmp_path)
    told = trainer.args
    assert told.per_device_train_batch_size * told.gradient_accumulation_steps == 16
    assert (told.learning_rate, told.beta, told.bf16, told.disable_dropout) == (1e-6, 0.1, False, False)
    assert (told.max_length, told.gradient_checkpointing, told.precompute_ref_log_probs) == (
        None,
        False,
        True,
    )
    assert trainer.model.config.attention_dropout == 0.1


def test_the_loss_of_sft_is_on_the_targets_tokens_only(tiny, tmp_path):
    """`ok`, `</s>` and newline are the target; the 36 tokens before them are prompt (see tests/training/test_preflight.py)."""
    row = {"prompt": said("user", "hi"), "completion": said("assistant", "ok")}
    (prepared,) = trainer_for(SftConfig(), tiny, [row], tmp_path).train_dataset
    assert prepared["labels"][:36] == [-100] * 36
    assert prepared["labels"][36:] == prepared["input_ids"][36:]
    assert len(prepared["labels"]) == 40


def test_trl_tokenizes_exactly_as_the_preflight_counted(tiny, tmp_path):
    from transformers import AutoTokenizer

    from selfreward.training.preflight import tokenize

    prepared = trainer_for(DpoConfig(), tiny, PAIRS, tmp_path).train_dataset
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    for row, ours in zip(prepared, PAIRS, strict=True):
        chosen, rejected = tokenize(tokenizer, ours, ["chosen", "rejected"])
        assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == (
            chosen.prompt,
            chosen.answer,
            rejected.answer,
        )


def test_sft_gives_trl_the_tokens_that_trl_would_make_itself(tiny, tmp_path):
    from transformers import AutoTokenizer

    from selfreward.training import sft
    from selfreward.training.preflight import check_rows

    rows = [
        {"source": "ift", "prompt": said("user", "hi"), "completion": said("assistant", a)}
        for a in ("ok", "yes")
    ]
    texts = trainer_for(SftConfig(), tiny, rows, tmp_path / "texts").train_dataset
    kept, _ = check_rows(rows, ["completion"], AutoTokenizer.from_pretrained(tiny), None)
    ours = trainer_for(
        SftConfig(), tiny, sft.method().encode(kept, SftConfig()), tmp_path / "tokens"
    ).train_dataset
    assert [(row["input_ids"], row["labels"]) for row in ours] == [
        (row["input_ids"], row["labels"]) for row in texts
    ]


# dropout, precision, the reference


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)], ids=["full", "lora"])
def test_dropout_acts_in_training_and_the_reference_is_taken_without_it(tiny, tmp_path, lora):
    """The reference's log-probabilities are those of the start model in eval mode; in train mode two passes differ."""
    import torch

    from selfreward.training.effect import answer_log_probs
    from selfreward.training.preflight import tokenize

    trainer = trainer_for(DpoConfig(dropout=0.5, lora=lora, precision="float32"), tiny, PAIRS, tmp_path)
    tokens = [tokenize(trainer.processing_class, row, ["chosen"])[0] for row in PAIRS]
    bar = SimpleNamespace(update=lambda: None)
    plain = answer_log_probs(tiny, {"chosen": tokens}, torch.device("cpu"), torch.float32, bar)["chosen"]
    assert trainer.train_dataset["ref_chosen_logps"] == pytest.approx(plain, abs=1e-3)

    ids = torch.tensor([tokens[0].prompt + tokens[0].answer])
    if lora is not None:  # adapters start at zero, and so would hide their own dropout
        for name, parameter in trainer.model.named_parameters():
            torch.nn.init.ones_(parameter) if "lora_B" in name else None
    trainer.model.train()
    with torch.no_grad():
        first, second = (trainer.model(input_ids=ids).logits for _ in range(2))
    assert not torch.equal(first, second)


def test_dropout_that_nothing_would_obey_is_refused(tiny, monkeypatch):
    """A model without any dropout that can be set (its configuration has none of the known names)."""
    from selfreward.training import arguments

    monkeypatch.setattr(arguments, "_DROPOUTS", ())
    with pytest.raises(TrainingError, match=r"dropout 0\.1 would have no effect"):
        arguments.load_for_training(tiny, SftConfig())
    arguments.load_for_training(tiny, SftConfig(dropout=0))


def test_weights_gradients_and_optimizer_are_float32_under_bf16_autocast(tiny, tmp_path):
    import torch

    from selfreward.training.arguments import precision

    if precision(SftConfig(), torch.device("cpu")) != "bf16":
        pytest.skip("this CPU does not multiply matrices in bfloat16")
    row = {"prompt": said("user", "hi"), "completion": said("assistant", "ok")}
    trainer = trainer_for(
        SftConfig(precision="bf16", max_steps=1, resume="scratch"), tiny, [row] * 16, tmp_path
    )
    trainer.train()
    assert trainer.args.bf16
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    moments = [state["exp_avg"].dtype for state in trainer.optimizer.state.values()]
    assert set(moments) == {torch.float32}


def test_scoring_only_the_targets_gives_trls_own_loss(tiny, tmp_path):
    import torch

    from selfreward.training.arguments import targets_only

    config = SftConfig(dropout=0, precision="float32")
    rows = [{"prompt": said("user", "a " * n), "completion": said("assistant", "yes " * n)} for n in (1, 5)]
    trainer = trainer_for(config, tiny, rows, tmp_path)
    batch = trainer.data_collator(list(trainer.train_dataset.remove_columns(["prompt", "completion"])))
    trainer.model.train()
    plain = trainer.compute_loss(trainer.model, dict(batch))
    gradients = torch.autograd.grad(plain, list(trainer.model.parameters()))
    with targets_only():
        picked = trainer.compute_loss(trainer.model, dict(batch))
        others = torch.autograd.grad(picked, list(trainer.model.parameters()))
    assert picked.item() == pytest.approx(plain.item(), rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(gradients, others, strict=True))


# a whole step


def test_sft_leaves_a_model_that_loads_and_a_report_that_accounts_for_every_row(train, tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, report = train(SftConfig(batch_size=4, epochs=2, **FAST))
    model = AutoModelForCausalLM.from_pretrained(out)
    assert str(model.dtype) == "torch.float32"
    assert model.config.attention_dropout == 0.0
    assert (
        AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(tiny).chat_template
    )
    saved = json.loads((out / "config.json").read_text())
    start = json.loads((tiny / "config.json").read_text())
    assert saved == start | {"dtype": "float32"}
    assert report["rows"] == {"in": 12, "out": 12, "dropped": {}}
    assert report["metrics"]["steps"] == 6
    assert report["metrics"]["learning_rate_first"] == 1e-3
    assert report["tokens_seen"] == 2 * report["preflight"]["tokens"]
    assert report["effect"]["completion"]["change"] > 0
    assert report["versions"]["trl"]


def test_dpo_raises_chosen_over_rejected_on_the_saved_weights(train):
    out, report = train(DpoConfig(batch_size=2, epochs=2, **FAST))
    assert report["effect"]["margin_change"] > 0
    assert report["effect"]["rows"] == report["effect"]["of"] == 6
    assert report["metrics"]["loss_first"] == pytest.approx(math.log(2), abs=0.05)  # sigmoid of about 0
    assert not list(out.glob("README*")), "TRL's card belongs among the work files"


def test_lora_is_merged_into_float32_weights_as_start_plus_scaled_product(train, tiny, tmp_path):
    """W + alpha / r * B A, by hand, for one layer (arXiv 2106.09685, section 4.1)."""
    import torch
    from safetensors.torch import load_file

    lora = LoraConfig(r=2, alpha=6)
    out, _ = train(SftConfig(batch_size=4, lora=lora, **FAST))
    adapters = load_file(tmp_path / "work" / "trained" / "adapter_model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    a, b = (adapters[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    expected = weights(tiny)[f"{name}.weight"].float() + 3 * b @ a
    assert torch.allclose(weights(out)[f"{name}.weight"], expected, atol=1e-7)
    assert b.abs().max() > 0
    assert not list(out.glob("adapter*"))


def test_a_step_that_bfloat16_rounds_away_is_a_failure_and_in_float32_it_is_none(train):
    """1e-9 is far below half a bfloat16 step of weights around 0.02 (6e-5): rounded, M2 would be M1, bit for bit."""
    tiny_step = {"learning_rate": 1e-9, "min_learning_rate": 1e-9, "max_steps": 1, "precision": "float32"}
    with pytest.raises(TrainingError, match="no effect: loaded as bfloat16"):
        train(DpoConfig(**tiny_step), out="in-bfloat16", engine_dtype="bfloat16")
    with pytest.raises(TrainingError, match="no effect: loaded as float32"):
        train(DpoConfig(save_dtype="bfloat16", **tiny_step), out="saved-as-bfloat16")
    _, report = train(DpoConfig(**tiny_step), out="in-float32", engine_dtype="float32")
    assert report["effect"]["chosen"]["rows_unchanged"] < 6


def test_a_model_without_effect_is_not_marked_as_finished(train, tmp_path):
    config = DpoConfig(learning_rate=1e-12, min_learning_rate=1e-12, max_steps=1, save_dtype="bfloat16")
    with pytest.raises(TrainingError, match="no effect"):
        train(config)
    assert not (tmp_path / "out" / "training.json").exists()


def test_a_finished_model_is_not_overwritten(train):
    train(DpoConfig(max_steps=1, **FAST))
    with pytest.raises(StoreError, match="already holds a trained model"):
        train(DpoConfig(max_steps=1, **FAST))


def test_rows_that_trl_would_drop_behind_our_back_are_noticed(train, monkeypatch):
    from trl import SFTTrainer

    prepare = SFTTrainer._prepare_dataset
    monkeypatch.setattr(SFTTrainer, "_prepare_dataset", lambda *a, **k: prepare(*a, **k).select(range(11)))
    with pytest.raises(TrainingError, match="TRL would train on 11 rows, but the preflight kept 12"):
        train(SftConfig(**FAST))


def test_cut_rows_are_cut_and_counted_where_the_threshold_allows(train):
    """`question 5` and 6 times `word ` take 36 + 10 + 30 = 76 tokens; at 75, that one row is cut."""
    _, report = train(SftConfig(max_length=75, max_truncated_share=0.1, max_steps=1, **FAST))
    assert report["preflight"]["truncated"] == {"ift": 1}
    assert report["rows"]["out"] == 12


def test_a_loss_that_is_no_number_stops_the_training():
    from selfreward.training.callbacks import StopOnNan

    state = SimpleNamespace(global_step=3, max_steps=9)
    StopOnNan().on_log(None, state, None, {"loss": 0.5, "grad_norm": 1.0})
    with pytest.raises(TrainingError, match="loss is nan at step 3 of 9"):
        StopOnNan().on_log(None, state, None, {"loss": math.nan})


@pytest.mark.parametrize(("dropout", "warned"), [(0.0, False), (0.5, True)])
def test_a_first_dpo_loss_far_from_ln_2_is_warned_of(train, capfd, dropout, warned):
    """With half of its attention gone the policy is not its reference; `beta` makes the tiny model's difference large."""
    train(DpoConfig(dropout=dropout, beta=500.0, max_steps=2, **FAST))
    assert ("the first loss is" in capfd.readouterr().err) == warned


# interruption


def test_a_resumed_training_gives_the_weights_of_an_undisturbed_one(train, tmp_path, monkeypatch):
    """Killed while the fourth checkpoint is sealed, 12 steps in all: the third is gone on from, dropout and all."""
    import torch

    from selfreward.training import callbacks as checkpoints

    config = SftConfig(batch_size=2, epochs=2, checkpoint_every_steps=2, **FAST)
    whole, _ = train(config, out="whole")
    shutil.rmtree(tmp_path / "work")

    def killed(folder, key):
        if folder.name == "checkpoint-8":
            raise KeyboardInterrupt
        seal(folder, key)

    seal = checkpoints.seal
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "seal", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, out="resumed")
    assert (tmp_path / "work" / "checkpoints" / "checkpoint-8" / "model.safetensors").exists()
    resumed, report = train(config, out="resumed")
    assert report["resumed_from"] == "checkpoint-6"
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_that_is_torn_foreign_or_unsealed_is_not_used(tmp_path):
    from selfreward.training.callbacks import last_whole, seal

    for step in (2, 4, 6, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        if step != 10:
            seal(folder, "key")
    assert last_whole(tmp_path, "key") == tmp_path / "checkpoint-6"
    (tmp_path / "checkpoint-6" / "model.safetensors").write_bytes(b"weig")
    assert last_whole(tmp_path, "key") == tmp_path / "checkpoint-4"
    (tmp_path / "checkpoint-4" / "whole.json").write_bytes(b'{"key": "k')
    assert last_whole(tmp_path, "key") == tmp_path / "checkpoint-2"
    assert last_whole(tmp_path, "another key") is None
    assert last_whole(tmp_path / "nowhere", "key") is None


def test_checkpoints_of_other_parameters_are_not_resumed_from(train):
    config = SftConfig(batch_size=4, checkpoint_every_steps=1, **FAST)
    train(config)
    _, report = train(config.model_copy(update={"seed": 1}), out="other")
    assert report["resumed_from"] is None


# parameters


def test_an_unknown_parameter_and_a_rising_rate_are_refused(tmp_path):
    from selfreward.training.process import read_config

    file = tmp_path / "params.json"
    for values, message in (
        ({"learning_rat": 1}, "learning_rat: Extra inputs"),
        ({"learning_rate": 1e-7}, "min_learning_rate 1.1e-06 is above learning_rate 1e-07"),
    ):
        file.write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=message):
            read_config(file, SftConfig)
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"params\.json"):
        read_config(file, SftConfig)


@pytest.mark.parametrize("section", [SftConfig, DpoConfig, LoraConfig])
def test_every_parameter_is_described(section):
    assert [name for name, field in section.model_fields.items() if not field.description] == []


def test_only_what_can_change_weights_is_part_of_the_key():
    quiet = SftConfig(report_to=("wandb",), checkpoint_every_steps=7, resume="scratch")
    assert quiet.keyed() == SftConfig().keyed()
    changed = SftConfig(dropout=0.2, lora=LoraConfig(r=4))
    assert changed.keyed() != SftConfig().keyed()
    assert (
        TrainingConfig.model_validate({"learning_rate": 1, "min_learning_rate": 0}).keyed()["batch_size"]
        == 16
    )


def test_a_tracker_writes_where_the_work_files_are(train, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    train(SftConfig(report_to=("tensorboard",), max_steps=1, **FAST))
    assert list((tmp_path / "work" / "tensorboard").glob("events.*"))


def test_rows_of_a_prompt_stay_together_and_trl_keeps_the_order(tiny, tmp_path):
    from torch.utils.data import SequentialSampler

    from selfreward.training import sft
    from selfreward.training.preflight import Checked, Tokens

    kept = [Checked({"group": f"prompt {i % 5}"}, [Tokens([i], [i + 1], altered=False)]) for i in range(15)]
    ordered = sft.by_prompt(kept, 3, seed=3)
    groups = [checked.row["group"] for checked in ordered]
    assert [groups[i : i + 3] for i in range(0, 15, 3)] == [[g] * 3 for g in dict.fromkeys(groups)]
    assert sorted(map(id, ordered)) == sorted(map(id, kept))
    assert ordered == sft.by_prompt(kept, 3, seed=3)
    assert ordered != sft.by_prompt(kept, 3, seed=4)
    config = SftConfig(order="by_prompt", seed=3, batch_size=3)
    encoded = sft.method().encode(kept, config)
    trainer = trainer_for(config, tiny, encoded, tmp_path)
    assert isinstance(trainer.get_train_dataloader().sampler, SequentialSampler)
    assert [row["input_ids"][0] for row in trainer.train_dataset] == [c.sides[0].prompt[0] for c in ordered]


def test_a_step_holds_both_replies_of_a_prompt_whatever_single_rows_lie_between():
    from selfreward.training import sft
    from selfreward.training.preflight import Checked

    sizes = [1, 2, 2, 1, 2, 1, 2, 2]
    kept = [Checked({"group": f"prompt {g}"}, []) for g, size in enumerate(sizes) for _ in range(size)]
    groups = [checked.row["group"] for checked in sft.by_prompt(kept, 2, seed=0)]
    steps = [set(groups[i : i + 2]) for i in range(0, 12, 2)]
    # Five prompts of two replies fill five steps, two single rows one; the third single row is left for the end.
    assert sorted(map(len, steps)) == [1, 1, 1, 1, 1, 2]
    assert len(groups) == 13


def test_two_orders_exclude_each_other():
    with pytest.raises(ValueError, match="length_grouped and order: by_prompt exclude each other"):
        SftConfig(order="by_prompt", length_grouped=True)
