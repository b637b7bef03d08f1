"""rewardbench: `load_and_process_dataset` on a local JSON file; whole conversations as texts."""

from reader import absent, main


def read(file, tokenizer, settings):
    absent("rewardbench.models", "rewardbench.dpo")  # classes for reward models, of an older transformers
    from rewardbench.utils import load_and_process_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    made = load_and_process_dataset(str(file), json=True, tokenizer=tokenizer)
    return [{"chosen": row["text_chosen"], "rejected": row["text_rejected"]} for row in made]


if __name__ == "__main__":
    main(read)
