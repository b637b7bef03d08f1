"""A model folder's tokenizer and chat template as everything here uses them: generation, training, audits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfreward.errors import EngineError
from selfreward.text import one_line


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer; EngineError where it cannot be loaded or has no chat template. No code of the model's runs."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the files are the model's author's; the library raises what it likes
        reason = one_line(error) or type(error).__name__
        raise EngineError(f"model folder {folder}: its tokenizer cannot be loaded: {reason}") from error
    if not tokenizer.chat_template:
        raise EngineError(
            f"model folder {folder} has no chat template, and its chats cannot be written without one: use an "
            "instruction-tuned model, or put the template into chat_template.jinja in that folder"
        )
    return tokenizer


def chat_ids(tokenizer: Any, messages: Sequence[Any], answering: bool = False) -> list[int]:
    """The tokens of a chat through the template, applied once; `answering`: with the start of the assistant's turn."""
    ids: list[int] = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=answering
    )["input_ids"]
    return ids


def is_doubled(ids: Sequence[int], token: int | None) -> bool:
    """Whether a token stands twice in a row, as where a text carries the template's own tokens."""
    return any(first == second == token for first, second in pairwise(ids))
