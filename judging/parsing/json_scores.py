"""JSON objects in a judge's reply as lines of `name: figure`, which the statement reader takes like any others.

    {"reason": "Clear.", "score": "4/5", "criteria": [{"score": 1}]}   ->   score: 4/5, criteria score: 1

A top-level key becomes a label at the start of a line; a nested key is prefixed with the keys above it.
An object that is broken, or in which no key names a score, stays unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from selfreward.judging.parsing.words import SCORE_WORDS, WEAK_WORDS

# Objects that begin further from the end stay text: hostile replies must not buy parsing time.
MAX_CHARS = 20_000
MAX_OBJECTS = 8
_OBJECT = re.compile(r"(?:^|:)[ \t]*(?=\{\s*\")", re.MULTILINE)
# strict=False: judges write raw line ends inside strings. Numbers stay text: reading figures is the
# statement reader's task, and Python refuses to convert very long integers.
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


def unfolded(text: str) -> str:
    """`text`, in lower case, with its JSON objects as lines.

    >>> unfolded('{"reason": "ok", "overall_score": 3, "parts": [{"score": 1}]}')
    '\\noverall score: 3\\nparts score: 1\\n'
    """
    end = max(0, len(text) - MAX_CHARS)
    if "{" not in text[end:]:
        return text
    kept = [text[:end]]
    for _ in range(MAX_OBJECTS):
        found = _OBJECT.search(text, end)
        if found is None:
            break
        start = found.end()
        kept.append(text[end:start])
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            # Broken, or nested too deeply: it stays text, and the search resumes behind its brace.
            kept.append(text[start : start + 1])
            end = start + 1
            continue
        lines = [f"{name}: {figure}\n" for name, figure in _leaves(value, ()) if _names_score(name)]
        kept.append("\n" + "".join(lines) if lines else text[start:end])
    return "".join((*kept, text[end:]))


def _names_score(name: str) -> bool:
    return any(word in f"{name}:" for word in (*SCORE_WORDS, *WEAK_WORDS))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(the keys that lead to it, the value) for every text, figure, and list of these."""
    if isinstance(value, dict):
        for key, inner in value.items():
            name = key.replace("_", " ").strip()
            # `{"overall": 4}` is a verdict without the word score, so the word is added.
            yield from _leaves(inner, (*path, f"{name} score" if name in ("overall", "final") else name))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for inner in value:
            yield from _leaves(inner, path)
    elif value is not None and not isinstance(value, bool):
        yield " ".join(path), ", ".join(map(str, value)) if isinstance(value, list) else value
