"""A Llama of two layers with random weights and a tokenizer with a token for each byte: everything real, but small.

    folder = make_tiny_llama(tmp_path / "tiny")

The chat template writes `<s>role` newline, text, `</s>` and newline for each turn, and a system turn "Help." first
where there is none. So a user turn "hi" takes 1 + 4 + 1 + 2 + 1 + 1 = 10 tokens, and the system turn 1 + 6 + 1 + 5 + 1 + 1 = 15.
"""

from pathlib import Path

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<s>system\nHelp.</s>\n{% endif %}"
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
CONTEXT = 256


def make_tiny_tokenizer():
    """One token for each byte, and `<s>`, `</s>`, `<pad>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<s>", "</s>"]
    names = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = TEMPLATE
    return fast


def make_tiny_llama(folder: Path, dtype: str = "float32", seed: int = 0) -> Path:
    """Save the model, of about 60,000 weights, and its tokenizer into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=CONTEXT, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder
