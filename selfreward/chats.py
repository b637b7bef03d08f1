"""Prompts that are chats, and answers that begin with reasoning.

A row of `prompts` may have a column `messages` beside `prompt`: the whole chat, a system turn or earlier turns included.
It ends with the user's turn, whose text is `prompt`. A table without the column, or a NULL in it, means one user turn; the
column exists only where some prompt needs it, so that other runs' rows stay as they are.

    chat_of(row)            what the model is given, and what the pair's prompt is
    judge_text(chat)        the request as a judge reads it
    split_reasoning(text)   the reasoning block at the beginning of an answer, and the answer behind it
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfreward.tables import Message

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "messages"
Chat = tuple[Message, ...]

REASONING_TAGS = (
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning")),
    ("[think]", "[/think]"),
    ("<|channel>", "<channel|>"),
    ("<|channel|>", "<|channel|>final<|message|>"),
)
"""The last is the harmony form: whatever comes before the final channel, or in another one, is reasoning. For the score
parser (`judging/parsing/quotations.py`) too."""


def chat_of(row: Mapping[str, Any]) -> Chat:
    """The chat of a row of `prompts`."""
    turns = row.get(COLUMN)
    if not turns:
        return (Message("user", row["prompt"]),)
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def chats_of(prompts: pa.Table) -> dict[str, Chat]:
    """prompt_id -> its chat."""
    names = [name for name in ("prompt_id", "prompt", COLUMN) if name in prompts.column_names]
    return {row["prompt_id"]: chat_of(row) for row in prompts.select(names).to_pylist()}


def kept_rows(prompts: pa.Table) -> list[dict[str, Any]]:
    """`prompt_id`, `prompt` and chat of the kept prompts."""
    names = [name for name in ("prompt_id", "prompt", "kept", COLUMN) if name in prompts.column_names]
    return [row for row in prompts.select(names).to_pylist() if row["kept"]]


def judge_texts(prompts: pa.Table) -> dict[str, str]:
    """prompt_id -> the request as a judge reads it."""
    return {prompt_id: judge_text(chat) for prompt_id, chat in chats_of(prompts).items()}


def judge_text(chat: Sequence[Message]) -> str:
    """The last turn, after what came before it, if anything did.

    >>> print(judge_text([Message("system", "Be brief."), Message("user", "Why?")]))
    The assistant was told beforehand:
    Be brief.
    <BLANKLINE>
    The message to answer:
    Why?
    """
    *earlier, last = chat
    if not earlier:
        return last.content
    told = [turn.content for turn in earlier if turn.role == "system"]
    # Lower-case roles: with a capital they would be the labels of judge templates, and escaped.
    said = [f"- {turn.role}: {turn.content}" for turn in earlier if turn.role != "system"]
    parts = ["The assistant was told beforehand:\n" + "\n".join(told)] if told else []
    parts += ["The conversation so far:\n" + "\n".join(said)] if said else []
    return "\n\n".join([*parts, f"The message to answer:\n{last.content}"])


def problem_with(turns: Sequence[Mapping[str, str]]) -> str | None:
    """Why a chat cannot be a prompt; None if it can."""
    roles = [turn["role"] for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"]:
        return f"holds the turns {', '.join(roles) or 'none'}; expected user and assistant in turn, a system turn first or none, and the user's last"
    if any(not turn["content"].strip() for turn in turns):
        return "holds an empty turn; leave it out"
    return None


def with_chats(prompts: pa.Table, chats: Sequence[Chat]) -> pa.Table:
    """`prompts` with the chat of each row; unchanged if all of them are one user turn."""
    import pyarrow as pa

    if all(len(chat) == 1 for chat in chats):
        return prompts
    turns = [[{"role": turn.role, "content": turn.content} for turn in chat] for chat in chats]
    return prompts.append_column(COLUMN, pa.array(turns, messages_type()))


def with_system(prompts: pa.Table, system: str | None) -> pa.Table:
    """`prompts` with a chat for each row that begins with this system turn; unchanged without one."""
    before = () if system is None else (Message("system", system),)
    texts = prompts["prompt"].to_pylist()
    return with_chats(prompts, [(*before, Message("user", text)) for text in texts])


def messages_type() -> pa.DataType:
    """The type of a column of chats."""
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def split_reasoning(text: str) -> tuple[str, str]:
    """The reasoning at the beginning of an answer, tags included, and the rest; together they are the text.

    A closing tag without an opening one means that the chat template had opened the block. A block that never closes
    is all reasoning. A tag further down belongs to the answer.

    >>> split_reasoning("<think>2 + 2</think>\\n\\n4")
    ('<think>2 + 2</think>\\n\\n', '4')
    >>> split_reasoning("Use <think> tags.")
    ('', 'Use <think> tags.')
    """
    at = 0
    while (end := _end_of_block(text, at)) is not None:
        at = end
    if at == 0:
        at = _end_of_opened_block(text)
    at = len(text) - len(text[at:].lstrip()) if at else 0
    return text[:at], text[at:]


def _end_of_block(text: str, at: int) -> int | None:
    """The end of the block that begins at `at` (after blanks); None if none does."""
    start = len(text) - len(text[at:].lstrip())
    for opener, closer in REASONING_TAGS:
        if text[start : start + len(opener)].lower() == opener:
            close = _find(text, closer, start + len(opener))
            return len(text) if close is None else close
    return None


def _end_of_opened_block(text: str) -> int:
    """The end of a block that was opened before the text; 0 if there is none."""
    for opener, closer in REASONING_TAGS:
        close = _find(text, closer, 0)
        if close is not None and _find(text[:close], opener, 0) is None:
            return close
    return 0


def _find(text: str, tag: str, start: int) -> int | None:
    """The end of the first occurrence of a tag, in any case."""
    # Not by lower-casing: some letters change their length, and with it every place.
    found = re.compile(re.escape(tag), re.IGNORECASE).search(text, start)
    return found.end() if found else None
