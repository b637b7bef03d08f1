"""IFEval's instructions (arXiv 2311.07911) as rules: those that a few lines can check.

    read_rules({"instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]}, "row 1")
    (Rule(kind='small_letters', value=''),)

An instruction that is not in `_READERS` (languages, placeholders, paragraphs, …) is None: the answer then has no verdict.
Word counts are of `\\w+`, as IFEval counts; its sentence counts need a trained tokenizer and are not checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from selfreward.errors import InputError
from selfreward.judging.rules.rules import Rule


def _words(kwargs: dict[str, Any]) -> Rule | None:
    n = int(kwargs["num_words"])
    relations = {
        "less than": Rule("ifeval_max_words", str(n - 1)),
        "at least": Rule("ifeval_min_words", str(n)),
    }
    return relations.get(kwargs["relation"])


_READERS: dict[str, Callable[[dict[str, Any]], Rule | None]] = {
    "change_case:english_lowercase": lambda _: Rule("small_letters"),
    "change_case:english_capital": lambda _: Rule("capitals"),
    "punctuation:no_comma": lambda _: Rule("no_commas"),
    "startend:quotation": lambda _: Rule("in_quotes"),
    "startend:end_checker": lambda kwargs: Rule("ifeval_end", kwargs["end_phrase"]),
    "keywords:existence": lambda kwargs: Rule("ifeval_keywords", json.dumps(kwargs["keywords"])),
    "keywords:forbidden_words": lambda kwargs: Rule(
        "ifeval_forbidden", json.dumps(kwargs["forbidden_words"])
    ),
    "detectable_format:number_bullet_lists": lambda kwargs: Rule(
        "ifeval_bullets", str(int(kwargs["num_bullets"]))
    ),
    "detectable_format:title": lambda _: Rule("ifeval_title"),
    "length_constraints:number_words": _words,
}


def read_rules(row: dict[str, Any], where: str) -> tuple[Rule | None, ...]:
    """The rules of a row of IFEval's file, in its order; None for an instruction that is not checked."""
    names, arguments = row["instruction_id_list"], row.get("kwargs") or []
    if not isinstance(names, list) or len(arguments) != len(names):
        raise InputError(
            f"{where}: has {names!r:.80} in instruction_id_list and {len(arguments)} kwargs; expected one for each"
        )
    rules = []
    for name, kwargs in zip(names, arguments, strict=True):
        try:
            rules.append(_READERS[name](kwargs) if name in _READERS else None)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where}: the kwargs of {name} are {kwargs!r:.80}; cannot be read: {error!r}"
            ) from error
    return tuple(rules)
