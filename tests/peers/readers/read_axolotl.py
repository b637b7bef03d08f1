"""Axolotl: `prepare_preference_datasets` (dpo, kto) or `prepare_datasets` (sft); `settings` is a piece of its YAML."""

from reader import main, trained_part


def read(file, tokenizer, settings):
    # Here, since the processes that Axolotl starts import this file.
    from axolotl.utils.data import prepare_datasets, prepare_preference_datasets
    from axolotl.utils.dict import DictDefault
    from transformers import AutoTokenizer

    datasets = [
        {**entry, "path": str(file), "ds_type": "json", "split": "train"} for entry in settings["datasets"]
    ]
    cfg = DictDefault(
        {
            "rl": settings["rl"], "datasets": datasets, "tokenizer_config": tokenizer, "base_model": tokenizer,
            "sequence_len": 4096, "chat_template": "tokenizer_default", "dataset_prepared_path": str(file.parent / "prepared"),
            "num_epochs": 1, "micro_batch_size": 1, "batch_size": 1, "world_size": 1, "shuffle_merged_datasets": False, "seed": 1, "val_set_size": 0.0,
        }
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    if not settings["rl"]:
        parts = (
            trained_part(tokenizer, row["input_ids"], row["labels"])
            for row in prepare_datasets(cfg, tokenizer)[0]
        )
        return [{"prompt": prompt, "completion": completion} for prompt, completion in parts]
    made, _ = prepare_preference_datasets(cfg, tokenizer)
    columns = ("prompt", "chosen", "rejected", "completion", "label")
    return [{name: row[name] for name in columns if name in row} for row in made]


if __name__ == "__main__":  # some tools start processes that import this file
    main(read)
