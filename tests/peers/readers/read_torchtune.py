"""torchtune: `preference_dataset` with a tokenizer made from a Hugging Face one; `settings` are further arguments."""

from reader import main, trained_part
from torchtune.datasets import preference_dataset
from transformers import AutoTokenizer


class Tokenizer:
    """The `tokenize_messages` of torchtune's interface, in the words of the chat template."""

    def __init__(self, folder):
        self.inner = AutoTokenizer.from_pretrained(folder)

    def tokenize_messages(self, messages, **_):
        ids, masks = [], []
        for message in messages:
            for text, masked in (
                (f"<|im_start|>{message.role}\n", True),
                (f"{message.text_content}<|im_end|>\n", message.masked),
            ):
                piece = self.inner(text, add_special_tokens=False)["input_ids"]
                ids += piece
                masks += [masked] * len(piece)
        return ids, masks


def read(file, tokenizer, settings):
    tokenizer = Tokenizer(tokenizer)
    made = preference_dataset(tokenizer, data_files=str(file), **settings)
    rows = []
    for row in made:
        prompt, chosen = trained_part(tokenizer.inner, row["chosen_input_ids"], row["chosen_labels"])
        other, rejected = trained_part(tokenizer.inner, row["rejected_input_ids"], row["rejected_labels"])
        assert prompt == other
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


if __name__ == "__main__":
    main(read)
