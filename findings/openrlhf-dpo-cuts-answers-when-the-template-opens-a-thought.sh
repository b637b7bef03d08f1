#!/usr/bin/env bash
# OpenRLHF 0.11.2, DPO and reward models with the chat template: under a template whose generation prompt opens a thought,
# the first characters of every answer are cut off.
#
# Expected: chosen and rejected are the answers as the template renders them, or reading stops where the rendered prompt
# is not the beginning of the rendered conversation.
# Seen: the prompt is rendered with `add_generation_prompt`, the conversation without, and the answer is taken as
# `conversation[len(prompt):]`, without a look at whether one begins with the other. Templates of reasoning models end the
# generation prompt with "<think>\n" and render finished answers without it, so eight characters of each answer are
# missing: "The capital is Paris." becomes "tal is Paris.", and "4" becomes what is left of the end mark. No warning.
# Why it matters: the template is that of the model that is trained (DeepSeek-R1's distilled models, for one). Short
# answers ("4", "No.") vanish, so that chosen and rejected are equal; the loss sits at ln 2 for these rows.
# Where: openrlhf/datasets/reward_dataset.py (`preprocess_data`); sft_dataset.py slices alike. Only the module that prepares
# the rows is loaded, with torch stubbed (it only subclasses its Dataset).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q transformers==5.19.0 tokenizers==0.23.3 jinja2==3.1.6
"$work/venv/bin/python" -m pip install -q --no-deps openrlhf==0.11.2
cd "$work"
cat > show.py <<'PY'
import importlib.util
import sys
from pathlib import Path
from unittest import mock

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

for name in ("torch", "torch.utils", "torch.utils.data", "openrlhf", "openrlhf.datasets", "openrlhf.datasets.utils",
             "openrlhf.utils", "openrlhf.utils.utils"):
    stub = mock.MagicMock()
    stub.Dataset = object
    stub.exist_and_not_none = lambda row, key: row.get(key) is not None
    stub.__spec__ = None
    sys.modules[name] = stub
found = next(Path(folder, "openrlhf/datasets/reward_dataset.py") for folder in sys.path if Path(folder, "openrlhf").is_dir())
spec = importlib.util.spec_from_file_location("reward_dataset", found)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
# The shape of DeepSeek-R1's template: the generation prompt opens a thought, finished turns have none.
tokenizer.chat_template = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)


def pair(chosen, rejected):
    row = {
        "prompt": [{"role": "user", "content": "What is the capital of France?"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
    made = module.preprocess_data(row, None, "prompt", "chosen", "rejected", tokenizer.apply_chat_template, True)
    print(made[:3])
    return made[1:3]


assert pair("The capital is Paris.", "I do not know.") == ("tal is Paris.<|end|>", " know.<|end|>")
assert pair("Paris", "Lyons") == ("nd|>", "nd|>"), "chosen and rejected differ again"
PY
"$work/venv/bin/python" show.py
