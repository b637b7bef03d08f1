"""LLaMA-Factory: `get_dataset` with the arguments of a training configuration; `settings` has an entry of dataset_info.json."""

import json

from reader import absent, main, trained_part


def read(file, tokenizer, settings):
    absent("torchaudio")  # its wheels want CUDA, and only sound needs it
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from transformers import AutoTokenizer

    entry = settings["entry"]
    folder = file.parent / "data"
    folder.mkdir()
    (folder / "dataset_info.json").write_text(json.dumps({"x": {**entry, "file_name": str(file)}}))
    arguments = {
        "stage": settings["stage"], "cutoff_len": 4096, "do_train": True, "model_name_or_path": tokenizer, "template": "chatml", "dataset": "x",
        "dataset_dir": str(folder), "output_dir": str(folder / "out"), "use_cpu": True, "report_to": "none",
    }  # fmt: skip
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    inner = AutoTokenizer.from_pretrained(tokenizer)  # `llamafactory.model` needs an older trl
    template = get_template_and_fix_tokenizer(inner, data_args)
    stage = {"dpo": "rm"}.get(settings["stage"], settings["stage"])
    dataset = get_dataset(template, model_args, data_args, training_args, stage=stage, tokenizer=inner)[
        "train_dataset"
    ]
    return [ROWS[stage](row, inner) for row in dataset]


def pair(row, tokenizer):
    prompt, chosen = trained_part(tokenizer, row["chosen_input_ids"], row["chosen_labels"])
    other, rejected = trained_part(tokenizer, row["rejected_input_ids"], row["rejected_labels"])
    assert prompt == other
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def example(row, tokenizer):
    prompt, completion = trained_part(tokenizer, row["input_ids"], row["labels"])
    return {"prompt": prompt, "completion": completion, "label": row.get("kto_tags")}


ROWS = {"rm": pair, "kto": example, "sft": example}

if __name__ == "__main__":
    main(read)
