"""Converts chats to token ids and back, with the model folder's own tokenizer and chat template.

Promises:

- the template is applied once and nothing is added to it (it writes the BOS itself if the model needs one);
  the assistant prefix is tokenized together with it, as the model would have read it;
- text from users, candidates or generated prefixes never becomes a special token. `<|im_end|>` inside a
  message is nine ordinary tokens: otherwise a candidate could close its own turn and speak as the judge;
- ordinary text gets exactly the tokens that `apply_chat_template` gives, so that generation sees the same tokens as
  training.

How the second and third are reconciled: if a text contains the spelling of a special token, that spelling is replaced
by an opaque mark before the template runs (so that trimming or branching templates still work), and put back afterwards
with special tokens switched off. Tokenizing all contents separately would be simpler, but would change the tokens at
every boundary.

Not covered: control strings that are ordinary text in a model's vocabulary, such as Llama 2's `[INST]`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from selfreward.models.tokenizer import load_tokenizer
from selfreward.tables import Message

PRIVATE_USE = range(0xE000, 0xF8FF)
"""Characters without meaning; the mark is made of one that the chat does not contain."""

CHUNK = 512
"""Texts tokenized in one call: enough for the tokenizer's own threads, few enough for memory."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt: messages, then the start of the assistant's turn, then `prefix`."""

    messages: tuple[Message, ...]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Token ids of a chat, or the error."""

    ids: array[int]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Rendered:
    """Templated text; `mark` is the character around masked special tokens, empty if there are none."""

    text: str
    mark: str = ""


class ChatTokenizer:
    """The tokenizer of one model folder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = tokenizer = load_tokenizer(folder)
        added = tokenizer.added_tokens_decoder
        special = {str(token) for token in added.values() if token.special} | {*tokenizer.all_special_tokens}
        self._specials = sorted(special, key=lambda text: (-len(text), text))
        self._special_pattern = re.compile("|".join(map(re.escape, self._specials)) or r"(?!)")
        self.special_ids = frozenset(tokenizer.convert_tokens_to_ids(self._specials))
        self.eos_ids = frozenset({tokenizer.eos_token_id} - {None})
        self.pad_id: int = next(
            iter(id for id in (tokenizer.pad_token_id, *self.eos_ids) if id is not None), 0
        )

    def encode(self, chats: Sequence[Chat]) -> list[PromptTokens]:
        """One prompt per chat, in order; a chat that the template refuses is a prompt with an error."""
        return list(
            chain.from_iterable(self._encode(chats[i : i + CHUNK]) for i in range(0, len(chats), CHUNK))
        )

    def decode(self, ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text of new tokens without special ones. `after` are the tokens before them, if any."""
        # Some tokenizers strip a leading space at the start: decoded after its context, the text keeps it.
        whole = self._decode([*after, *ids])
        before = self._decode(after) if after else ""
        return whole[len(before) :] if whole.startswith(before) else self._decode(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self._tokenizer.decode(list(ids), **options))

    def _encode(self, chats: Sequence[Chat]) -> list[PromptTokens]:
        rendered = [self._render(chat) for chat in chats]
        plain = [one.text for one in rendered if isinstance(one, _Rendered) and not one.mark]
        encoded = iter(self._ids(plain))
        prompts = []
        for one in rendered:
            if isinstance(one, str):
                prompts.append(PromptTokens(array("i"), error=one))
            else:
                ids = self._masked_ids(one) if one.mark else next(encoded)
                prompts.append(
                    PromptTokens(array("i", ids), error=None if ids else "the chat template wrote nothing")
                )
        return prompts

    def _render(self, chat: Chat) -> _Rendered | str:
        """The templated chat, or the sentence that says why the template refused it."""
        texts = [*(message.content for message in chat.messages), chat.prefix]
        mark = ""
        if any(self._special_pattern.search(text) for text in texts):
            mark = next(chr(code) for code in PRIVATE_USE if not any(chr(code) in text for text in texts))
            texts = [self._mask(text, mark) for text in texts]
        contents = zip(chat.messages, texts, strict=False)
        messages = [{"role": message.role, "content": text} for message, text in contents]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # boundary: the template is a foreign program and can raise anything
            roles = ", ".join(message.role for message in chat.messages)
            return f"the chat template refused the messages (roles {roles}): {type(error).__name__}: {error}"
        return _Rendered(text + texts[-1], mark)

    def _mask(self, text: str, mark: str) -> str:
        return self._special_pattern.sub(lambda hit: f"{mark}{self._specials.index(hit[0])}{mark}", text)

    def _masked_ids(self, rendered: _Rendered) -> list[int]:
        pieces = re.split(f"{rendered.mark}([0-9]+){rendered.mark}", rendered.text)
        texts, spellings = pieces[::2], [self._specials[int(index)] for index in pieces[1::2]]
        as_text = dict(zip(spellings, self._ids(spellings, split_special_tokens=True), strict=True))
        parts = self._ids(texts)
        inserted = [*(as_text[spelling] for spelling in spellings), []]
        return [id for part, after in zip(parts, inserted, strict=True) for id in (*part, *after)]

    def _ids(self, texts: list[str], **options: bool) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, **options)["input_ids"]
        return ids
