"""A model folder with a tokenizer that knows 60 words, `w0` to `w59`, and no weights: for engines that only pretend."""

from __future__ import annotations

from pathlib import Path

WORDS = [f"w{i}" for i in range(60)]
TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}<go>"


def make_word_model(path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<unk>", "<end>", "<go>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", chat_template=TEMPLATE,
        additional_special_tokens=["<go>"],
    ).save_pretrained(path)  # fmt: skip
    (path / "config.json").write_text("{}")
    return path
