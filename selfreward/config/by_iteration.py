"""Settings that differ between iterations: a list in place of one value, an entry for each iteration.

    iterations: 3
    pairs: {rule: length_controlled, length_band: [0, 0, 0.1]}
    dpo: {lora: {r: [8, 16, 16]}}

The sections of `SECTIONS` are read by the steps of an iteration, so any setting in them may be such a list. Where a
setting takes a list anyway (`judging.judge`), a list by iteration is a list of those. `RunConfig` holds the values of
the first iteration, which are also those of the steps outside of iterations; `RunConfig.at(k)` holds iteration k's.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

SECTIONS = ("prompts", "candidates", "judging", "pairs", "meta", "dpo")

Lists = dict[str, list[Any]]
"""Dotted name of a setting -> its value in each iteration."""


def split_lists(values: dict[str, Any], root: type[BaseModel]) -> tuple[dict[str, Any], Lists]:
    """The values of the first iteration, and the lists by iteration.

    >>> from selfreward.config.run import RunConfig
    >>> split_lists({"pairs": {"length_band": [0, 0.1]}}, RunConfig)
    ({'pairs': {'length_band': 0}}, {'pairs.length_band': [0, 0.1]})
    """
    lists: Lists = {}
    first = deepcopy(values)
    for name in SECTIONS:
        if isinstance(first.get(name), dict):
            _take(first[name], _section(root, name), name, lists)
    return first, lists


def _take(values: dict[str, Any], section: type[BaseModel] | None, place: str, lists: Lists) -> None:
    for name, value in values.items():
        if section is None or name not in section.model_fields:
            continue  # an unknown key, which the model refuses
        if isinstance(value, list) and value and _is_by_iteration(value, section, name):
            lists[f"{place}.{name}"] = value
            values[name] = value[0]
        elif isinstance(value, dict):
            _take(value, _section(section, name), f"{place}.{name}", lists)


def _is_by_iteration(value: list[Any], section: type[BaseModel], name: str) -> bool:
    return not _takes_a_list(section, name) or all(isinstance(entry, list) for entry in value)


def _takes_a_list(section: type[BaseModel], name: str) -> bool:
    hint = get_type_hints(section)[name]
    origins: list[Any] = [get_origin(option) for option in (hint, *get_args(hint))]
    return list in origins or tuple in origins


def _section(parent: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The class of a section, also if it may be null."""
    hint = get_type_hints(parent)[name]
    options = [hint, *get_args(hint)]
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def with_lists(values: dict[str, Any], lists: Lists, iteration: int | None = None) -> dict[str, Any]:
    """Plain values with each list in its place, or with its entry for one iteration."""
    values = deepcopy(values)
    for dotted, entries in lists.items():
        *parents, name = dotted.split(".")
        place: Any = values
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        # The section around it is off in this iteration (`dpo.lora: [null, {…}]`).
        if isinstance(place, dict):
            place[name] = deepcopy(entries if iteration is None else entries[iteration - 1])
    return values


def problem_with(lists: Lists, iterations: int) -> str | None:
    """What is wrong with the length of a list, as a sentence."""
    for dotted, entries in lists.items():
        if len(entries) != iterations:
            return (
                f"{dotted}: is a list by iteration of {len(entries)} values, but the run has iterations: "
                f"{iterations}; write one value for each iteration, or one value for all"
            )
    return None
