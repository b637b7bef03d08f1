"""OpenRLHF: `RewardDataset` (DPO or reward model) and `SFTDataset`; `settings` are the options of `data`."""

from types import SimpleNamespace

from datasets import load_dataset
from openrlhf.datasets import RewardDataset, SFTDataset
from reader import main
from transformers import AutoTokenizer


def read(file, tokenizer, settings):
    settings = dict(settings)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    rows = load_dataset("json", data_files=str(file), split="train")
    kind, template = settings.pop("kind"), settings.pop("input_template", None)
    strategy = SimpleNamespace(args=SimpleNamespace(data=SimpleNamespace(**settings)))
    if kind == "sft":
        made = SFTDataset(rows, tokenizer, 4096, strategy, num_processors=1)
        return [{"prompt": p, "completion": c} for p, c in zip(made.prompts, made.responses, strict=True)]
    made = RewardDataset(rows, tokenizer, 4096, strategy, template, is_dpo=kind == "dpo", num_processors=1)
    texts = zip(made.prompts, made.chosens, made.rejects, strict=True)
    return [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in texts]


if __name__ == "__main__":
    main(read)
