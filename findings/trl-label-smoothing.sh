#!/usr/bin/env bash
# TRL's DPO ignores `label_smoothing` in its default loss, without a word.
#
# Versions: trl 1.16.0, transformers 5.19.0, torch 2.13.0 (CPU), accelerate 1.15.0, datasets 5.2.0, Python 3.11.
# One would expect: `DPOConfig(loss_type="sigmoid", label_smoothing=0.4)` trains with conservative DPO, as the same two
#   arguments do in older releases: -(1 - e) log sigmoid(x) - e log sigmoid(-x); or that it is refused.
# What happens: the loss is that of label_smoothing 0, to the last digit; only `robust` and `exo_pair` (and the two `aot`
#   losses) read the setting.
# Documented: the docstring of `DPOConfig.label_smoothing` says "used in Robust DPO and EXO".
# Prints the first loss of each and exits 1 if any of this has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q torch==2.13.0
"$work/venv/bin/python" -m pip install -q trl==1.16.0 transformers==5.19.0 accelerate==1.15.0 datasets==5.2.0
cd "$work"
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 venv/bin/python -P - <<'PYTHON'
import math
import sys

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

words = ["<pad>", "<end>", "q", "good", "bad", "answer"]
plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
plain.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<end>")
rows = [{"prompt": "q", "chosen": " good answer", "rejected": " bad answer"}] * 2


def model(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(words), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, pad_token_id=0, eos_token_id=1, initializer_range=0.5)
    return LlamaForCausalLM(config).float()


def first_loss(**settings):
    # Another reference than the policy: were they equal, every smoothing would give ln 2.
    arguments = DPOConfig(output_dir="out", max_steps=1, per_device_train_batch_size=2, report_to=[], bf16=False,
                          use_cpu=True, logging_steps=1, save_strategy="no", beta=1.0, learning_rate=1e-9, **settings)
    trainer = DPOTrainer(model(0), ref_model=model(1), args=arguments, processing_class=tokenizer,
                         train_dataset=datasets.Dataset.from_list(rows))
    trainer.train()
    return next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


plain, smoothed = first_loss(), first_loss(label_smoothing=0.4)
robust = first_loss(loss_type="robust", label_smoothing=0.4)
# -log sigmoid(x) is the plain loss, so x is known, and with it what conservative DPO would give.
x = -math.log(math.exp(plain) - 1)
conservative = 0.6 * plain + 0.4 * (plain + x)
print(f"sigmoid                     {plain:.4f}")
print(f"sigmoid, label_smoothing 0.4 {smoothed:.4f}   (conservative DPO: {conservative:.4f})")
print(f"robust,  label_smoothing 0.4 {robust:.4f}")
sys.exit(not (smoothed == plain and abs(conservative - plain) > 1e-3 and abs(robust - plain) > 1e-3))
PYTHON
