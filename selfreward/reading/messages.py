"""Chat messages in common formats, as [{"role": "user", "content": "…"}, …].

Read: role/content and ShareGPT's from/value turns, with the roles user or human, assistant or gpt, and system. Anything
else (tool calls, parts of content, other roles) is a ValueError that says what was found; the caller adds file, row
and column.
"""

from __future__ import annotations

from typing import Any

Turn = dict[str, str]

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}


def as_messages(value: Any) -> list[Turn]:
    """A list of messages with our keys and roles.

    >>> as_messages([{"from": "human", "value": "Why?"}])
    [{'role': 'user', 'content': 'Why?'}]
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"found {value!r:.60}, expected a list of messages with role and content")
    return [_turn(message) for message in value]


def only_turn(value: Any, role: str) -> str:
    """The text of a conversation of one turn; ValueError for any other conversation."""
    turns = as_messages(value)
    if [turn["role"] for turn in turns] != [role]:
        found = ", ".join(turn["role"] for turn in turns)
        raise ValueError(f"found the turns {found}, expected one {role} turn")
    return turns[0]["content"]


def _turn(message: Any) -> Turn:
    # Parquet fills absent keys with NULL, so only keys with a value count.
    keys = {key for key, part in message.items() if part is not None} if isinstance(message, dict) else set()
    for role_key, text_key in (("role", "content"), ("from", "value")):
        if keys == {role_key, text_key}:
            role, text = message[role_key], message[text_key]
            if not isinstance(role, str) or role not in _ROLES:
                raise ValueError(f"found a turn of {role!r:.40}, expected one of {', '.join(_ROLES)}")
            if not isinstance(text, str):
                raise ValueError(f"found {text!r:.60} as a turn's {text_key}, expected a text")
            return {"role": _ROLES[role], "content": text}
    shown = f"a turn with the keys {', '.join(sorted(map(str, keys)))}" if keys else f"{message!r:.60}"
    raise ValueError(f"found {shown}, expected role and content")
